//! A room's messages in memory: the newest, and pages that were read from the log for a lagging member. The next member
//! reads them here, so that a thousand members that resume at once do not request the same page a thousand times.

use std::collections::{BTreeMap, HashMap};

use super::room::Room;
use crate::types::{Message, RoomId, Seq, size};

impl Room {
    /// Returns the messages in memory after a cursor, at most one page; `None` if the next one is not in memory.
    pub fn recent(&self, cursor: Seq, most: usize, bytes: usize) -> Option<(&[Message], &[Message])> {
        self.log.tail.page(cursor, most, bytes).or_else(|| self.log.past.page(cursor, most, bytes))
    }

    /// Caches a message that was just fanned out.
    pub fn keep(&mut self, message: Message, most: usize) {
        if most > 0 {
            self.log.tail.push(message);
            self.log.tail.shrink(most);
        }
    }

    /// Drops the oldest messages above the limit, but no page that members in line are still to get.
    pub fn trim(&mut self, most: usize) {
        if !self.log.is_in_line() {
            self.log.tail.shrink(most);
            self.log.past.shrink(most);
        }
    }

    /// Caches a page read from the log. Messages past `head` are dropped. The cache may exceed the limit by the page
    /// until the waiting members have read it.
    pub fn keep_page(&mut self, mut messages: Vec<Message>, most: usize) {
        let known = messages.partition_point(|m| m.seq <= self.log.head);
        messages.truncate(known);
        let (Some(first), Some(last)) = (messages.first().map(|m| m.seq), messages.last().map(|m| m.seq)) else {
            return;
        };
        let most = most.max(messages.iter().map(size::in_memory).sum());
        // Fan-out brings the messages after this.
        let live_from = self.agenda.live_from(self.log.head);
        let missing = |begin: Seq| messages.iter().filter(|m| m.seq < begin).map(size::in_memory).sum::<usize>();
        match self.log.tail.first().zip(self.log.tail.last()) {
            Some((begin, end)) if first >= begin && first <= end.next() => {
                messages.retain(|m| m.seq > end && m.seq <= live_from);
                messages.into_iter().for_each(|message| self.keep(message, most));
            }
            // The page reaches up to the tail, and fits before it.
            Some((begin, _))
                if first < begin && last.next() >= begin && self.log.tail.bytes() + missing(begin) <= most =>
            {
                self.log.tail.extend_front(messages);
            }
            // There is no tail, and the page ends where one would.
            None if last >= live_from => {
                messages.retain(|m| m.seq <= live_from);
                messages.into_iter().for_each(|message| self.keep(message, most));
            }
            _ => {
                let goes_on = self.log.past.first().is_some_and(|begin| first >= begin)
                    && self.log.past.last().is_some_and(|end| first <= end.next());
                if !goes_on {
                    self.log.past.clear();
                }
                let end = self.log.past.last();
                for message in messages.into_iter().filter(|m| end.is_none_or(|end| m.seq > end)) {
                    self.log.past.push(message);
                }
                self.log.past.shrink(most);
            }
        }
    }
}

/// The bytes that all rooms have in memory together, and the order in which the rooms were last used.
#[derive(Clone, Default)]
pub struct Tails {
    bytes: usize,
    clock: u64,
    by_age: BTreeMap<u64, RoomId>,
}

impl Tails {
    /// Notes that a room's messages in memory were used or changed, recounts them, and evicts the rooms used longest
    /// ago while the total is above the limit.
    pub fn touch(&mut self, id: &RoomId, rooms: &mut HashMap<RoomId, Room>, most: usize) {
        let Some(room) = rooms.get_mut(id) else { return };
        self.forget(room);
        let bytes = room.log.bytes();
        if bytes == 0 {
            return;
        }
        self.clock += 1;
        room.touched = Some((self.clock, bytes));
        self.bytes += bytes;
        self.by_age.insert(self.clock, id.clone());
        while self.bytes > most {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            let Some(room) = rooms.get_mut(&oldest) else { break };
            self.bytes -= room.touched.take().map_or(0, |(_, bytes)| bytes);
            room.log.tail.clear();
            room.log.past.clear();
        }
    }

    /// Returns the bytes of all messages in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Stops counting a room.
    pub fn forget(&mut self, room: &mut Room) {
        if let Some((stamp, bytes)) = room.touched.take() {
            self.by_age.remove(&stamp);
            self.bytes -= bytes;
        }
    }

    /// Returns the rooms with messages in memory, the one used longest ago first.
    pub fn rooms_by_age(&self) -> impl Iterator<Item = &RoomId> {
        self.by_age.values()
    }

    /// Checks the counts against the rooms, for tests.
    pub fn check(&self, rooms: &HashMap<RoomId, Room>) -> Result<(), String> {
        // These walks yield only sums, so their order does not matter.
        #[allow(clippy::iter_over_hash_type)]
        let held: usize = rooms.values().map(|room| room.log.bytes()).sum();
        let counted: usize = rooms.values().filter_map(|room| room.touched).map(|(_, bytes)| bytes).sum();
        match held == self.bytes && counted == held {
            true => Ok(()),
            false => Err(format!("the rooms hold {held} bytes of messages, {} are counted", self.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::log::{Incarnation, Knowledge};
    use super::super::run::tests::{EACH, messages, seqs};
    use super::*;
    use crate::types::{Epoch, Era};

    #[test]
    fn pages_from_the_log_go_before_the_tail_or_stand_for_themselves() {
        let incarnation = Arc::new(Incarnation::new(&Epoch("e".into()), Era::FIRST));
        let mut room = Room::new(RoomId::parse("r").unwrap(), 1, incarnation);
        (room.log.head, room.log.knowledge) = (Seq(100), Knowledge::Known);
        let most = 30 * EACH;
        room.keep_page(messages(91..101), most);
        assert_eq!(seqs(room.recent(Seq(95), 9, usize::MAX)), Some((96..101).collect()));
        room.keep_page(messages(85..95), most);
        assert_eq!(seqs(room.recent(Seq(84), 3, usize::MAX)), Some(vec![85, 86, 87]));
        room.keep_page(messages(11..21), most);
        room.keep_page(messages(18..31), most);
        assert_eq!(seqs(room.recent(Seq(10), 99, usize::MAX)), Some((11..31).collect()));
        room.keep_page(messages(31..51), most);
        assert_eq!(seqs(room.recent(Seq(20), 99, usize::MAX)), Some((21..51).collect()), "as much as there may be");
        room.keep_page(messages(5..8), most);
        assert_eq!(seqs(room.recent(Seq(4), 99, usize::MAX)), Some((5..8).collect()));
        assert_eq!(room.recent(Seq(20), 99, usize::MAX), None);
        assert_eq!(room.recent(Seq(100), 99, usize::MAX), None);
    }
}
