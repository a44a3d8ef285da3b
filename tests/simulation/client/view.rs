//! What a client has of one room, and the checker of it: (2) messages come in the order of their seqs, without a hole
//! and without a repeat, over everything that happens to the connection.

use std::collections::BTreeMap;

use racerd::types::WallMillis;
use serde_json::Value;

use super::super::scene::{Checked, Scene, violation};

const CHECKER: &str = "2: every message once and in order";

/// How a client asked to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    Last(u64),
    /// After what it has.
    Cursor,
    /// It did not say: the server is to know.
    Unnamed,
}

pub struct View {
    pub room: usize,
    pub epoch: String,
    /// The seq that is to come next; 0 before the first `joined`.
    pub next: u64,
    /// The last message's time.
    at: u64,
    /// It has heard `joined` on its present link.
    pub is_joined: bool,
    /// It waits for that; the request's number, if it was one.
    pub asked: Option<Option<u64>>,
    pub start: Start,
    pub presence: &'static str,
    /// Who is here, and whether away, as far as it was told.
    pub roster: Option<BTreeMap<String, bool>>,
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
        }
    }

    /// The link is gone: what it has of the room stays.
    pub fn detach(&mut self) {
        self.is_joined = false;
        self.asked = None;
        self.start = Start::Now;
        self.roster = None;
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
        // What lies before may be pruned, and nothing else may be missing.
        let is_pruned = !scene.is_of_this_epoch(link) || scene.model.rooms[self.room].oldest >= from;
        let fits = match (&self.start, recovered) {
            (Start::Now, recovered) => recovered,
            (Start::Last(n), recovered) => {
                let wanted = (head + 1).saturating_sub(*n).max(1);
                recovered && (from == wanted || (from > wanted && is_pruned))
            }
            (Start::Cursor, true) => is_same && from == self.next,
            (Start::Cursor, false) if is_same => from > self.next && is_pruned,
            (Start::Cursor, false) => from == 1 || is_pruned,
            // What was parked before a claim that failed may be older than what the client has.
            (Start::Unnamed, _) => !is_same || from >= self.next || scene.tally.claims_failed > 0,
        };
        if !fits {
            return fault("that is not where it was to begin".into());
        }
        scene.tally.joins += 1;
        scene.tally.unrecovered += u64::from(!recovered);
        scene.tally.new_epochs += u64::from(!is_same && self.next > 0);
        if self.start == Start::Unnamed {
            scene.tally.restored += 1;
        }
        // What is not heard may have had any stamp.
        if !is_same || from != self.next {
            self.at = 0;
        }
        self.epoch = epoch.to_owned();
        self.next = from;
        self.is_joined = true;
        self.asked = None;
        Ok(())
    }

    pub fn message(&mut self, seq: u64, at: u64, scene: &mut Scene) -> Checked {
        let id = &scene.model.rooms[self.room].id;
        if !self.is_joined {
            return violation(CHECKER, format!("{id} {seq} is heard outside the room"));
        }
        if seq != self.next {
            return violation(CHECKER, format!("{id} {seq} is heard where {} is to come", self.next));
        }
        // Small steps back of the clock are not shown; after a large one it is the clock's.
        if at < self.at && self.at - at <= WallMillis::HOLDS {
            return violation(CHECKER, format!("{id} {seq} is of {at}, and the one before of {}", self.at));
        }
        self.next += 1;
        self.at = at;
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

    /// The list of those who are here.
    pub fn members(&mut self, told: &Value, scene: &mut Scene) {
        scene.tally.rosters += 1;
        let list = told["members"].as_array().into_iter().flatten();
        let entry = |one: &Value| (one["member"].as_str().unwrap_or_default().to_owned(), one["away"] == true);
        self.roster = (told["more"] != true).then(|| list.map(entry).collect());
    }

    /// Who came and went.
    pub fn presence(&mut self, told: &Value) {
        let events: Vec<&Value> = told["events"].as_array().into_iter().flatten().collect();
        if events.is_empty() {
            // Only a number: who it is, nobody says.
            self.roster = None;
        }
        let Some(roster) = &mut self.roster else { return };
        for event in events {
            let member = event["member"].as_str().unwrap_or_default().to_owned();
            match event["event"].as_str() {
                Some("join" | "back") => roster.insert(member, false),
                Some("away") => roster.insert(member, true),
                _ => roster.remove(&member),
            };
        }
    }
}
