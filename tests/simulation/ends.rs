//! What ends a session that is used over a sealed socket: its client's sealed `end`, or the server's decision, and
//! nothing that anybody on the way can do to the socket. And that what has ended does not live again, nor what went on
//! with a later token, once that is recorded: over kills, too.

use std::collections::{BTreeMap, BTreeSet};

use racerd::chat::Chat;
use racerd::conn::Ending;
use racerd::engine::Engine;
use racerd::hub::Hub;
use racerd::store::{Standing, admit};
use racerd::types::{ConnId, SessionId};

use super::limits::Limits;
use super::scene::{Checked, violation};
use super::tally::Tally;

const CHECKER: &str = "sealed: a session ends only by its own sealed end, or by the server's decision";

const LIVES: &str = "what has ended does not live again, nor an older generation";

/// Running seconds that a crash may set back.
const FORGOTTEN: u64 = 60;

/// The sealed sockets at the end of the last turn, and how sockets ended since.
#[derive(Default)]
pub struct Ends {
    /// The sessions that have joined a room, by their sockets.
    sealed: BTreeMap<ConnId, SessionId>,
    endings: BTreeMap<ConnId, Ending>,
    /// Links over which a client has asked for the end of its session.
    asked: BTreeSet<usize>,
    /// What the server told the store of sessions, and what the store has recorded, with the running seconds then.
    told: BTreeMap<SessionId, Standing>,
    recorded: BTreeMap<SessionId, (Standing, u64)>,
    /// The least time for which tokens were ever good, in running seconds.
    park_for: Option<u64>,
}

impl Ends {
    /// Notes that a client asks for the end of its session over this link.
    pub fn asks(&mut self, link: usize) {
        self.asked.insert(link);
    }

    /// Notes what the server tells the store of a session.
    pub fn told(&mut self, session: SessionId, standing: Standing) {
        let told = self.told.entry(session).or_insert(standing);
        *told = standing.max(*told);
    }

    /// Notes what the store has recorded of a session.
    pub fn recorded(&mut self, session: SessionId, standing: Standing, running: u64) {
        self.recorded.insert(session, (standing, running));
    }

    /// Notes that a server begins.
    pub fn starts(&mut self) {
        (self.sealed, self.endings, self.asked) = Default::default();
    }

    /// Notes that the log has lost an unknown part of what was recorded.
    pub fn loses(&mut self) {
        self.recorded.clear();
    }

    /// Notes that the next server knows nothing but what the log says of sessions.
    pub fn forgets(&mut self, of: impl Fn(SessionId) -> Option<Standing>) {
        self.told = self.told.keys().filter_map(|session| Some((*session, of(*session)?))).collect();
    }

    /// Returns whether the server may refuse a token for what it knows of the session.
    pub fn bars(&self, session: SessionId, generation: u32) -> bool {
        self.told.get(&session).is_some_and(|told| admit(Some(*told), generation).is_err())
    }

    /// Judges the sessions that are here. What is recorded may be given up once all tokens of that time are too old:
    /// `park_for` is the least that they were good for lately, and servers have run for `running` seconds.
    pub fn judge_lives(&mut self, hub: &Hub, running: u64, park_for: u64, tally: &mut Tally) -> Checked {
        let park_for = self.park_for.map_or(park_for, |least| least.min(park_for));
        self.park_for = Some(park_for);
        for (_, session) in hub.sessions() {
            let Some((standing, at)) = self.recorded.get(&session.id) else { continue };
            if running.saturating_sub(*at) + FORGOTTEN > park_for {
                continue;
            }
            tally.lives_judged += 1;
            match standing {
                Standing::Ended => return violation(LIVES, format!("{:02x?} had ended", &session.id.0[..4])),
                Standing::Presented(generation) if session.generation < *generation => {
                    let text = format!("{:02x?} is of {}, after {generation}", &session.id.0[..4], session.generation);
                    return violation(LIVES, text);
                }
                Standing::Presented(_) => {}
            }
        }
        Ok(())
    }

    /// Notes how a socket ended.
    pub fn ended(&mut self, conn: ConnId, ending: Ending) {
        self.endings.insert(conn, ending);
    }

    /// Judges the turn that is over. `link_of` returns the link of a connection.
    pub fn judge(
        &mut self,
        engine: &Engine<Chat>,
        limits: &Limits,
        link_of: impl Fn(ConnId) -> Option<usize>,
        tally: &mut Tally,
    ) -> Checked {
        let (net, hub) = (&engine.net, &engine.app.hub);
        let mut endings = std::mem::take(&mut self.endings);
        let mut sealed = BTreeMap::new();
        for conn in net.ids() {
            let Some(connection) = net.get(conn).filter(|connection| connection.is_sealed()) else { continue };
            if connection.is_closing() {
                endings.entry(conn).or_insert(connection.ending());
            }
            let session = connection.session().and_then(|slot| Some((slot, hub.session(slot)?.id)));
            if let Some((slot, id)) = session
                && hub.heads(slot).next().is_some()
            {
                sealed.insert(conn, id);
            }
        }
        let before = std::mem::replace(&mut self.sealed, sealed);
        // A session that is waited for no longer is parked, with its rooms.
        let may_be_parked = limits.resume_within == 0 || hub.detached_count() >= limits.detached_max;
        for (conn, id) in before {
            match endings.get(&conn) {
                Some(Ending::PeerClosed(_)) => return violation(CHECKER, format!("{conn} was closed in the clear")),
                Some(Ending::PeerEnded) => match link_of(conn).is_none_or(|link| self.asked.contains(&link)) {
                    true => tally.ended_sealed += 1,
                    false => return violation(CHECKER, format!("{conn} asked for no end of its session")),
                },
                Some(ending @ (Ending::UnsealedClose(_) | Ending::Eof | Ending::Reset)) => {
                    tally.unsealed_closes += u64::from(matches!(ending, Ending::UnsealedClose(_)));
                    if !may_be_parked && hub.find_session(id).is_none() {
                        return violation(CHECKER, format!("{conn} is gone by {ending:?}, and its session with it"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
