//! What ends a session that is used over a sealed socket: its client's sealed `end`, or the server's decision, and
//! nothing that anybody on the way can do to the socket.

use std::collections::{BTreeMap, BTreeSet};

use racerd::chat::Chat;
use racerd::conn::Ending;
use racerd::engine::Engine;
use racerd::types::{ConnId, SessionId};

use super::limits::Limits;
use super::scene::{Checked, violation};
use super::tally::Tally;

const CHECKER: &str = "sealed: a session ends only by its own sealed end, or by the server's decision";

/// The sealed sockets at the end of the last turn, and how sockets ended since.
#[derive(Default)]
pub struct Ends {
    /// The sessions that have joined a room, by their sockets.
    sealed: BTreeMap<ConnId, SessionId>,
    endings: BTreeMap<ConnId, Ending>,
    /// Links over which a client has asked for the end of its session.
    asked: BTreeSet<usize>,
}

impl Ends {
    /// Notes that a client asks for the end of its session over this link.
    pub fn asks(&mut self, link: usize) {
        self.asked.insert(link);
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
