//! The size of a database's pages, and limits in bytes as numbers of pages. A new database gets the size that the
//! settings say; an existing one keeps its own.

use rusqlite::Connection;

/// Maximum number of bytes that are kept free for folds in a database of limited size. The smaller one keeps this share
/// of it.
pub(super) const RESERVE: u64 = 8 << 20;
pub(super) const RESERVE_PART: u64 = 32;

/// The size of a page in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pages(i64);

impl Pages {
    /// The least size that SQLite knows.
    pub const LEAST: Pages = Pages(512);

    /// The size if nothing else is chosen.
    #[cfg(test)]
    pub const USUAL: Pages = Pages(4_096);

    /// Reads the size from the database.
    pub fn of(conn: &Connection) -> rusqlite::Result<Pages> {
        let size: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        Ok(Pages(size.max(1)))
    }

    /// Returns how many pages are so many bytes, rounded down, but at least one.
    pub const fn in_bytes(self, bytes: i64) -> i64 {
        let pages = bytes / self.0;
        if pages > 1 { pages } else { 1 }
    }

    /// Returns how many of `most` pages may hold anything but what folds write.
    pub fn for_messages(self, most: i64) -> i64 {
        let part = most.unsigned_abs() / RESERVE_PART;
        most.saturating_sub_unsigned(part.min(self.in_bytes(RESERVE.cast_signed()).unsigned_abs()))
    }

    /// Returns how many bytes so many pages are.
    pub const fn bytes(self, pages: i64) -> i64 {
        pages.saturating_mul(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_the_database() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA page_size = 1024; CREATE TABLE t (x)").unwrap();
        let pages = Pages::of(&conn).unwrap();
        assert_eq!((pages.in_bytes(4 << 20), pages.bytes(3)), (4_096, 3_072));
        assert_eq!(pages.in_bytes(100), 1, "never none");
        assert_eq!(Pages::USUAL.in_bytes(4 << 20), 1_024);
        assert_eq!((pages.for_messages(1_024), pages.for_messages(1 << 20)), (992, (1 << 20) - (8 << 10)));
    }
}
