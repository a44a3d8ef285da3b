//! The line of those who wait for a handshake because the rate of all handshakes is spent: addresses take turns, and
//! those who come back go before newcomers. Knows connections and numbers, but no request and no rate.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Payer;
use crate::types::{ConnId, Millis, Network, shares_of};

/// Handshakes of one address that may wait.
pub const MOST_WAITING: usize = 4;
/// Milliseconds for which a handshake waits at most.
pub const LONGEST_WAIT: u64 = 2000;
/// After this many handshakes of those who come back, a newcomer that waits has its turn: tokens are free to get, so
/// resumes alone must not keep newcomers out.
const RUN: u8 = 3;

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming {
    /// It has shown the token of a session that has not come back just before.
    Back,
    Anew,
}

#[derive(Debug)]
struct Place {
    payer: Payer,
    coming: Coming,
    until: Millis,
}

/// Those who come in the same way.
#[derive(Debug, Default)]
struct Queue {
    of: HashMap<Payer, Waiting>,
    /// The addresses of which somebody waits, with their tickets, the next first. An address of which nobody waits any
    /// more stays until its turn comes, so that it costs no search.
    order: VecDeque<(Payer, u64)>,
    /// The next ticket.
    ticket: u64,
}

/// Those of one address.
#[derive(Debug, Default)]
struct Waiting {
    line: VecDeque<ConnId>,
    ticket: u64,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    fn join(&mut self, payer: Payer, conn: ConnId) {
        let waiting = self.of.entry(payer).or_default();
        waiting.line.push_back(conn);
        if waiting.line.len() == 1 {
            waiting.ticket = self.ticket;
            self.queue(payer);
        }
    }

    /// Puts an address, which has the next ticket, at the end.
    fn queue(&mut self, payer: Payer) {
        self.order.push_back((payer, self.ticket));
        self.ticket += 1;
        if self.order.len() > 64 + 2 * self.of.len() {
            let of = &self.of;
            self.order.retain(|(payer, ticket)| of.get(payer).is_some_and(|waiting| waiting.ticket == *ticket));
        }
    }

    fn leave(&mut self, payer: Payer, conn: ConnId) {
        let Some(waiting) = self.of.get_mut(&payer) else { return };
        waiting.line.retain(|other| *other != conn);
        if waiting.line.is_empty() {
            self.of.remove(&payer);
        }
    }

    /// Takes out the first of the next address, which then goes to the end.
    fn next(&mut self) -> Option<ConnId> {
        loop {
            let (payer, ticket) = self.order.pop_front()?;
            let Some(waiting) = self.of.get_mut(&payer).filter(|waiting| waiting.ticket == ticket) else { continue };
            let conn = waiting.line.pop_front();
            if waiting.line.is_empty() {
                self.of.remove(&payer);
            } else {
                waiting.ticket = self.ticket;
                self.queue(payer);
            }
            return conn;
        }
    }
}

/// Who waits for a handshake. Costs nothing for a connection that does not wait.
#[derive(Debug, Default)]
pub struct HandshakeLine {
    back: Queue,
    anew: Queue,
    places: HashMap<ConnId, Place>,
    ends: BTreeSet<(Millis, ConnId)>,
    /// How many of each network wait, of the wider ones, too.
    crowds: HashMap<Network, usize>,
    /// Handshakes of those who came back since a newcomer had a turn, while newcomers wait.
    run: u8,
}

impl HandshakeLine {
    /// Returns how many handshakes of this network wait.
    pub fn waiting(&self, network: Network) -> usize {
        self.crowds.get(&network).copied().unwrap_or_default()
    }

    /// Returns whether a connection waits.
    pub fn has(&self, conn: ConnId) -> bool {
        self.places.contains_key(&conn)
    }

    /// Returns the number of handshakes that wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether a client may pass now without waiting. `is_free` tells whether the rate allows a handshake to
    /// one that comes in this way.
    pub fn may_pass(&self, coming: Coming, is_free: impl Fn(Coming) -> bool) -> bool {
        let is_next = match coming {
            Coming::Back => self.back.is_empty() && (self.anew.is_empty() || self.run < RUN),
            Coming::Anew => self.places.is_empty(),
        };
        is_next && is_free(coming)
    }

    /// Notes that somebody passed.
    pub fn passed(&mut self, coming: Coming) {
        self.run = match coming {
            Coming::Back if !self.anew.is_empty() => self.run.saturating_add(1),
            Coming::Back | Coming::Anew => 0,
        };
    }

    /// Puts a connection at the end of its payer's line.
    pub fn join(&mut self, conn: ConnId, payer: Payer, coming: Coming, now: Millis) {
        let until = now.after(LONGEST_WAIT);
        if self.places.insert(conn, Place { payer, coming, until }).is_some() {
            return;
        }
        self.ends.insert((until, conn));
        networks(payer).for_each(|network| *self.crowds.entry(network).or_default() += 1);
        self.queue(coming).join(payer, conn);
    }

