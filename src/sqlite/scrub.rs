//! The background check of the whole database ("scrub"): reads every row and every index entry, a piece at a time, so
//! that damage is found before somebody asks for the damaged messages. Each piece is one short read transaction that
//! continues where the last one ended, between the reader's pages; no read waits for more than one piece.
//!
//! It covers SQLite's b-trees, but neither the free pages nor the pointer maps (section 1.8 of
//! <https://www.sqlite.org/fileformat2.html>): the writer uses those, and `racerd check` covers everything.

use std::time::{Duration, Instant};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::damage::is_damage;
use super::fold;
use super::reader;
use super::rows;
use super::schema::{SCRATCH, last_room, number, room_of, seq_of};
use crate::crypto::at_rest::RecordKey;
use crate::random::SplitMix64;
use crate::types::{Era, RoomId, Seq};

/// Interval between two checks, in running seconds: a week.
pub(super) const PERIOD: u64 = 7 * 24 * 3_600;

/// Delay after a disk failure before the whole database is read again, to find out whether the disk works now.
pub(super) const RETRY: Duration = Duration::from_secs(10 * 60);

/// A piece ends with the row that reaches this many bytes ...
const PIECE: u64 = 64 << 10;

/// ... or after this many rows.
const ROWS: u32 = 256;

/// Estimated overhead of a row in addition to its columns: its cell in a page, and its share of the inner pages.
const ROW: u64 = 16;

/// A table or an index, and how to walk it: the first `keys` columns are the position of a row.
struct Walk {
    /// Its name in SQLite.
    tree: &'static str,
    keys: usize,
    is_text: bool,
    sql: &'static str,
}

const WALKS: [Walk; 20] = [
    Walk { tree: "meta", keys: 1, is_text: false, sql: "SELECT id, * FROM meta WHERE id > ?1 ORDER BY id LIMIT ?2" },
    Walk {
        tree: "rooms",
        keys: 1,
        is_text: false,
        sql: "SELECT id, name, head, at, common, oldest, oldest_at, era, used, bytes FROM rooms WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "sqlite_autoindex_rooms_1",
        keys: 1,
        is_text: true,
        sql: "SELECT name FROM rooms WHERE name > ?1 ORDER BY name LIMIT ?2",
    },
    Walk {
        tree: "rooms_by_use",
        keys: 2,
        is_text: false,
        sql: "SELECT used, id FROM rooms WHERE oldest IS NULL AND (used, id) > (?1, ?2) ORDER BY used, id LIMIT ?3",
    },
    Walk {
        tree: "rooms_by_size",
        keys: 2,
        is_text: false,
        sql: "SELECT bytes, id FROM rooms WHERE bytes >= 16384 AND (bytes, id) > (?1, ?2) ORDER BY bytes, id LIMIT ?3",
    },
    Walk {
        tree: "free_rooms",
        keys: 1,
        is_text: false,
        sql: "SELECT id FROM free_rooms WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "removals",
        keys: 1,
        is_text: false,
        sql: "SELECT place, count FROM removals WHERE place > ?1 ORDER BY place LIMIT ?2",
    },
    Walk {
        tree: "rooms_by_oldest",
        keys: 2,
        is_text: false,
        sql: "SELECT oldest_at, id FROM rooms WHERE oldest_at IS NOT NULL AND (oldest_at, id) > (?1, ?2)
              ORDER BY oldest_at, id LIMIT ?3",
    },
    Walk {
        tree: "messages",
        keys: 1,
        is_text: false,
        sql: "SELECT id, at, member, name, body, key FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "keys",
        keys: 1,
        is_text: false,
        sql: "SELECT id, used, entries FROM keys WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "sqlite_autoindex_keys_1",
        keys: 2,
        is_text: false,
        sql: "SELECT room, session FROM keys WHERE (room, session) > (?1, ?2) ORDER BY room, session LIMIT ?3",
    },
    Walk {
        tree: "common_keys",
        keys: 2,
        is_text: false,
        sql: "SELECT room, key, body, seq, at FROM common_keys WHERE (room, key) > (?1, ?2) ORDER BY room, key LIMIT ?3",
    },
    Walk {
        tree: "common_keys_by_age",
        keys: 3,
        is_text: false,
        sql: "SELECT room, seq, key FROM common_keys WHERE (room, seq, key) > (?1, ?2, ?3) ORDER BY room, seq, key LIMIT ?4",
    },
    Walk {
        tree: "parked",
        keys: 1,
        is_text: false,
        sql: "SELECT id, at, member, name, generation, rooms FROM parked WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "sqlite_autoindex_parked_1",
        keys: 1,
        is_text: false,
        sql: "SELECT session FROM parked WHERE session > ?1 ORDER BY session LIMIT ?2",
    },
    Walk {
        tree: "log_salt",
        keys: 1,
        is_text: false,
        sql: "SELECT id, salt FROM log_salt WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "standings",
        keys: 1,
        is_text: false,
        sql: "SELECT id, at, generation FROM standings WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "sealed_bodies",
        keys: 1,
        is_text: false,
        sql: "SELECT id, digest FROM sealed_bodies WHERE id > ?1 ORDER BY id LIMIT ?2",
    },
    Walk {
        tree: "sealed_bodies_by_digest",
        keys: 2,
        is_text: false,
        sql: "SELECT digest, id FROM sealed_bodies WHERE (digest, id) > (?1, ?2) ORDER BY digest, id LIMIT ?3",
    },
    Walk {
        tree: "sealed_bodies_filled",
        keys: 1,
        is_text: false,
        sql: "SELECT rowid, upto FROM sealed_bodies_filled WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
    },
];

