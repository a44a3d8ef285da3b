//! Shares of what may wait for the store. Each payer with something waiting has an equal share, and one share more
//! stays free for the next payer. A message that exceeds its payer's share waits here: in order of arrival within a
//! payer, while payers take turns. It delays no other payer, unless its turn has come and the messages of others at the
//! store leave no room for it: then the others wait until it fits. The /64s of a wider IPv6 network do not all count as
//! payers of their own: see [`shares_of`].

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::growth::{self, Growths};
use super::sites::{Line, Site};
use crate::conn::{Bucket, Rate};
use crate::engine::Payer;
use crate::store::Making;
use crate::types::{ConnId, Millis, Network, shares_of};

/// Payers of one site that are looked at in one turn of it.
const LOOKED_AT: usize = 16;
/// The number of idle shares that are kept, so that a payer that comes again is found with one look-up.
const IDLE: usize = 1024;

#[derive(Debug, Default)]
struct Share {
    /// Messages at the store, and their bytes.
    count: usize,
    bytes: usize,
    /// Connections with one message each that waits for a place, and its bytes.
    waiting: VecDeque<(ConnId, usize)>,
    /// `None` if this payer has no rate and no share of the disk of its own: loopback, and a trusted proxy's own
    /// connection, as everywhere.
    known: Option<Known>,
    /// Bytes that it has added to the database: see [`Growths`].
    grown: u64,
}

/// A payer that is a network.
#[derive(Clone, Copy, Debug)]
struct Known {
    network: IpAddr,
    rooms: Rooms,
}

/// What a wider network has, of which several payers are a part.
#[derive(Debug, Default)]
struct Wider {
    /// The narrower ones in it that are not idle, each with no more than its shares.
    busy: u32,
    /// Bytes of its messages at the store.
    bytes: usize,
    rooms: Rooms,
}

impl Wider {
    /// Returns whether nothing was ever to be remembered but what is over.
    fn is_blank(&self) -> bool {
        self.busy == 0 && self.bytes == 0 && self.rooms.pending == 0 && self.rooms.made == Bucket::default()
    }

    fn is_forgettable(&self, now: Millis) -> bool {
        self.busy == 0 && self.bytes == 0 && self.rooms.is_forgettable(now)
    }
}

/// The rooms that somebody makes.
#[derive(Clone, Copy, Debug, Default)]
struct Rooms {
    made: Bucket,
    /// Messages under way that may make one.
    pending: usize,
}

impl Rooms {
    fn wait(&self, rate: Rate, now: Millis) -> u64 {
        self.made.wait(rate, self.pending, now)
    }

    /// Returns whether nothing has to be remembered.
    fn is_forgettable(&self, now: Millis) -> bool {
        self.pending == 0 && self.made.is_full(now)
    }

    /// Notes that a message has been decided, and whether it has made a room.
    fn decided(&mut self, has_made: bool, rate: Rate, now: Millis) {
        self.pending = self.pending.saturating_sub(1);
        if has_made {
            self.made.spend(rate, 1, now);
        }
    }
}

/// Returns the networks wider than a share's own to which it counts, and how many shares each has.
fn wider_of(share: Option<&Share>) -> impl Iterator<Item = (Network, u32)> + Clone + use<> {
    let known = share.and_then(|share| share.known);
    known.into_iter().flat_map(|known| shares_of(known.network)).filter(|(_, shares)| *shares > 1)
}

/// Returns with whom a share takes turns.
fn site_of(share: &Share, number: u32) -> Site {
    let network = share.known.and_then(|known| shares_of(known.network).last());
    network.map_or(Site::Share(number), |(network, _)| Site::Network(network))
}

/// How fast rooms may be made: by one network, and by all together.
#[derive(Clone, Copy, Debug)]
pub struct RoomRates {
    pub own: Rate,
    pub all: Rate,
}

impl Share {
    fn is_idle(&self) -> bool {
        self.count == 0 && self.waiting.is_empty()
    }

    /// Returns whether nothing has to be remembered but its growth.
    fn is_forgettable(&self, now: Millis) -> bool {
        self.is_idle() && self.known.is_none_or(|known| known.rooms.is_forgettable(now))
    }
}

/// Why a message does not go to the store: what is there already, of its payer, of a wider network, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Own,
    Network(Network),
    Store,
}

