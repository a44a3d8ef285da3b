//! A line of connections that wait for their turn. Each stands in it once, however often it is announced: one that is
//! announced faster than it is served must not take the places of the others.

use crate::types::ConnId;

/// A line, first come first served. Costs 8 bytes for each that waits, and a bit for each connection.
#[derive(Debug, Default)]
pub struct Line {
    order: Vec<ConnId>,
    /// A bit for each index of a connection that waits.
    waiting: Vec<u64>,
}

impl Line {
    /// Puts a connection at the end, unless it waits already.
    pub fn join(&mut self, conn: ConnId) {
        let (word, bit) = place(conn);
        if self.waiting.len() <= word {
            self.waiting.resize(word + 1, 0);
        }
        if self.waiting[word] & bit == 0 {
            self.waiting[word] |= bit;
            self.order.push(conn);
        }
    }

    /// Returns whether a connection waits.
    pub fn has(&self, conn: ConnId) -> bool {
        let (word, bit) = place(conn);
        self.waiting.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Returns the connection with this many others before it.
    pub fn get(&self, place: usize) -> Option<ConnId> {
        self.order.get(place).copied()
    }

    /// Takes the first connections out of the line: they were served.
    pub fn serve(&mut self, count: usize) {
        for conn in self.order.drain(..count) {
            let (word, bit) = place(conn);
            self.waiting[word] &= !bit;
        }
    }

    /// Takes connections out that are about to be freed: their indexes may be used again.
    pub fn forget(&mut self, freed: &[ConnId]) {
        if freed.is_empty() || self.order.is_empty() {
            return;
        }
        for conn in freed {
            let (word, bit) = place(*conn);
            if let Some(bits) = self.waiting.get_mut(word) {
                *bits &= !bit;
            }
        }
        let waiting = &self.waiting;
        self.order.retain(|conn| {
            let (word, bit) = place(*conn);
            waiting[word] & bit != 0
        });
    }
}

/// Returns the word and the bit of a connection.
fn place(conn: ConnId) -> (usize, u64) {
    (conn.index as usize / 64, 1 << (conn.index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 1 }
    }

    fn indexes(line: &Line) -> Vec<u32> {
        line.order.iter().map(|conn| conn.index).collect()
    }

    #[test]
    fn who_waits_already_does_not_wait_twice() {
        let mut line = Line::default();
        [3, 200, 3, 64, 200, 3].iter().for_each(|index| line.join(conn(*index)));
        assert_eq!(indexes(&line), [3, 200, 64]);
        line.serve(1);
        [200, 3].iter().for_each(|index| line.join(conn(*index)));
        assert_eq!(indexes(&line), [200, 64, 3]);
        line.serve(3);
        assert!(line.is_empty() && line.get(0).is_none());
    }

    #[test]
    fn who_is_freed_leaves_its_place_to_who_comes_next_under_its_index() {
        let mut line = Line::default();
        [1, 2, 3].iter().for_each(|index| line.join(conn(*index)));
        line.forget(&[conn(2), conn(900)]);
        assert_eq!(indexes(&line), [1, 3]);
        let next = ConnId { index: 2, generation: 2 };
        assert!(!line.has(next) && line.has(conn(1)) && !line.has(conn(900)));
        line.join(next);
        assert_eq!((line.get(2), line.has(next)), (Some(next), true));
    }
}