/// The position of a check.
struct Place {
    walk: usize,
    /// The position of the last row; smaller than any at the beginning.
    after: Vec<Value>,
}

impl Place {
    fn at(walk: usize) -> Option<Place> {
        let found = WALKS.get(walk)?;
        // A number is less than any blob, but a text column would convert it to text.
        let least = if found.is_text { Value::Text(String::new()) } else { Value::Integer(i64::MIN) };
        Some(Place { walk, after: vec![least; found.keys] })
    }
}

/// The result of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Read,
    /// The whole database has been read.
    End,
    /// A row cannot be read.
    Wrong {
        reason: String,
        /// Whether its bytes are wrong; otherwise the disk did not answer.
        damage: bool,
    },
}

/// Schedules the check: when the next piece is due, and where it continues.
pub(super) struct Scrub {
    /// Bytes per second.
    rate: u64,
    /// When the next piece is due; `None` for never again in this run.
    due: Option<Instant>,
    place: Option<Place>,
    /// Delay between a disk failure and the next check.
    retry: Duration,
}

impl Scrub {
    /// Schedules the first check for `begin`; none at a rate of 0.
    pub fn new(rate: u64, begin: Instant, retry: Duration) -> Scrub {
        Scrub { rate, due: (rate > 0).then_some(begin), place: None, retry }
    }

    /// Starts over after a disk failure, which invalidates what was read before. Does nothing at a rate of 0, or once
    /// damage was found.
    pub fn begin_again(&mut self) {
        if self.due.is_some() {
            self.due = Instant::now().checked_add(self.retry);
            self.place = None;
        }
    }

    /// Returns the time until the next piece is due; `None` means never in this run.
    pub fn patience(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Reads the next piece. `records` opens sealed rows.
    pub fn piece(&mut self, conn: &Connection, records: Option<&RecordKey>) -> Piece {
        let begun = Instant::now();
        let Some(mut place) = self.place.take().or_else(|| Place::at(0)) else { return Piece::End };
        match read(conn, &mut place, records) {
            Ok((bytes, more)) => {
                let pause = Duration::from_millis(bytes.saturating_mul(1000) / self.rate.max(1));
                self.due = begun.checked_add(pause);
                self.place = if more { Some(place) } else { Place::at(place.walk + 1) };
                match self.place {
                    Some(_) => Piece::Read,
                    None => {
                        self.due = begun.checked_add(Duration::from_secs(PERIOD));
                        Piece::End
                    }
                }
            }
            Err(wrong) => {
                if wrong.damage {
                    // The rest is left to `racerd check` and `racerd salvage`.
                    self.due = None;
                } else {
                    self.begin_again();
                }
                let tree = WALKS.get(place.walk).map_or("", |walk| walk.tree);
                Piece::Wrong { reason: format!("in {tree}: {}", wrong.what), damage: wrong.damage }
            }
        }
    }
}

struct Wrong {
    what: String,
    damage: bool,
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Wrong {
        Wrong { damage: is_damage(&error), what: error.to_string() }
    }
}

/// Reads the next rows. Returns their approximate size in bytes, and whether there may be more.
fn read(conn: &Connection, place: &mut Place, records: Option<&RecordKey>) -> Result<(u64, bool), Wrong> {
    let Some(walk) = WALKS.get(place.walk) else { return Ok((0, false)) };
    // Makes SQLite verify the cells of each page, too.
    conn.execute_batch("PRAGMA cell_size_check = ON")?;
    let outcome = read_rows(conn, walk, place, records);
    conn.execute_batch("PRAGMA cell_size_check = OFF")?;
    outcome
}

fn read_rows(
    conn: &Connection,
    walk: &Walk,
    place: &mut Place,
    records: Option<&RecordKey>,
) -> Result<(u64, bool), Wrong> {
    let transaction = conn.unchecked_transaction()?;
    let mut messages = Messages { room: None, last: None };
    let (mut bytes, mut count) = (0, 0);
    {
        let mut statement = transaction.prepare_cached(walk.sql)?;
        let parameters = place.after.iter().cloned().chain([Value::Integer(i64::from(ROWS))]);
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(parameters))?;
        while bytes < PIECE
            && let Some(row) = rows.next()?
        {
            for column in 0..columns {
                bytes += size(row.get_ref(column)?);
            }
            bytes += ROW;
            count += 1;
            if walk.tree == "messages" {
                messages.look(&transaction, row, records)?;
            }
            for (column, key) in place.after.iter_mut().enumerate() {
                *key = row.get(column)?;
            }
        }
    }
    transaction.finish()?;
    Ok((bytes, bytes >= PIECE || count >= ROWS))
}