    /// Returns how many addresses wait of which somebody comes in this way.
    pub fn addresses(&self, coming: Coming) -> usize {
        match coming {
            Coming::Back => self.back.of.len(),
            Coming::Anew => self.anew.of.len(),
        }
    }

    /// Takes a connection out of the line, if it is in it.
    pub fn leave(&mut self, conn: ConnId) {
        let Some(Place { payer, coming, .. }) = self.forget(conn) else { return };
        self.queue(coming).leave(payer, conn);
        self.give_back();
    }

    /// Takes out the next connection, if the rate allows it a handshake, and notes that it passed.
    pub fn next(&mut self, is_free: impl Fn(Coming) -> bool) -> Option<ConnId> {
        let (coming, counts_as) = self.turn()?;
        if !is_free(counts_as) {
            return None;
        }
        let conn = self.queue(coming).next()?;
        self.forget(conn);
        self.passed(coming);
        self.give_back();
        Some(conn)
    }

    /// Returns whose turn is next, and as whom the rate counts it.
    fn turn(&self) -> Option<(Coming, Coming)> {
        match (self.back.is_empty(), self.anew.is_empty()) {
            (true, true) => None,
            // It has waited for others to come back, so what is kept for these is open to it.
            (_, false) if self.run >= RUN => Some((Coming::Anew, Coming::Back)),
            (false, _) => Some((Coming::Back, Coming::Back)),
            (true, false) => Some((Coming::Anew, Coming::Anew)),
        }
    }

    /// Takes out a connection that has waited too long by `now`.
    pub fn pop_late(&mut self, now: Millis) -> Option<ConnId> {
        let (_, conn) = self.ends.first().copied().filter(|(until, _)| *until <= now)?;
        self.leave(conn);
        Some(conn)
    }

    /// Returns when something is due next: a handshake of the next one, for which the rate lets it `wait` so many
    /// milliseconds, or the end of somebody's time.
    pub fn deadline(&self, now: Millis, wait: impl Fn(Coming) -> u64) -> Option<Millis> {
        let (_, counts_as) = self.turn()?;
        let end = self.ends.first().map_or(Millis(u64::MAX), |(until, _)| *until);
        Some(end.min(now.after(wait(counts_as))))
    }

    /// Gives back the memory of a crowd once nobody waits: it would be some 250 bytes for each connection of the crowd.
    fn give_back(&mut self) {
        if self.places.is_empty() {
            *self = HandshakeLine { run: self.run, ..HandshakeLine::default() };
        }
    }

    /// Removes everything about a connection but its place in the queue.
    fn forget(&mut self, conn: ConnId) -> Option<Place> {
        let place = self.places.remove(&conn)?;
        self.ends.remove(&(place.until, conn));
        for network in networks(place.payer) {
            if let Some(crowd) = self.crowds.get_mut(&network) {
                *crowd -= 1;
                if *crowd == 0 {
                    self.crowds.remove(&network);
                }
            }
        }
        Some(place)
    }

    fn queue(&mut self, coming: Coming) -> &mut Queue {
        match coming {
            Coming::Back => &mut self.back,
            Coming::Anew => &mut self.anew,
        }
    }
}