/// Everything that waits for the store or for a place there.
#[derive(Debug)]
pub(super) struct Shares {
    list: Slab<Share>,
    numbers: HashMap<Payer, u32>,
    /// Shares that are not idle; of a wider network, no more than it may have.
    busy: usize,
    /// Messages at the store, and their bytes.
    count: usize,
    bytes: usize,
    line: Line,
    /// A connection whose message was held is gone: those that waited for it may go now.
    is_loose: bool,
    /// Rooms that all payers make.
    rooms: Rooms,
    /// Networks wider than a payer's, as long as something of them is to be remembered.
    wider: HashMap<Network, Wider>,
    growths: Growths,
    /// The number of idle shares at which those are removed that need not be kept.
    sweep_at: usize,
}

impl Default for Shares {
    fn default() -> Shares {
        Shares {
            list: Slab::new(),
            numbers: HashMap::new(),
            busy: 0,
            count: 0,
            bytes: 0,
            line: Line::default(),
            is_loose: false,
            rooms: Rooms::default(),
            wider: HashMap::new(),
            growths: Growths::default(),
            sweep_at: IDLE,
        }
    }
}

impl Shares {
    /// Returns the number of messages at the store, and their bytes.
    pub fn total(&self) -> (usize, usize) {
        (self.count, self.bytes)
    }

    /// Returns the bytes of the message that waits until there is room for it at the store, if one does.
    pub fn held(&self) -> Option<usize> {
        let number = self.line.held()?;
        self.list.get(number as usize)?.waiting.front().map(|(_, bytes)| *bytes)
    }

    /// Returns whether a message may go to the store now, if that may hold `bound` bytes: nothing of its payer waits,
    /// it fits (see [`Shares::stop`]), and it goes past no message that waits until there is room for it.
    pub fn may_take(&self, payer: Payer, bytes: usize, bound: usize) -> bool {
        let share = self.numbers.get(&payer).map(|number| &self.list[*number as usize]);
        let networks = || payer.network().into_iter().flat_map(shares_of);
        let site = networks().last().map(|(network, _)| Site::Network(network));
        share.is_none_or(|share| share.waiting.is_empty())
            && self.line.may_pass(site, networks().map(|(network, _)| network))
            && self.stop(share, networks(), bytes, bound).is_none()
    }

    /// Returns why a message does not go to the store now, if that may hold `bound` bytes. A payer's first message, and
    /// the first one of a wider network, may be larger than its part; and any message goes to a store that has none.
    fn stop(
        &self,
        share: Option<&Share>,
        mut networks: impl Iterator<Item = (Network, u32)>,
        bytes: usize,
        bound: usize,
    ) -> Option<Stop> {
        let own = share.map_or(0, |share| share.bytes);
        let payers = self.busy + usize::from(share.is_none_or(Share::is_idle));
        let part = bound / (payers + 1);
        if own > 0 && own + bytes > part {
            return Some(Stop::Own);
        }
        let is_full = |(network, shares): &(Network, u32)| {
            let held = self.wider.get(network).map_or(0, |wider| wider.bytes);
            held > 0 && held + bytes > part.saturating_mul(*shares as usize)
        };
        if let Some((network, _)) = networks.find(is_full) {
            return Some(Stop::Network(network));
        }
        (self.bytes > 0 && self.bytes + bytes > bound).then_some(Stop::Store)
    }

    /// Takes a place for a message. Returns the number by which it is given back.
    pub fn take(&mut self, payer: Payer, bytes: usize, now: Millis) -> u32 {
        let number = self.number(payer, now);
        self.change(number, |share| {
            share.count += 1;
            share.bytes += bytes;
        });
        for (network, _) in wider_of(self.list.get(number as usize)) {
            self.wider.entry(network).or_default().bytes += bytes;
        }
        self.count += 1;
        self.bytes += bytes;
        number
    }

