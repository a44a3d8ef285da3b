//! A client's view of one room, and its checker: (2) messages come in the order of their seqs, without a hole and
//! without a repeat, whatever happens to the connection.

use std::collections::BTreeMap;

use racerd::types::WallMillis;
use serde_json::Value;

use super::super::agenda::Micros;
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
    /// The members and whether they are away, as far as it was told.
    pub roster: Option<BTreeMap<String, bool>>,
    /// The number of members, likewise.
    pub count: Option<u64>,
    /// The list was longer than a page.
    is_cut: bool,
    /// When it last heard `lagging`, by the server's clock in milliseconds.
    lagged: Option<u64>,
    /// The time since which it is live, as a rest showed.
    pub steady: Option<Micros>,
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
            roster: None,
            count: None,
            is_cut: false,
            lagged: None,
            steady: None,
        }
    }

    /// Detaches from the link; its place in the room stays.
    pub fn detach(&mut self) {
        self.is_joined = false;
        self.asked = None;
        self.start = Start::Now;
        (self.roster, self.count, self.is_cut) = (None, None, false);
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
        if epoch != scene.epoch_of(link) {
            return fault(format!("the epoch is {}", scene.epoch_of(link)));
        }
        if from > head + 1 {
            return fault("it begins beyond the head".into());
        }
        let is_same = epoch == self.epoch;
        // Messages before the beginning may be pruned; no other may be missing.
        let is_pruned = !scene.is_of_this_epoch(link) || scene.model.rooms[self.room].oldest >= from;
        let fits = match (&self.start, recovered) {
            (Start::Now, recovered) => recovered,
            (Start::Last(n), recovered) => {
                let wanted = (head + 1).saturating_sub(*n).max(1);
                recovered && (from == wanted || (from > wanted && is_pruned))
            }
            (Start::After(seq), true) => from == seq + 1,
            (Start::After(seq), false) if *seq > head => from == head + 1,
            (Start::After(seq), false) => from > seq + 1 && is_pruned,
            (Start::Cursor, true) => is_same && from == self.next,
            (Start::Cursor, false) if is_same => from > self.next && is_pruned,
            (Start::Cursor, false) => from == 1 || is_pruned,
            // A state parked before a failed claim may be older than the client's.
            (Start::Unnamed, _) => !is_same || from >= self.next || scene.tally.claims_failed > 0,
        };
        if !fits {
            return fault("that is not where it was to begin".into());
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
        self.count = told["members"].as_u64();
        (self.roster, self.is_cut, self.lagged, self.steady) = (None, false, None, None);
        Ok(())
    }

    /// Checks a message with this time; `None` if it is unreadable, and has a neighbour's time.
    pub fn message(&mut self, seq: u64, at: Option<u64>, scene: &mut Scene) -> Checked {
        let id = &scene.model.rooms[self.room].id;
        if !self.is_joined {
            return violation(CHECKER, format!("{id} {seq} is heard outside the room"));
        }
        if seq != self.next {
            return violation(CHECKER, format!("{id} {seq} is heard where {} is to come", self.next));
        }
        // Small steps back of the clock are hidden; after a large one the stamp is the clock's.
        match at {
            Some(at) if at < self.at && self.at - at <= WallMillis::HOLDS => {
                return violation(CHECKER, format!("{id} {seq} is of {at}, and the one before of {}", self.at));
            }
            Some(at) => self.at = at,
            None => scene.tally.unreadable += 1,
        }
        self.next += 1;
        scene.tally.messages += 1;
        Ok(())
    }

    pub fn gap(&mut self, link: usize, after: u64, from: u64, scene: &mut Scene) -> Checked {
        let Some(room) = scene.model.rooms.get(self.room) else { return Ok(()) };
        let is_pruned = !scene.is_of_this_epoch(link) || room.oldest >= from;
        if !self.is_joined || after + 1 != self.next || from <= self.next || !is_pruned {
            let text = format!(
                "{}: a gap from {after} to {from} where {} is to come and {} is kept",
                room.id, self.next, room.oldest
            );
            return violation(CHECKER, text);
        }
        scene.tally.gaps += 1;
        self.at = 0;
        self.next = from;
        Ok(())
    }

    // Members.

    /// Checks a list of the members.
    pub fn members(&mut self, told: &Value, scene: &mut Scene) -> Checked {
        scene.tally.rosters += 1;
        let (names, count) = listed(told)?;
        self.is_cut = names.is_none();
        (self.roster, self.count) = (names, Some(count));
        Ok(())
    }

    /// Checks an announcement of members who came or went.
    pub fn presence(&mut self, told: &Value) -> Checked {
        let fault = |what: &str, known: &View| {
            violation(PRESENT, format!("{what}; r{} had {:?}: {told}", known.room, known.roster))
        };
        let events: Vec<&Value> = told["events"].as_array().into_iter().flatten().collect();
        self.count = told["count"].as_u64();
        if self.count.is_none() || self.presence == "off" || (self.presence == "count" && !events.is_empty()) {
            return fault("not what was asked for", self);
        }
        if events.is_empty() {
            // It is only a number, without names.
            self.roster = None;
            self.is_cut = false;
        }
        for event in events {
            let Some(roster) = &mut self.roster else { break };
            let member = event["member"].as_str().unwrap_or_default().to_owned();
            let before = match event["event"].as_str() {
                Some("join") => roster.insert(member, false).map_or(Ok(()), |_| Err("it is here already")),
                Some("away") => (roster.insert(member, true) == Some(false)).then_some(()).ok_or("away from where"),
                Some("back") => (roster.insert(member, false) == Some(true)).then_some(()).ok_or("back from where"),
                Some("leave") => roster.remove(&member).map(drop).ok_or("it was not here"),
                _ => Err("no such event"),
            };
            if let Err(what) = before {
                return fault(what, self);
            }
        }
        let count = self.roster.as_ref().map(|roster| roster.len() as u64);
        if count.is_some() && count != self.count { fault("they are not as many", self) } else { Ok(()) }
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
        let fault = || {
            let View { room, presence, roster, count, is_cut, .. } = self;
            let text = format!(
                "r{room}, presence {presence}: {count:?} {roster:?}, cut: {is_cut}; here are {:?} since {}, now {mono}",
                here.members, here.changed
            );
            violation(PRESENT, text)
        };
        if self.count != Some(here.members.len() as u64) {
            return fault();
        }
        let is_by_name = self.presence == "full" && here.is_small(mono);
        match &self.roster {
            Some(roster) if *roster != here.members => fault(),
            None if is_by_name && !self.is_cut => fault(),
            _ => Ok(()),
        }
    }
}

const PRESENT: &str = "2: everyone knows who is here";

/// The hub repeats what a full queue did not take within this time, in milliseconds of the server's clock.
const RETRY: u64 = 1000;

/// Parses a list of members: their names and whether they are away, unless it is cut; and their number.
pub fn listed(told: &Value) -> Checked<(Option<BTreeMap<String, bool>>, u64)> {
    let list: Vec<&Value> = told["members"].as_array().into_iter().flatten().collect();
    let entry = |one: &&Value| (one["member"].as_str().unwrap_or_default().to_owned(), one["away"] == true);
    let names: BTreeMap<String, bool> = list.iter().map(entry).collect();
    let (Some(count), is_cut) = (told["count"].as_u64(), told["more"] == true) else {
        return violation(PRESENT, format!("no count: {told}"));
    };
    let length = list.len() as u64;
    if names.len() != list.len() || (is_cut && length >= count) || (!is_cut && length != count) {
        return violation(PRESENT, format!("{count} are {length}: {told}"));
    }
    Ok(((!is_cut).then_some(names), count))
}