fn networks(payer: Payer) -> impl Iterator<Item = Network> {
    payer.network().into_iter().flat_map(shares_of).map(|(network, _)| network)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(10);

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn payer(last: u8) -> Payer {
        Payer::Network([192, 0, 2, last].into())
    }

    fn net(last: u8) -> Network {
        Network::parse(&format!("192.0.2.{last}")).unwrap()
    }

    fn order(line: &mut HandshakeLine) -> Vec<u32> {
        std::iter::from_fn(|| line.next(|_| true)).map(|conn| conn.index).collect()
    }

    #[test]
    fn addresses_take_turns_and_each_keeps_its_order() {
        let mut line = HandshakeLine::default();
        for (of, index) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (2, 21)] {
            line.join(conn(index), payer(of), Coming::Anew, NOW);
        }
        assert_eq!((line.waiting(net(1)), line.waiting(net(4)), line.len()), (3, 0, 6));
        assert_eq!(order(&mut line), [10, 20, 30, 11, 21, 12]);
        assert_eq!((line.len(), line.waiting(net(1)), line.deadline(NOW, |_| 0)), (0, 0, None));
    }

    #[test]
    fn who_comes_back_goes_first_and_newcomers_have_every_fourth_turn() {
        let mut line = HandshakeLine::default();
        for index in 0..4 {
            line.join(conn(100 + index), payer(1), Coming::Anew, NOW);
        }
        for index in 0..8 {
            line.join(conn(index), payer(index as u8), Coming::Back, NOW);
        }
        assert_eq!(order(&mut line), [0, 1, 2, 100, 3, 4, 5, 101, 6, 7, 102, 103]);
    }

    #[test]
    fn who_comes_back_without_waiting_does_not_keep_newcomers_out_either() {
        let mut line = HandshakeLine::default();
        let is_kept = |coming| coming == Coming::Back;
        line.join(conn(1), payer(1), Coming::Anew, NOW);
        let passes = (0..10).take_while(|_| {
            let may = line.may_pass(Coming::Back, is_kept);
            if may {
                line.passed(Coming::Back);
            }
            may
        });
        assert_eq!(passes.count(), 3);
        assert_eq!(line.next(is_kept), Some(conn(1)), "from what is kept for others");
        assert!(line.may_pass(Coming::Back, is_kept));
    }

    #[test]
    fn what_is_kept_for_who_comes_back_is_not_for_newcomers() {
        let mut line = HandshakeLine::default();
        let is_kept = |coming| coming == Coming::Back;
        assert!(!line.may_pass(Coming::Anew, is_kept) && line.may_pass(Coming::Back, is_kept));
        line.join(conn(1), payer(1), Coming::Anew, NOW);
        assert_eq!(line.next(is_kept), None);
        assert!(!line.may_pass(Coming::Anew, |_| true), "it would overtake");
        let wait = |coming| if coming == Coming::Back { 0 } else { 7 };
        assert_eq!(line.deadline(NOW, wait), Some(NOW.after(7)));
        line.join(conn(2), payer(2), Coming::Back, NOW);
        assert_eq!((line.deadline(NOW, wait), line.next(is_kept)), (Some(NOW), Some(conn(2))));
    }

    #[test]
    fn nobody_waits_for_longer_than_it_may_or_after_it_is_gone() {
        let mut line = HandshakeLine::default();
        line.join(conn(1), payer(1), Coming::Anew, NOW);
        line.join(conn(2), payer(1), Coming::Back, NOW.after(1));
        line.join(conn(3), payer(2), Coming::Anew, NOW.after(2));
        assert_eq!(line.deadline(NOW, |_| 60_000), Some(NOW.after(LONGEST_WAIT)));
        assert_eq!(line.pop_late(NOW.after(LONGEST_WAIT - 1)), None);
        assert_eq!(line.pop_late(NOW.after(LONGEST_WAIT)), Some(conn(1)));
        assert_eq!(line.pop_late(NOW.after(LONGEST_WAIT)), None);
        line.leave(conn(3));
        line.leave(conn(3));
        assert_eq!((line.len(), line.waiting(net(1)), line.waiting(net(2))), (1, 1, 0));
        assert_eq!(order(&mut line), [2]);
        assert!(line.crowds.is_empty() && line.ends.is_empty() && line.anew.of.is_empty() && line.back.of.is_empty());
    }

    #[test]
    fn a_crowd_that_is_gone_holds_no_memory() {
        let mut line = HandshakeLine::default();
        let crowd = |line: &mut HandshakeLine| {
            (0..1_000).for_each(|index| line.join(conn(index), Payer::Connection(conn(index)), Coming::Anew, NOW));
        };
        let held = |line: &HandshakeLine| {
            line.places.capacity() + line.crowds.capacity() + line.anew.of.capacity() + line.anew.order.capacity()
        };
        crowd(&mut line);
        assert_eq!((held(&line) > 3_000, order(&mut line).len(), held(&line)), (true, 1_000, 0));
        crowd(&mut line);
        (0..1_000).for_each(|index| line.leave(conn(index)));
        assert_eq!(held(&line), 0);
    }

    /// Whoever leaves and comes again has lost its turn, and has one turn, not two.
    #[test]
    fn who_comes_again_stands_at_the_end() {
        let mut line = HandshakeLine::default();
        for (of, index) in [(1, 10), (2, 20), (3, 30)] {
            line.join(conn(index), payer(of), Coming::Anew, NOW);
        }
        line.leave(conn(10));
        for index in [11, 12] {
            line.join(conn(index), payer(1), Coming::Anew, NOW);
        }
        line.join(conn(21), payer(2), Coming::Anew, NOW);
        assert_eq!(line.addresses(Coming::Anew), 3);
        assert_eq!(order(&mut line), [20, 30, 11, 21, 12]);
        // What is left of those who left is bounded.
        for index in 0..1_000 {
            line.join(conn(index), payer(1), Coming::Anew, NOW);
            line.leave(conn(index));
        }
        assert!(line.anew.order.len() < 100 && line.addresses(Coming::Anew) == 0);
        assert_eq!(line.next(|_| true), None);
    }
}