    /// Gives back a place: the store has decided about the message.
    pub fn give_back(&mut self, number: u32, bytes: usize) {
        if !self.list.contains(number as usize) {
            return;
        }
        for (network, _) in wider_of(self.list.get(number as usize)) {
            if let Some(wider) = self.wider.get_mut(&network) {
                wider.bytes = wider.bytes.saturating_sub(bytes);
            }
        }
        self.change(number, |share| {
            share.count = share.count.saturating_sub(1);
            share.bytes = share.bytes.saturating_sub(bytes);
        });
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Gives back all places: the store has ended.
    pub fn give_back_all(&mut self) {
        self.wider.values_mut().for_each(|wider| (wider.bytes, wider.rooms.pending) = (0, 0));
        let numbers: Vec<usize> = self.list.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.change(number as u32, |share| {
                (share.count, share.bytes) = (0, 0);
                share.known.iter_mut().for_each(|known| known.rooms.pending = 0);
            });
        }
        (self.count, self.bytes, self.rooms.pending) = (0, 0, 0);
    }

    /// Decides whether a message that has a place may make its room. If so, that counts as pending until
    /// [`Shares::decided`], so that no more rooms are made than the rates allow, however many messages are under way.
    pub fn may_make(&mut self, number: u32, rates: RoomRates, now: Millis) -> Making {
        let wider = wider_of(self.list.get(number as usize));
        let own = self.list.get_mut(number as usize).and_then(|share| Some(&mut share.known.as_mut()?.rooms));
        let wait = own.as_ref().map_or(0, |own| own.wait(rates.own, now)).max(self.rooms.wait(rates.all, now));
        let wait_of = |(network, shares)| Some(self.wider.get(&network)?.rooms.wait(rates.own.times(shares), now));
        let wait = wider.clone().filter_map(wait_of).max().unwrap_or_default().max(wait);
        if wait > 0 {
            return Making::Refused { wait: u32::try_from(wait).unwrap_or(u32::MAX) };
        }
        own.into_iter().chain([&mut self.rooms]).for_each(|rooms| rooms.pending += 1);
        wider.for_each(|(network, _)| self.wider.entry(network).or_default().rooms.pending += 1);
        Making::Counted
    }

    /// Returns how many bytes must be left in the database for a message that has a place to be within its payer's
    /// share of the disk; 0 if its payer has none.
    pub fn needs(&mut self, number: u32, now: Millis) -> u64 {
        if self.growths.is_new_day(now) {
            self.growths.halve(now, self.list.iter_mut().map(|(_, share)| &mut share.grown));
        }
        let Some(share) = self.list.get(number as usize).filter(|share| share.known.is_some()) else { return 0 };
        let under_way = share.bytes as u64 + share.count as u64 * growth::of_message(0, false);
        self.growths.needs(share.grown, under_way)
    }

    /// Notes that a message of this payer was stored.
    pub fn stored(&mut self, number: u32, bytes: usize, has_made: bool) {
        let share = self.list.get_mut(number as usize).filter(|share| share.known.is_some());
        if let Some(share) = share {
            self.growths.add(&mut share.grown, growth::of_message(bytes, has_made));
        }
    }

    /// Notes what became of a message that was allowed to make its room.
    pub fn decided(&mut self, number: u32, has_made: bool, rates: RoomRates, now: Millis) {
        if let Some(own) = self.list.get_mut(number as usize).and_then(|share| share.known.as_mut()) {
            own.rooms.decided(has_made, rates.own, now);
        }
        for (network, shares) in wider_of(self.list.get(number as usize)) {
            if let Some(wider) = self.wider.get_mut(&network) {
                wider.rooms.decided(has_made, rates.own.times(shares), now);
                if wider.is_forgettable(now) {
                    self.wider.remove(&network);
                }
            }
        }
        self.rooms.decided(has_made, rates.all, now);
    }

    /// Returns how many messages under way may make rooms: of this network, or of all.
    pub fn pending_rooms(&self, network: Option<IpAddr>) -> usize {
        let Some(network) = network else { return self.rooms.pending };
        let number = self.numbers.get(&Payer::Network(network));
        number.and_then(|number| self.list[*number as usize].known).map_or(0, |own| own.rooms.pending)
    }

    /// Puts a connection's message at the end of its payer's line. Returns the share's number.
    pub fn wait(&mut self, payer: Payer, conn: ConnId, bytes: usize, now: Millis) -> u32 {
        let number = self.number(payer, now);
        self.change(number, |share| share.waiting.push_back((conn, bytes)));
        let share = &self.list[number as usize];
        if share.waiting.len() == 1 {
            self.line.join(site_of(share, number), number);
        }
        number
    }

    /// Returns whether [`Shares::next`] is to be asked although the store has answered nothing since.
    pub fn is_loose(&self) -> bool {
        self.is_loose
    }