fn size(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
    }
}

/// Checks the messages of one piece, read in one transaction: seqs must be contiguous in each room.
struct Messages {
    room: Option<(i64, RoomId, Era)>,
    last: Option<i64>,
}

impl Messages {
    fn look(&mut self, conn: &Connection, row: &Row, records: Option<&RecordKey>) -> Result<(), Wrong> {
        let id: i64 = row.get(0)?;
        if id == SCRATCH {
            return Ok(());
        }
        let wrong = |what: String| Wrong { what, damage: true };
        let (number_of_room, seq) = (room_of(id), seq_of(id));
        if self.room.as_ref().is_none_or(|(known, ..)| *known != number_of_room) {
            let found = rows::room_name(conn, number_of_room)?;
            let found = found.and_then(|(name, era)| Some((number_of_room, RoomId::parse(&name)?, era)));
            let found = found.ok_or_else(|| wrong(format!("message {} is of no room that exists", number(id))))?;
            self.room = Some(found);
            self.last = None;
        }
        let Some((_, room, era)) = &self.room else { return Ok(()) };
        if self.last.is_some_and(|last| last + 1 != id) {
            return Err(wrong(format!("messages of room {room} before {} are missing", seq.0)));
        }
        self.last = Some(id);
        let because = |what: String| wrong(format!("message {} of room {room} {what}", seq.0));
        match records {
            Some(records) => match reader::sealed_message(room, *era, row, records)? {
                (_, None) => Ok(()),
                (_, Some(why)) => Err(because(format!("cannot be read: {why}"))),
            },
            None => match reader::message(room, row) {
                Ok(_) => Ok(()),
                Err(error) => Err(because(format!("cannot be read: {error}"))),
            },
        }
    }
}

/// Reads messages at random places, chosen by `seed`, until the time is up. Returns what is wrong, if anything.
pub(super) fn sample(
    conn: &Connection,
    records: Option<&RecordKey>,
    seed: u64,
    until: Instant,
) -> rusqlite::Result<Option<String>> {
    let rooms = last_room(conn)?;
    let mut random = SplitMix64::new(seed);
    while Instant::now() < until {
        let Ok(room) = i64::try_from(1 + random.below(rooms.max(1))) else { break };
        let head: Option<i64> =
            conn.query_row("SELECT head FROM rooms WHERE id = ?1", [room], |row| row.get(0)).optional()?;
        let Some(head) = head.map(|head| Seq(number(head))) else { continue };
        let head = fold::last_behind(conn, room, head)?.map_or(head, |(last, _)| last);
        let from = super::schema::last_id(room, Seq(random.below(head.0.max(1))));
        let sql = "SELECT id, at, member, name, body FROM messages WHERE id > ?1 ORDER BY id LIMIT 4";
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query([from])?;
        let mut messages = Messages { room: None, last: None };
        while let Some(row) = rows.next()? {
            match messages.look(conn, row, records) {
                Ok(()) => {}
                // Sealed rows that do not open are delivered as unreadable.
                Err(_) if records.is_some() => {}
                Err(wrong) => return Ok(Some(wrong.what)),
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    /// Fails for a new table or index that no check would read.
    #[test]
    fn every_tree_is_walked() {
        let conn = Connection::open_in_memory().unwrap();
        schema::migrate(&conn).unwrap();
        let mut statement = conn.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
        let trees: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut walked: Vec<&str> = WALKS.iter().map(|walk| walk.tree).collect();
        walked.sort_unstable();
        assert_eq!(trees, walked);
        for walk in &WALKS {
            let explained = format!("EXPLAIN QUERY PLAN {}", walk.sql);
            let mut statement = conn.prepare(&explained).unwrap();
            let parameters = vec![Value::Integer(1); walk.keys + 1];
            let rows = statement.query_map(params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
            let plan = rows.map(Result::unwrap).collect::<Vec<_>>().join("; ");
            assert!(!plan.contains("TEMP B-TREE"), "{}: a piece has an end: {plan}", walk.tree);
            let index = walk.tree.starts_with("sqlite_autoindex") || walk.tree.contains("_by_");
            assert_eq!(plan.contains(&format!("COVERING INDEX {}", walk.tree)), index, "{}: {plan}", walk.tree);
        }
    }
}
