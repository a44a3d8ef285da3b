//! Consecutive messages of one room, in memory.

use std::collections::VecDeque;

use crate::types::{Message, Seq, size};

/// Consecutive messages of one room.
#[derive(Clone, Hash, Default)]
pub struct Run {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Run {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn first(&self) -> Option<Seq> {
        self.messages.front().map(|m| m.seq)
    }

    pub fn last(&self) -> Option<Seq> {
        self.messages.back().map(|m| m.seq)
    }

    /// Returns the messages after a cursor, as many as fit a page and at least one; in two pieces, since the run is a
    /// ring. `None` if the run does not hold the message after the cursor.
    pub fn page(&self, cursor: Seq, most: usize, bytes: usize) -> Option<(&[Message], &[Message])> {
        let (first, last) = (self.first()?, self.last()?);
        if cursor.next() < first || cursor >= last {
            return None;
        }
        let from = (cursor.next().0 - first.0) as usize;
        let mut used = 0;
        let fits = |m: &&Message| {
            used += size::in_memory(m);
            used <= bytes
        };
        let count = self.messages.range(from..).take(most).take_while(fits).count().max(1);
        let (front, back) = self.messages.as_slices();
        let cut = front.len();
        let upto = from + count;
        let piece = |slice: &[Message], from: usize, upto: usize| from.min(slice.len())..upto.min(slice.len());
        let (in_front, in_back) =
            (piece(front, from, upto), piece(back, from.saturating_sub(cut), upto.saturating_sub(cut)));
        Some((&front[in_front], &back[in_back]))
    }

    /// Appends a message. If it does not follow the last one, the run starts over with it.
    pub fn push(&mut self, message: Message) {
        if self.last().is_some_and(|last| message.seq != last.next()) {
            self.clear();
        }
        self.bytes += size::in_memory(&message);
        self.messages.push_back(message);
    }

    /// Drops the oldest messages until at most this many bytes are left.
    pub fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            let Some(message) = self.messages.pop_front() else { break };
            self.bytes -= size::in_memory(&message);
        }
    }

    pub fn clear(&mut self) {
        *self = Run::default();
    }

    /// Prepends messages that end where the run begins, or overlap with it.
    pub fn extend_front(&mut self, messages: Vec<Message>) {
        for message in messages.into_iter().rev() {
            if self.first().is_some_and(|first| message.seq.next() == first) {
                self.bytes += size::in_memory(&message);
                self.messages.push_front(message);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::{Author, Body, Name, RoomId, WallMillis};

    pub fn messages(seqs: std::ops::Range<u64>) -> Vec<Message> {
        let room = RoomId::parse("r").unwrap();
        let author = Author { member: None, name: Name::parse("a").unwrap() };
        let body = |seq: u64| Body::checked(format!("{seq:0>9}").into());
        seqs.map(|seq| Message {
            room: room.clone(),
            seq: Seq(seq),
            at: WallMillis(0),
            author: author.clone(),
            body: body(seq),
        })
        .collect()
    }

    pub fn seqs(page: Option<(&[Message], &[Message])>) -> Option<Vec<u64>> {
        page.map(|(a, b)| a.iter().chain(b).map(|m| m.seq.0).collect())
    }

    pub const EACH: usize = 9 + 1 + size::IN_MEMORY;

    #[test]
    fn a_run_goes_on_without_a_hole_and_forgets_its_oldest() {
        let mut run = Run::default();
        messages(3..40).into_iter().for_each(|message| {
            run.push(message);
            run.shrink(10 * EACH);
        });
        assert_eq!(run.bytes(), 10 * EACH);
        assert_eq!(seqs(run.page(Seq(29), 4, usize::MAX)), Some(vec![30, 31, 32, 33]));
        assert_eq!(seqs(run.page(Seq(29), 99, usize::MAX)), Some((30..40).collect()));
        assert_eq!(seqs(run.page(Seq(36), 99, 1)), Some(vec![37]), "one fits always");
        assert_eq!(run.page(Seq(28), 99, usize::MAX), None);
        assert_eq!(run.page(Seq(39), 99, usize::MAX), None);
        run.push(messages(50..51).remove(0));
        assert_eq!(seqs(run.page(Seq(49), 9, usize::MAX)), Some(vec![50]), "a hole begins it anew");
        assert_eq!(run.bytes(), EACH);
    }
}
