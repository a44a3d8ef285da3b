//! A client's view of one room, and its checker: (2) messages come in the order of their seqs, without a hole and
//! without a repeat, whatever happens to the connection.

use std::collections::BTreeMap;

use racerd::testing::judge::{self, Begin, Change, Roster, Wanted};
use racerd::types::WallMillis;
use serde_json::Value;

use super::super::agenda::Micros;
use super::super::model::ROOMS;
use super::super::scene::{Checked, Scene, violation};

const CHECKER: &str = "2: every message once and in order";

/// The place from which a client asked to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    Last(u64),
    /// After this seq, which need not exist.
    After(u64),
    /// After its own cursor.
    Cursor,
    /// Not named by the client: the server is to know.
    Unnamed,
}

/// The kind of presence, where the server was not told anew.
pub const UNSURE: &str = "unsure";

pub struct View {
    pub room: usize,
    pub epoch: String,
    /// The next seq expected; 0 before the first `joined`.
    pub next: u64,
    /// The last message's time.
    at: u64,
    /// It has heard `joined` on its present link.
    pub is_joined: bool,
    /// It waits for `joined`; with the request's number, if there was a request.
    pub asked: Option<Option<u64>>,
    pub start: Start,
    pub presence: &'static str,
    /// The members as far as it was told; `None` before `joined`.
    pub members: Option<Roster<String>>,
    /// When it last heard `lagging`, by the server's clock in milliseconds.
    lagged: Option<u64>,
    /// The time since which it is live, as a rest showed.
    pub steady: Option<Micros>,
}

/// Returns the era in an epoch of the log with this one; `None` if it is another's.
fn era_of(log: &str, epoch: &str) -> Option<u64> {
    match epoch.strip_prefix(log)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok().filter(|era| *era > 0),
    }
}

impl View {
    pub fn new(room: usize, presence: &'static str) -> View {
        View {
            room,
            epoch: String::new(),
            next: 0,
            at: 0,
            is_joined: false,
            asked: None,
            start: Start::Now,
            presence,
            members: None,
            lagged: None,
            steady: None,
        }
    }

    /// Detaches from the link; its place in the room stays.
    pub fn detach(&mut self) {
        self.is_joined = false;
        self.asked = None;
        self.start = Start::Now;
        self.members = None;
        (self.lagged, self.steady) = (None, None);
    }

    pub fn joined(&mut self, link: usize, told: &Value, scene: &mut Scene) -> Checked {
        let (Some(head), Some(from), Some(recovered), Some(epoch)) =
            (told["head"].as_u64(), told["from"].as_u64(), told["recovered"].as_bool(), told["epoch"].as_str())
        else {
            return violation(CHECKER, format!("a `joined` that lacks something: {told}"));
        };
        let fault = |what: String| {
            violation(CHECKER, format!("{what}; started {:?} at {} {}: {told}", self.start, self.epoch, self.next))
        };
        if self.is_joined || self.asked.is_none() {
            return fault("joined without having asked, or twice".into());
        }
        let log = scene.epoch_of(link).to_owned();
        let Some(era) = era_of(&log, epoch) else { return fault(format!("the epoch is {log}")) };
        let is_same = epoch == self.epoch;
        let before = era_of(&log, &self.epoch).filter(|before| *before != era);
        if let Some(before) = before.filter(|_| scene.is_of_this_epoch(link)) {
            let room = &scene.model.rooms[self.room];
            if !room.is_gone(before) {
                return violation(
                    ROOMS,
                    format!("{} begins anew for {} to {told}, and nothing went", room.id, self.epoch),
                );
            }
        }
        let oldest = scene.is_of_this_epoch(link).then(|| scene.model.rooms[self.room].oldest);
        let judged = match &self.start {
            Start::Now => Begin::Now.judge(head, from, recovered, oldest),
            Start::Last(count) => Begin::Last(*count).judge(head, from, recovered, oldest),
            Start::After(seq) => Begin::After(*seq).judge(head, from, recovered, oldest),
            // In the same log nothing is lost.
            Start::Cursor if is_same && self.next > head + 1 => Err("it was told more than there is".to_owned()),
            Start::Cursor if is_same => Begin::After(self.next - 1).judge(head, from, recovered, oldest),
            Start::Cursor => Begin::AfterOther.judge(head, from, recovered, oldest),
            Start::Unnamed if from > head + 1 => Err("it begins beyond the head".to_owned()),
            // A state parked before a failed claim may be older than the client's.
            Start::Unnamed if is_same && from < self.next && scene.tally.claims_failed == 0 => {
                Err("it had heard more".to_owned())
            }
            Start::Unnamed => Ok(()),
        };
        if let Err(what) = judged {
            return fault(what);
        }
        scene.tally.joins += 1;
        scene.tally.unrecovered += u64::from(!recovered);
        scene.tally.new_epochs += u64::from(!is_same && self.next > 0);
        match self.start {
            Start::Unnamed => scene.tally.restored += 1,
            Start::After(seq) if seq > head => scene.tally.beyond += 1,
            _ => {}
        }
        // Messages that the client did not hear may have had any stamp.
        if !is_same || from != self.next {
            self.at = 0;
        }
        if self.start == Start::Unnamed {
            self.presence = UNSURE;
        }
        self.epoch = epoch.to_owned();
        self.next = from;
        self.is_joined = true;
        self.asked = None;
        let wanted = match self.presence {
            "off" => Wanted::Nothing,
            "count" => Wanted::Count,
            UNSURE => Wanted::Unknown,
            _ => Wanted::Names,
        };
        self.members = told["members"].as_u64().map(|count| Roster::new(wanted, count));
        (self.lagged, self.steady) = (None, None);
        Ok(())
    }