    /// Takes a connection out of its line: it is gone.
    pub fn leave(&mut self, number: u32, conn: ConnId) {
        self.is_loose |= self.line.holds(site_of(&self.list[number as usize], number), number);
        self.change(number, |share| share.waiting.retain(|(waiting, _)| *waiting != conn));
        let share = &self.list[number as usize];
        if share.waiting.is_empty() {
            self.line.leave(site_of(share, number), number);
        }
    }

    /// Returns the next connection whose message may go to the store now, and takes it out of its line.
    pub fn next(&mut self, bound: usize) -> Option<ConnId> {
        self.is_loose = false;
        for _ in 0..self.line.len() {
            if self.bytes >= bound {
                return None;
            }
            let (site, shares) = self.line.next()?;
            for _ in 0..shares.min(LOOKED_AT) {
                let number = self.line.next_of(site)?;
                let share = &self.list[number as usize];
                // proof: a share in the line has connections that wait.
                let (conn, bytes) = *share.waiting.front().expect("a connection waits");
                match self.stop(Some(share), wider_of(Some(share)), bytes, bound) {
                    None => {
                        self.change(number, |share| _ = share.waiting.pop_front());
                        if !self.list[number as usize].waiting.is_empty() {
                            self.line.join(site, number);
                        }
                        return Some(conn);
                    }
                    Some(Stop::Own) => self.line.join(site, number),
                    Some(Stop::Network(network)) => {
                        self.line.hold(site, number, network);
                        break;
                    }
                    Some(Stop::Store) => {
                        self.line.hold_all(site, number);
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Returns the share of a payer, which is made if there is none.
    fn number(&mut self, payer: Payer, now: Millis) -> u32 {
        if let Some(number) = self.numbers.get(&payer) {
            return *number;
        }
        if self.list.len() - self.busy >= self.sweep_at {
            let least = self.least_remembered(now);
            let growths = &mut self.growths;
            self.list.retain(|_, share| {
                let stays = !share.is_forgettable(now) || share.grown > least;
                if !stays {
                    growths.forget(share.grown);
                }
                stays
            });
            let list = &self.list;
            self.numbers.retain(|_, number| list.contains(*number as usize));
            self.wider.retain(|_, wider| !wider.is_forgettable(now));
            // It doubles with the shares that stay, so that the amortised cost of a new one is constant.
            self.sweep_at = IDLE.max(2 * (self.list.len() - self.busy));
        }
        let known = payer.network().map(|network| Known { network, rooms: Rooms::default() });
        // Connections and their messages are far fewer than 2^32.
        let number = self.list.insert(Share { known, ..Share::default() }) as u32;
        self.numbers.insert(payer, number);
        number
    }

    /// Returns the growth above which an idle share stays: those that have grown most, as far as they count.
    fn least_remembered(&self, now: Millis) -> u64 {
        let counts = |share: &Share| share.is_forgettable(now) && share.grown >= growth::WRITES_FROM;
        let mut grown: Vec<u64> =
            self.list.iter().filter(|(_, share)| counts(share)).map(|(_, share)| share.grown).collect();
        if grown.len() < growth::REMEMBERED {
            return growth::WRITES_FROM - 1;
        }
        let place = grown.len() - growth::REMEMBERED / 2;
        *grown.select_nth_unstable(place).1
    }

    /// Changes a share, and keeps the number of busy ones.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Share)) {
        let share = &mut self.list[number as usize];
        let was_idle = share.is_idle();
        change(share);
        match (was_idle, share.is_idle()) {
            (true, false) => self.counts(number, true),
            (false, true) => self.counts(number, false),
            _ => {}
        }
    }

    /// Counts one share more that is not idle, or one less: as many of each wider network as it has shares.
    fn counts(&mut self, number: u32, is_busy: bool) {
        for (network, shares) in wider_of(self.list.get(number as usize)) {
            let wider = self.wider.entry(network).or_default();
            let before = wider.busy;
            wider.busy = if is_busy { before + 1 } else { before.saturating_sub(1) };
            let is_counted = before.max(wider.busy) <= shares;
            if wider.is_blank() {
                self.wider.remove(&network);
            }
            if !is_counted {
                return;
            }
        }
        self.busy = if is_busy { self.busy + 1 } else { self.busy.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests;
