//! How much the keys of messages take in a database, counted a bounded number of rows at a time, and for how long that
//! is known well enough. Independent of threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::number;

/// Maximum number of rows counted in one step.
const ROWS: i64 = 2_000;

/// What a row of the windows takes beside its entries, with its entry in the index of sessions, in bytes.
const WINDOW: u64 = 80;

/// Running seconds for which keys that were too many count as that.
const HOLDS: u64 = 60;

/// What the key of one message takes at most.
const KEY: u64 = 150;

/// What a common key takes, with its entry in the index by age, in bytes.
const COMMON: u64 = 100;

/// Keys of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Keys {
    /// Windows, and common keys.
    count: u64,
    bytes: u64,
}

/// Where a count has come.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Behind this window.
    Windows(i64),
    /// Behind this room, whose row tells how many common keys it has.
    Rooms(i64),
}

impl Default for At {
    fn default() -> At {
        At::Windows(0)
    }
}

/// A count of the keys.
#[derive(Debug, Default)]
pub(super) struct Weight {
    at: At,
    counted: Keys,
    /// What the last whole count found, without what has gone since.
    known: Option<Keys>,
    /// The number of messages that had been stored when that count began, and when the one that is under way began.
    known_at: u64,
    counted_from: u64,
    /// The running second at which that count was whole.
    known_since: u64,
}

impl Weight {
    /// Notes that so many windows and common keys were deleted.
    pub fn drop(&mut self, count: usize) {
        let Some(known) = &mut self.known else { return };
        let count = known.count.min(count as u64);
        // In 128 bits, so that the product does not overflow; the quotient is no more than the bytes.
        let bytes = u128::from(known.bytes) * u128::from(count) / u128::from(known.count.max(1));
        known.bytes = known.bytes.saturating_sub(bytes as u64);
        known.count -= count;
    }

    /// Returns whether they were counted at all.
    pub fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// Returns whether it is uncertain whether the keys take more than so many bytes, now that so many messages were
    /// stored in all: there may be more of them than when they were counted, or, after a while, fewer.
    pub fn is_unknown(&self, most: u64, messages: u64, running: u64) -> bool {
        let added = messages.saturating_sub(self.known_at).saturating_mul(KEY);
        let is_old = running > self.known_since.saturating_add(HOLDS);
        self.known.is_none_or(|known| match known.bytes > most {
            true => is_old,
            false => known.bytes.saturating_add(added) > most,
        })
    }

    /// Returns whether the keys took more than so many bytes, as far as it is known.
    pub fn exceeds(&self, most: u64) -> bool {
        self.known.is_some_and(|known| known.bytes > most)
    }

    /// Counts the next rows, now that so many messages were stored in all. Returns whether the count is whole.
    pub fn step(&mut self, conn: &Connection, messages: u64, running: u64) -> rusqlite::Result<bool> {
        match self.at {
            At::Windows(after) => {
                if after == 0 {
                    self.counted_from = messages;
                }
                let end: Option<i64> = conn
                    .prepare_cached("SELECT id FROM keys WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
                    .query_row([after, ROWS - 1], |row| row.get(0))
                    .optional()?;
                let (count, bytes): (i64, i64) = conn
                    .prepare_cached(
                        "SELECT count(*), ifnull(sum(length(entries)), 0) FROM keys WHERE id > ?1 AND id <= ?2",
                    )?
                    .query_row([after, end.unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?;
                self.counted.count += number(count);
                self.counted.bytes += number(bytes) + number(count) * WINDOW;
                self.at = end.map_or(At::Rooms(0), At::Windows);
                Ok(false)
            }
            At::Rooms(after) => {
                let end: Option<i64> = conn
                    .prepare_cached("SELECT id FROM rooms WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
                    .query_row([after, ROWS - 1], |row| row.get(0))
                    .optional()?;
                let count: i64 = conn
                    .prepare_cached("SELECT ifnull(sum(common), 0) FROM rooms WHERE id > ?1 AND id <= ?2")?
                    .query_row([after, end.unwrap_or(i64::MAX)], |row| row.get(0))?;
                self.counted.count += number(count);
                self.counted.bytes += number(count) * COMMON;
                match end {
                    Some(end) => self.at = At::Rooms(end),
                    None => {
                        self.known = Some(std::mem::take(&mut self.counted));
                        (self.at, self.known_at) = (At::default(), self.counted_from);
                        self.known_since = running;
                    }
                }
                Ok(end.is_none())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::super::schema::migrate;
    use super::*;

    #[test]
    fn keys_are_counted_in_steps_and_known_for_a_while() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        for n in 0..5_000_i64 {
            let sql = "INSERT INTO keys (room, session, used, entries) VALUES (1, ?1, 0, zeroblob(40))";
            conn.execute(sql, [n.to_be_bytes()]).unwrap();
        }
        for room in 1..=2_500_i64 {
            let sql = "INSERT INTO rooms (id, name, head, at, common) VALUES (?1, ?2, 1, 0, 2)";
            conn.execute(sql, params![room, format!("r{room}")]).unwrap();
        }
        let mut weight = Weight::default();
        assert!(weight.is_unknown(1, 0, 0) && !weight.exceeds(1));
        let steps: Vec<bool> = (0..5).map(|_| weight.step(&conn, 100, 7).unwrap()).collect();
        assert_eq!(steps, [false, false, false, false, true], "of 2,000 rows each");
        let bytes = 5_000 * (40 + WINDOW) + 5_000 * COMMON;
        assert_eq!(weight.known, Some(Keys { count: 10_000, bytes }));
        assert!(weight.exceeds(bytes - 1) && !weight.exceeds(bytes));
        assert!(!weight.is_unknown(bytes - 1, 100, 67) && !weight.is_unknown(bytes, 100, 68));
        assert!(weight.is_unknown(bytes - 1, 100, 68), "they may be fewer by now");
        assert!(weight.is_unknown(bytes, 101, 7) && !weight.is_unknown(bytes + KEY, 101, 7), "each may have had a key");
        // What is added while it counts may not be in the count.
        (101..106).for_each(|messages| _ = weight.step(&conn, messages, 7).unwrap());
        assert!(!weight.is_unknown(bytes, 101, 7) && weight.is_unknown(bytes, 102, 7));
        weight.drop(5_000);
        assert!(weight.exceeds(bytes / 2 - 1) && !weight.exceeds(bytes / 2));
        weight.drop(usize::MAX);
        assert!(!weight.exceeds(0));
    }
}
