//! The rates at which rooms may be made, and their judge: nobody makes rooms faster, nobody is refused without having
//! spent a rate, and a room that has messages refuses none. Drawn from a random source of their own, so that the rest
//! of a seed's run stays the same without them.

use std::collections::{BTreeMap, BTreeSet};

use racerd::chat::RoomRates;
use racerd::conn::Rate;
use racerd::store::{Appended, NO_ID, Outcome};
use racerd::testing::Random;
use racerd::types::Seq;

use super::agenda::Micros;

/// The beginning of the sentence that a client is told.
const TOLD: &str = "too many new rooms";

/// A rate per minute, and how many may come at once.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    count: u32,
    burst: u32,
}

impl Pace {
    fn draw(random: &mut Random) -> Pace {
        Pace {
            count: if random.coin() { 0 } else { random.within((12, 120)) as u32 },
            burst: random.within((1, 3)) as u32,
        }
    }

    fn rate(self) -> Rate {
        Rate::new(self.count, 60_000, self.burst)
    }

    /// Returns the microseconds between two rooms; 0 for no limit.
    fn interval(self) -> u64 {
        if self.count == 0 { 0 } else { 60_000_000 / u64::from(self.count) }
    }

    /// Returns the microseconds of debt up to which one more room may be made.
    fn least(self) -> u64 {
        self.interval() * u64::from(self.burst - 1)
    }
}

/// The rates of one client and of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct MakingRates {
    own: Pace,
    all: Pace,
}

impl MakingRates {
    /// Draws rates for a third of the runs.
    pub fn draw(random: &mut Random) -> MakingRates {
        if random.below(3) > 0 {
            return MakingRates { own: Pace { count: 0, burst: 1 }, all: Pace { count: 0, burst: 1 } };
        }
        MakingRates { own: Pace::draw(random), all: Pace::draw(random) }
    }

    pub fn rates(self) -> RoomRates {
        RoomRates { own: self.own.rate(), all: self.all.rate() }
    }

    fn of(self, who: Who) -> Pace {
        if who.is_some() { self.own } else { self.all }
    }
}

/// A client, or all.
type Who = Option<usize>;

/// The rooms that were made, and the refusals, since the server started.
#[derive(Default)]
pub struct Makers {
    /// When each bucket is full again, by the server's clock in microseconds.
    full_at: BTreeMap<Who, u64>,
    /// When each rate was last seen to be spent.
    spent: BTreeMap<Who, Micros>,
    /// Messages that the store refused, since they would have made a room: by link and number.
    refused: BTreeSet<(usize, Option<u64>)>,
    fault: Option<String>,
}

impl Makers {
    /// Notes how many messages that may make rooms are under way, before answers to any of them are heard.
    pub fn look(&mut self, who: Who, pending: usize, rates: MakingRates, mono: u64, now: Micros) {
        let pace = rates.of(who);
        let debt = self.full_at.get(&who).map_or(0, |at| at.saturating_sub(mono * 1000));
        if pace.interval() > 0 && debt + pending as u64 * pace.interval() > pace.least() {
            self.spent.insert(who, now);
        }
    }

    /// Notes the answer to a client's message.
    pub fn answered(&mut self, (client, link): (usize, usize), appended: &Appended, rates: MakingRates, mono: u64) {
        match &appended.outcome {
            Outcome::Stored(message) if message.seq == Seq(1) => {
                for who in [Some(client), None] {
                    let (pace, now) = (rates.of(who), mono * 1000);
                    let full_at = self.full_at.entry(who).or_default();
                    *full_at = (*full_at).max(now) + pace.interval();
                    if *full_at - now > pace.least() + pace.interval() {
                        self.fault = Some(format!("{who:?} made {} faster than {pace:?}", message.room));
                    }
                }
            }
            Outcome::NotMade => {
                let tag = appended.ticket.tag;
                self.refused.insert((link, (tag != NO_ID).then_some(tag)));
            }
            _ => {}
        }
    }

    /// Returns what was wrong with the rooms made so far.
    pub fn fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// Returns whether a refusal speaks of these rates.
    pub fn is_meant(told: &str) -> bool {
        told.contains(TOLD)
    }

    /// Judges the refusal of a message that its client sent at this time.
    pub fn may_refuse(&self, client: usize, request: (usize, Option<u64>), since: Micros) -> Result<(), String> {
        if !self.refused.contains(&request) {
            return Err("the store has not refused to make a room for it".into());
        }
        let is_spent = |who: Who| self.spent.get(&who).is_some_and(|at| *at >= since);
        match is_spent(Some(client)) || is_spent(None) {
            true => Ok(()),
            false => Err("neither its own rate of making rooms nor that of all was spent".into()),
        }
    }
}