    /// Checks a message with this time; `None` if it is unreadable, and has a neighbour's time.
    pub fn message(&mut self, seq: u64, at: Option<u64>, scene: &mut Scene) -> Checked {
        let id = &scene.model.rooms[self.room].id;
        if !self.is_joined {
            return violation(CHECKER, format!("{id} {seq} is heard outside the room"));
        }
        if let Err(what) = judge::message(&mut self.next, seq) {
            return violation(CHECKER, format!("{id}: {what}"));
        }
        // Small steps back of the clock are hidden; after a large one the stamp is the clock's.
        match at {
            Some(at) if at < self.at && self.at - at <= WallMillis::HOLDS => {
                return violation(CHECKER, format!("{id} {seq} is of {at}, and the one before of {}", self.at));
            }
            Some(at) => self.at = at,
            None => {
                // The next one may be a large step before the true stamp of this one.
                self.at = 0;
                scene.tally.unreadable += 1;
            }
        }
        scene.tally.messages += 1;
        Ok(())
    }

    pub fn gap(&mut self, link: usize, after: u64, from: u64, scene: &mut Scene) -> Checked {
        let Some(room) = scene.model.rooms.get(self.room) else { return Ok(()) };
        let oldest = scene.is_of_this_epoch(link).then_some(room.oldest);
        if !self.is_joined {
            return violation(CHECKER, format!("{}: a gap is heard outside the room", room.id));
        }
        if let Err(what) = judge::gap(&mut self.next, after, from, oldest) {
            return violation(CHECKER, format!("{}: {what}", room.id));
        }
        scene.tally.gaps += 1;
        self.at = 0;
        Ok(())
    }

    // Members.

    /// Checks a list of the members.
    pub fn members(&mut self, told: &Value, scene: &mut Scene) -> Checked {
        scene.tally.rosters += 1;
        let Some((list, count, more)) = members_of(told) else {
            return violation(PRESENT, format!("no count: {told}"));
        };
        let known = self.members.as_mut().map_or(Err("no `joined`".to_owned()), |known| known.list(list, count, more));
        known.or_else(|what| violation(PRESENT, format!("r{}: {what}: {told}", self.room)))
    }

    /// Checks an announcement of members who came or went.
    pub fn presence(&mut self, told: &Value) -> Checked {
        let change = |event: &Value| {
            let change = match event["event"].as_str()? {
                "join" => Change::Join,
                "leave" => Change::Leave,
                "away" => Change::Away,
                "back" => Change::Back,
                _ => return None,
            };
            Some((change, event["member"].as_str()?.to_owned()))
        };
        let changes = told["events"].as_array().into_iter().flatten().map(change).collect::<Option<Vec<_>>>();
        let (Some(changes), Some(count), Some(known)) = (changes, told["count"].as_u64(), &mut self.members) else {
            return violation(PRESENT, format!("r{}: not what was asked for: {told}", self.room));
        };
        let before = known.names.clone();
        let judged = known.changes(changes, count);
        judged.or_else(|what| violation(PRESENT, format!("{what}; r{} had {before:?}: {told}", self.room)))
    }

    /// Returns whether it is told the number of members.
    pub fn hears_count(&self) -> bool {
        self.is_joined && !matches!(self.presence, "off" | UNSURE)
    }

    pub fn lags(&mut self, scene: &mut Scene) {
        scene.tally.lags += 1;
        self.lagged = Some(scene.witness.mono);
        self.steady = None;
    }

    /// Checks at rest that it knows the members.
    pub fn judge_who_is_here(&self, scene: &Scene) -> Checked {
        let mono = scene.witness.mono;
        let Some(here) = scene.here.room(self.room) else { return Ok(()) };
        // An announcement that a full queue did not take is repeated with the hub's next try.
        let is_late = self.lagged.is_some_and(|at| mono <= at + RETRY);
        if matches!(self.presence, "off" | UNSURE) || is_late || !here.is_told(mono) {
            return Ok(());
        }
        let known = self.members.as_ref();
        let fault = || {
            let text = format!(
                "r{}, presence {}: {known:?}; here are {:?} since {}, now {mono}",
                self.room, self.presence, here.members, here.changed
            );
            violation(PRESENT, text)
        };
        let Some(known) = known.filter(|known| known.count == here.members.len() as u64) else {
            return fault();
        };
        let is_by_name = self.presence == "full" && here.is_small(mono);
        match &known.names {
            Some(names) if *names != here.members => fault(),
            None if is_by_name && !known.is_cut => fault(),
            _ => Ok(()),
        }
    }
}

const PRESENT: &str = "2: everyone knows who is here";

/// The hub repeats what a full queue did not take within this time, in milliseconds of the server's clock.
const RETRY: u64 = 1000;

/// A list of members: each with whether it is away; their number; and whether there are more.
type List = (Vec<(String, bool)>, u64, bool);

fn members_of(told: &Value) -> Option<List> {
    let list = told["members"].as_array().into_iter().flatten();
    let entry = |one: &Value| (one["member"].as_str().unwrap_or_default().to_owned(), one["away"] == true);
    Some((list.map(entry).collect(), told["count"].as_u64()?, told["more"] == true))
}

/// Judges a list of members. Returns their names and whether they are away, unless it is cut; and their number.
pub fn listed(told: &Value) -> Checked<(Option<BTreeMap<String, bool>>, u64)> {
    let Some((list, count, more)) = members_of(told) else { return violation(PRESENT, format!("no count: {told}")) };
    match judge::listed(list, count, more) {
        Ok(names) => Ok((names, count)),
        Err(what) => violation(PRESENT, format!("{what}: {told}")),
    }
}
