//! What each network has added to the database: counted since the start, and halved daily. From it follows how much
//! must be left in the database for a network to be within its share of that. Nothing of it is stored.

use crate::types::Millis;

/// Bytes of a message in the database besides its body: its row, and its key.
const BESIDE: u64 = 100;

/// Bytes of a room's row, its name and their places in indexes.
const ROOM: u64 = 300;

/// The bytes from which on a network counts as one that writes. Otherwise a byte each from many networks would take
/// everybody's share away.
pub(super) const WRITES_FROM: u64 = 64 << 10;

/// Networks whose growth is remembered although they are otherwise idle.
pub(super) const REMEMBERED: usize = 4_096;

const DAY: u64 = 86_400_000;

/// Returns the bytes that a message adds to the database; with `has_made` also its room.
pub(super) fn of_message(body: usize, has_made: bool) -> u64 {
    body as u64 + BESIDE + if has_made { ROOM } else { 0 }
}

/// All networks that write.
#[derive(Debug, Default)]
pub(super) struct Growths {
    /// The number of networks that write.
    writers: u64,
    day: u64,
}

impl Growths {
    /// Adds bytes to what a network has written.
    pub fn add(&mut self, grown: &mut u64, bytes: u64) {
        let before = *grown >= WRITES_FROM;
        *grown = grown.saturating_add(bytes);
        self.writers += u64::from(!before && *grown >= WRITES_FROM);
    }

    /// Notes that a network is forgotten.
    pub fn forget(&mut self, grown: u64) {
        self.writers -= u64::from(grown >= WRITES_FROM).min(self.writers);
    }

    /// Returns the bytes that the database must have left for a network to be within its share. What is left is divided
    /// equally among the networks that write, with one part more for the next network; a network has used up its part
    /// by what it has written, and what is on its way to the store.
    pub fn needs(&self, grown: u64, under_way: u64) -> u64 {
        let others = self.writers - u64::from(grown >= WRITES_FROM).min(self.writers);
        // One part is for this network, and one for the next.
        grown.saturating_add(under_way).saturating_mul(others + 2)
    }

    /// Returns whether a day has passed, so that all growth is to be halved by [`Growths::halve`].
    pub fn is_new_day(&self, now: Millis) -> bool {
        now.0 / DAY > self.day
    }

    /// Halves what all networks have written, once for each day that has passed.
    pub fn halve<'a>(&mut self, now: Millis, all: impl Iterator<Item = &'a mut u64>) {
        let today = now.0 / DAY;
        let days = u32::try_from(today.saturating_sub(self.day)).unwrap_or(u32::MAX);
        (self.day, self.writers) = (today, 0);
        for grown in all {
            *grown = grown.checked_shr(days).unwrap_or(0);
            self.writers += u64::from(*grown >= WRITES_FROM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_an_equal_part_and_one_is_for_who_comes_next() {
        let mut growths = Growths::default();
        let (mut one, mut two, mut small) = (0, 0, 0);
        growths.add(&mut one, WRITES_FROM);
        assert_eq!(growths.needs(one, 0), 2 * WRITES_FROM, "half of what is left, and the other half for others");
        growths.add(&mut two, 3 * WRITES_FROM);
        growths.add(&mut small, 10);
        assert_eq!(growths.needs(one, 100), 3 * (WRITES_FROM + 100));
        assert_eq!(growths.needs(0, 100), 400, "two write, this one would be the third, and one comes next");
        growths.forget(two);
        assert_eq!(growths.needs(one, 0), 2 * WRITES_FROM);
    }

    #[test]
    fn what_was_written_counts_half_a_day_later() {
        let mut growths = Growths::default();
        let mut grown = [0, 0];
        growths.add(&mut grown[0], 4 * WRITES_FROM);
        growths.add(&mut grown[1], WRITES_FROM);
        assert!(!growths.is_new_day(Millis(DAY - 1)) && growths.is_new_day(Millis(DAY)));
        growths.halve(Millis(DAY), grown.iter_mut());
        assert_eq!((grown, growths.writers), ([2 * WRITES_FROM, WRITES_FROM / 2], 1));
        growths.halve(Millis(90 * DAY), grown.iter_mut());
        assert_eq!((grown, growths.writers), ([0, 0], 0));
        assert!(!growths.is_new_day(Millis(90 * DAY)));
    }
}
