//! How much the database may still grow, and what that means for whoever has written much. Near its maximum size, a
//! sender over its share is refused; or, where messages may be deleted, its new rooms are the first to give way.
//! Independent of threads, files and clocks.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::pages::Pages;
use super::retention;
use super::schema::number;

/// The database is nearly full once less than this part of its maximum size is left.
const NEAR_PART: u64 = 4;

/// The remark on a database that is nearly full and from which no message may go, after a word for the database.
pub(super) const NEARLY_FULL: &str = "has nearly reached max_database_size: whoever has written more than their share of what \
                               is left is refused; raise it, or let old messages expire with keep_messages or keep_for";

/// Returns whether a database of this maximum size, in bytes, is nearly full.
pub(super) fn is_nearly_full(left: u64, max: u64) -> bool {
    left < max / NEAR_PART
}

/// Rooms may take about this part of the maximum size of the database, each some [`ROOM_BYTES`] with its entries in the
/// indexes, and not fewer than [`LEAST_ROOMS`] are accepted.
const ROOMS_PART: u64 = 4;
const ROOM_BYTES: u64 = 128;
const LEAST_ROOMS: u64 = 1_000;

/// Returns for how many rooms a database of this maximum size, in bytes, is large enough.
pub fn rooms_within(max: u64) -> u64 {
    (max / ROOMS_PART / ROOM_BYTES).max(LEAST_ROOMS)
}

/// What is left is measured again once this part of the maximum size may have been added.
const MEASURED_PART: u64 = 256;

/// Maximum number of rooms that are known to give way first: some 3 MB.
const ROOMS: usize = 65_536;

/// The space of a database, and the rooms that give way first.
#[derive(Debug)]
pub(super) struct Space {
    pages: Pages,
    /// Maximum number of pages for messages.
    most: i64,
    /// Bytes that are left for messages, by the last measurement and what was added since.
    left: u64,
    /// Bytes that were added since.
    added: u64,
    /// Messages that were stored since the start.
    messages: u64,
    is_stale: bool,
    /// Whether messages may be deleted to make room.
    may_delete: bool,
    /// Rooms all of whose messages came from senders over their share.
    giving: BTreeSet<i64>,
}

impl Default for Space {
    /// Returns the space of a database without a maximum size.
    fn default() -> Space {
        Space {
            pages: Pages::LEAST,
            most: i64::MAX,
            left: u64::MAX,
            added: 0,
            messages: 0,
            is_stale: false,
            may_delete: false,
            giving: BTreeSet::new(),
        }
    }
}

impl Space {
    /// Takes over the maximum number of pages for messages, and whether messages may be deleted to make room.
    pub fn bound(&mut self, pages: Pages, most: i64, may_delete: bool) {
        if (self.pages, self.most, self.may_delete) != (pages, most, may_delete) {
            (self.pages, self.most, self.may_delete, self.is_stale) = (pages, most, may_delete, true);
        }
    }

    /// Notes that something besides messages was written, or that something was deleted.
    pub fn changed(&mut self) {
        self.is_stale = true;
    }

    /// Measures what is left, if that may have changed much.
    pub fn measure(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if !self.is_stale && self.added < self.max() / MEASURED_PART {
            return Ok(());
        }
        let (all, free) = retention::pages(conn)?;
        self.left = number(self.pages.bytes(self.most.saturating_sub(all - free).max(0)));
        (self.added, self.is_stale) = (0, false);
        Ok(())
    }

    /// Notes that a message of so many bytes was added.
    pub fn add(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        (self.left, self.added) = (self.left.saturating_sub(bytes), self.added.saturating_add(bytes));
        self.messages += 1;
    }

    /// Returns how many messages were stored since the start.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns whether little is left.
    pub fn is_near(&self) -> bool {
        is_nearly_full(self.left, self.max())
    }

    /// Returns whether a sender is over its share that is within it if so many bytes are left.
    pub fn is_over(&self, needs: u64) -> bool {
        needs > self.left && self.is_near()
    }

    /// Returns whether whoever is over their share is refused.
    pub fn refuses(&self) -> bool {
        !self.may_delete
    }

    /// Returns whether somebody may be refused for being over their share.
    pub fn is_near_and_refuses(&self) -> bool {
        self.is_near() && self.refuses()
    }

    /// Notes that a message was stored in a room, which had none before if it `was_empty`. A room in which somebody
    /// within their share has written does not give way before others.
    pub fn stored(&mut self, room: i64, was_empty: bool, is_over: bool) {
        if !is_over {
            if !self.giving.is_empty() {
                self.giving.remove(&room);
            }
        } else if was_empty && self.giving.len() < ROOMS {
            self.giving.insert(room);
        }
    }

    /// Returns the next room behind this one that gives way first.
    pub fn giving_after(&self, room: i64) -> Option<i64> {
        self.giving.range(room.saturating_add(1)..).next().copied()
    }

    /// Notes that a room has nothing more to give.
    pub fn has_given(&mut self, room: i64) {
        self.giving.remove(&room);
    }

    /// Returns the maximum size of the database for messages, in bytes.
    pub fn max(&self) -> u64 {
        number(self.pages.bytes(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(left: u64) -> Space {
        Space { pages: Pages::USUAL, most: 1_000, left, ..Space::default() }
    }

    #[test]
    fn shares_count_once_little_is_left() {
        let max = 4_096_000;
        let far = space(max / 4);
        assert!(!far.is_near() && !far.is_over(u64::MAX), "nobody is refused before");
        let mut near = space(max / 4 - 1);
        assert!(near.is_near() && near.is_over(max / 4) && !near.is_over(max / 4 - 1) && !near.is_over(0));
        near.add(1_000);
        assert!(near.is_over(max / 4 - 1) && !near.is_over(max / 4 - 1_001));
        assert!(!Space::default().is_over(u64::MAX), "without a maximum size");
    }

    #[test]
    fn a_room_gives_way_first_if_only_senders_over_their_share_wrote_there() {
        let mut space = space(0);
        space.stored(1, true, true);
        space.stored(1, false, true);
        space.stored(2, false, true);
        space.stored(3, true, false);
        space.stored(4, true, true);
        space.stored(4, false, false);
        space.stored(4, false, true);
        assert_eq!((space.giving_after(0), space.giving_after(1)), (Some(1), None));
        space.has_given(1);
        assert_eq!(space.giving_after(0), None);
    }

    #[test]
    fn what_is_left_is_measured_again_as_it_changes() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA page_size = 4096; CREATE TABLE t (x)").unwrap();
        let mut space = Space::default();
        space.bound(Pages::USUAL, 1_000, false);
        let left = |space: &mut Space| {
            space.measure(&conn).unwrap();
            space.left
        };
        assert_eq!(left(&mut space), 998 * 4_096);
        conn.execute_batch("INSERT INTO t VALUES (zeroblob(40960))").unwrap();
        space.add(1);
        assert_eq!(left(&mut space), 998 * 4_096 - 1, "not each time");
        space.add(20_000);
        let measured = left(&mut space);
        assert!((986 * 4_096..=988 * 4_096).contains(&measured), "{measured}");
        conn.execute_batch("DELETE FROM t").unwrap();
        space.changed();
        assert_eq!(left(&mut space), 998 * 4_096, "free pages count as left");
    }
}
