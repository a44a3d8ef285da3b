//! Signals: each is delivered to the other members of its room, at most once, and to nobody else. A slow member may
//! miss one, so delivery is demanded only for members whose queue cannot have been full meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use racerd::testing::Random;
use serde_json::Value;

use super::agenda::Micros;
use super::encryption::{About, Sealed};
use super::scene::{Checked, violation};

const CHECKER: &str = "2: a signal is heard by the others in its room, once";

/// The number of recent signals whose delivery is checked.
const LOOKED_FOR: usize = 64;

#[derive(Default)]
pub struct Signals {
    said: BTreeMap<u64, Signal>,
    next: u64,
    /// Signals that the server has obeyed, as their senders know, and since when.
    obeyed: VecDeque<(Micros, u64)>,
    /// Messages whose encrypted bodies were sent as signals, each with the lowest seq that the room kept at that time,
    /// or 0 if it once kept none. While the message is kept, its signal must not be heard.
    again: BTreeMap<(usize, u64), u64>,
}

struct Signal {
    room: usize,
    member: String,
    name: String,
    said: Micros,
    /// The links on which the signal was heard.
    heard: BTreeSet<usize>,
}

impl Signals {
    /// Records a member's signal. Returns its number and the text of its body, encrypted if `sealed` is given.
    pub fn say(
        &mut self,
        room: usize,
        member: &str,
        name: String,
        now: Micros,
        sealed: Option<&mut Random>,
    ) -> (u64, String) {
        self.next += 1;
        let signal = Signal { room, member: member.to_owned(), name, said: now, heard: BTreeSet::new() };
        self.said.insert(self.next, signal);
        let body = match sealed {
            Some(random) => Sealed::draw(About::Signal(self.next), format!("signal-{}", self.next), 200, random).text(),
            None => format!("\"signal {}\"", self.next),
        };
        (self.next, body)
    }

    /// Records that a member sent a message's body as a signal; `kept` is the seq under which the room kept the message
    /// then.
    pub fn say_again(&mut self, room: usize, body: u64, kept: Option<u64>) {
        let lowest = self.again.entry((room, body)).or_insert(u64::MAX);
        *lowest = kept.unwrap_or(0).min(*lowest);
    }

    /// Records that the sender knows that the server has obeyed the signal.
    pub fn obeyed(&mut self, number: u64, now: Micros) {
        if self.obeyed.len() == LOOKED_FOR {
            self.obeyed.pop_front();
        }
        self.obeyed.push_back((now, number));
    }

    /// Checks a signal that was heard over this link.
    pub fn heard(
        &mut self,
        (room, oldest): (usize, Option<u64>),
        link: usize,
        member: Option<&str>,
        told: &Value,
    ) -> Checked {
        let number = match Sealed::of(&told["body"]).and_then(|sealed| sealed.about()) {
            Some(About::Message(body)) => {
                let kept = self.again.get(&(room, body)).copied();
                return match (kept, oldest) {
                    (Some(kept), Some(oldest)) if kept >= oldest => {
                        violation("replays: a signal is no message's", format!("r{room} keeps it as {kept}: {told}"))
                    }
                    (Some(_), _) => Ok(()),
                    (None, _) => violation(CHECKER, format!("nobody said {told}")),
                };
            }
            Some(About::Signal(number)) => Some(number),
            None => told["body"].as_str().and_then(|body| body.strip_prefix("signal ")?.parse().ok()),
        };
        let Some(signal) = number.and_then(|number: u64| self.said.get_mut(&number)) else {
            return violation(CHECKER, format!("nobody said {told}"));
        };
        if signal.room != room || told["from"]["member"] != *signal.member || told["from"]["name"] != *signal.name {
            return violation(
                CHECKER,
                format!("{} of {} said that in r{}: {told}", signal.name, signal.member, signal.room),
            );
        }
        if member == Some(signal.member.as_str()) {
            return violation(CHECKER, format!("its sender hears {told}"));
        }
        if !signal.heard.insert(link) {
            return violation(CHECKER, format!("twice on link {link}: {told}"));
        }
        Ok(())
    }

    /// Returns a signal of this room, obeyed since `after` and sent since `ready`, that this member has not heard on
    /// this link.
    pub fn missed(&self, room: usize, link: usize, member: &str, after: Micros, ready: Micros) -> Option<u64> {
        let recent = self.obeyed.iter().rev().take_while(|(at, _)| *at > after);
        let missed = |number: &u64| {
            let signal = &self.said[number];
            let is_for_it = signal.room == room && signal.said > ready && signal.member != member;
            is_for_it && !signal.heard.contains(&link)
        };
        recent.map(|(_, number)| *number).find(missed)
    }
}
