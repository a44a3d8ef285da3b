//! Commits many appends in one transaction: decides each (the next seq, or a repeat by its key), then writes and
//! commits. Sessions are parked and claimed in the same transaction, in order. A batch is stored as a whole or not at
//! all, and the caches never hold more than the database. Independent of threads, files and clocks.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use super::parked::Parking;
use super::schema::{integer, message_id, number};
use super::sealed_bodies::{self, Filling};
use super::sealing::{Sealing, message_place};
use crate::store::idempotency::{COMMON, Entry, Seen, Window};
use crate::store::{Append, Claim, Found, Parked, Read, Scope, ScopedKey, Seek, StoreRequest};
use crate::types::{Digest, RoomId, Seq, SessionId, WallMillis};

/// Maximum number of room rows cached between batches. About 150 bytes each.
pub(super) const ROOMS: usize = 4_096;

/// A repeat refreshes a window's stored last use only if that is at least this old, in running seconds: most repeats
/// should not cost a write.
const TOUCH: u64 = 3_600;

/// Interval at which the running seconds are stored.
const RUNNING_STEP: u64 = 60;

/// One request in a batch.
pub(super) enum Write {
    Append(Append),
    Park(Parked),
    Claim(Claim),
    Seek(Seek),
}

impl Write {
    /// Estimates the number of bytes that the request adds to the database.
    pub fn bytes(&self) -> usize {
        match self {
            Write::Append(append) => append.body.len(),
            Write::Park(parked) => 64 + parked.rooms.len() * 24,
            Write::Claim(_) | Write::Seek(_) => 0,
        }
    }
}

/// Divides requests between the writer and the reader, preserving the order of each.
pub(super) fn divide(requests: &mut Vec<StoreRequest>) -> (Vec<Write>, Vec<Read>) {
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for request in requests.drain(..) {
        match request {
            StoreRequest::Append(append) => writes.push(Write::Append(append)),
            StoreRequest::Park(parked) => writes.push(Write::Park(parked)),
            StoreRequest::Claim(claim) => writes.push(Write::Claim(claim)),
            StoreRequest::Seek(seek) => writes.push(Write::Seek(seek)),
            StoreRequest::Read(read) => reads.push(read),
        }
    }
    (writes, reads)
}

/// The outcome of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Stored {
        seq: Seq,
        at: WallMillis,
    },
    Duplicate {
        seq: Seq,
        at: WallMillis,
    },
    KeyReused,
    BodyReused,
    /// The database has no id left for this room or this message.
    Refused,
    Parked,
    Claimed(Option<Box<Parked>>),
    Sought(Found),
}

/// The writer's caches between batches.
pub(super) struct Batches {
    rooms: HashMap<RoomId, Room>,
    pub parking: Parking,
    /// The running seconds as last stored.
    running: u64,
    /// Seals stored rows; `None` for a plain database.
    sealing: Option<Sealing>,
    filling: Filling,
}

/// A room's row.
#[derive(Clone, Copy)]
struct Room {
    id: i64,
    head: Seq,
    at: WallMillis,
    /// Number of its rows in `common_keys`.
    common: u64,
    /// Whether it differs from the stored row.
    changed: bool,
}

/// The key windows that a batch has loaded, in the order of their rows.
type Windows = BTreeMap<(i64, SessionId), UsedWindow>;

struct UsedWindow {
    /// The id of its row, if it has one.
    id: Option<i64>,
    window: Window,
    used: u64,
    changed: bool,
}

impl Batches {
    pub fn new(parking: Parking, sealing: Option<Sealing>) -> Batches {
        Batches { rooms: HashMap::new(), parking, running: 0, sealing, filling: Filling::default() }
    }

    /// Decides and commits a batch; `now` in running seconds. Returns the decisions in the order of the batch.
    ///
    /// # Errors
    /// Nothing was stored, except that a commit that failed in its last step may reappear after a crash.
    pub fn commit(&mut self, conn: &Connection, batch: &[Write], now: u64) -> rusqlite::Result<Vec<Decision>> {
        roll_back(conn);
        let result = self.transact(conn, batch, now);
        if result.is_err() {
            roll_back(conn);
            self.rooms.clear();
            self.parking.forget();
        } else if now >= self.running + RUNNING_STEP {
            self.running = now;
        }
        if self.rooms.len() > ROOMS {
            self.rooms.clear();
        }
        result
    }

    fn transact(&mut self, conn: &Connection, batch: &[Write], now: u64) -> rusqlite::Result<Vec<Decision>> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut windows = Windows::new();
        let mut changed: Vec<RoomId> = Vec::new();
        let mut decisions = Vec::with_capacity(batch.len());
        {
            let mut insert =
                conn.prepare_cached("INSERT INTO messages (id, at, member, name, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for write in batch {
                let append = match write {
                    Write::Append(append) => append,
                    Write::Park(parked) => {
                        self.parking.park(conn, parked, now, self.sealing.as_mut())?;
                        decisions.push(Decision::Parked);
                        continue;
                    }
                    Write::Claim(claim) => {
                        let parked = self.parking.claim(conn, claim.session, now, self.sealing.as_ref())?;
                        decisions.push(Decision::Claimed(parked.map(Box::new)));
                        continue;
                    }
                    Write::Seek(seek) => {
                        decisions.push(Decision::Sought(self.seek(conn, seek)?));
                        continue;
                    }
                };
                let room = match self.rooms.get_mut(&append.room) {
                    Some(room) => room,
                    None => {
                        let Some(row) = load_room(conn, &append.room)? else {
                            decisions.push(Decision::Refused);
                            continue;
                        };
                        self.rooms.entry(append.room.clone()).or_insert(row)
                    }
                };
                let body = append.body.as_str().as_bytes();
                let key = append.key.map(|key| match &self.sealing {
                    Some(sealing) => sealing.hash(room.id, key, body),
                    None => (key, Digest::of(body)),
                });
                if let Some((key, body)) = key
                    && let Some(seen) = lookup(conn, &mut windows, room.id, key, body, now)?
                {
                    decisions.push(match seen {
                        Seen::Same { seq, at } => Decision::Duplicate { seq, at },
                        Seen::OtherBody => Decision::KeyReused,
                    });
                    continue;
                }
                let sealed = append.sealed.map(|digest| match &self.sealing {
                    Some(sealing) => sealing.sealed_body(room.id, digest),
                    None => digest,
                });
                if let Some(sealed) = sealed
                    && sealed_bodies::holds(conn, room.id, sealed)?
                {
                    decisions.push(Decision::BodyReused);
                    continue;
                }
                let (seq, at) = (room.head.next(), append.at.stamp_after(room.at));
                let Some(id) = message_id(room.id, seq) else {
                    decisions.push(Decision::Refused);
                    continue;
                };
                let member = append.author.member.map(|member| member.as_u64());
                let name = append.author.name.as_str();
                let (name, body) = match &mut self.sealing {
                    Some(sealing) => {
                        let place = message_place(append.room.as_str(), seq, at, member);
                        ("", sealing.message(&place, name.as_bytes(), body)?)
                    }
                    None => (name, body),
                };
                insert.execute(params![id, integer(at.0), member.map(integer), name, body])?;
                if let Some(sealed) = sealed {
                    sealed_bodies::put(conn, id, sealed)?;
                }
                (room.head, room.at) = (seq, at);
                if !room.changed {
                    room.changed = true;
                    changed.push(append.room.clone());
                }
                if let Some((key, body)) = key {
                    let entry = Entry { key: key.key, body, seq, at };
                    remember(conn, &mut windows, room, key.scope, entry, now)?;
                }
                decisions.push(Decision::Stored { seq, at });
            }
        }
        self.write_rooms(conn, &changed)?;
        write_windows(conn, &windows)?;
        if now >= self.running + RUNNING_STEP {
            conn.prepare_cached("UPDATE meta SET running = ?1 WHERE id = 1")?.execute([integer(now)])?;
        }
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(decisions)
    }

    /// Looks for a sealed body in its room, which need not exist yet.
    fn seek(&self, conn: &Connection, seek: &Seek) -> rusqlite::Result<Found> {
        let id = match self.rooms.get(&seek.room) {
            Some(room) => Some(room.id),
            None => conn
                .prepare_cached("SELECT id FROM rooms WHERE name = ?1")?
                .query_row([seek.room.as_str()], |row| row.get(0))
                .optional()?,
        };
        let Some(room) = id else { return Ok(Found::Nowhere) };
        let digest = match &self.sealing {
            Some(sealing) => sealing.sealed_body(room, seek.sealed),
            None => seek.sealed,
        };
        Ok(if sealed_bodies::holds(conn, room, digest)? { Found::Kept } else { Found::Nowhere })
    }

    /// Indexes the sealed bodies of the next few messages that are older than the index. Returns whether there are
    /// more.
    pub fn fill(&mut self, conn: &Connection, digest: fn(&str) -> Option<Digest>) -> rusqlite::Result<bool> {
        self.filling.step(conn, self.sealing.as_ref(), digest)
    }

    fn write_rooms(&mut self, conn: &Connection, changed: &[RoomId]) -> rusqlite::Result<()> {
        let mut update = conn.prepare_cached("UPDATE rooms SET head = ?2, at = ?3, common = ?4 WHERE id = ?1")?;
        for name in changed {
            if let Some(room) = self.rooms.get_mut(name) {
                update.execute([room.id, integer(room.head.0), integer(room.at.0), integer(room.common)])?;
                room.changed = false;
            }
        }
        Ok(())
    }
}

/// Rolls back a transaction that a failure has left open, if any. SQLite itself rolls back after some errors and not
/// after others (<https://www.sqlite.org/lang_transaction.html>). If the rollback fails, the next batch tries it again
/// first.
pub(super) fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
}

/// Loads the room's row, adding it if the room is new; `None` if there is no id left for it.
fn load_room(conn: &Connection, name: &RoomId) -> rusqlite::Result<Option<Room>> {
    let found = conn
        .prepare_cached("SELECT id, head, at, common FROM rooms WHERE name = ?1")?
        .query_row([name.as_str()], |row| {
            Ok(Room {
                id: row.get(0)?,
                head: Seq(number(row.get(1)?)),
                at: WallMillis(number(row.get(2)?)),
                common: number(row.get(3)?),
                changed: false,
            })
        })
        .optional()?;
    if found.is_some() {
        return Ok(found);
    }
    let mut insert = conn.prepare_cached("INSERT INTO rooms (name, head, at, common) VALUES (?1, 0, 0, 0)")?;
    match insert.execute([name.as_str()]) {
        Ok(_) => {
            let id = conn.last_insert_rowid();
            Ok(Some(Room { id, head: Seq::ZERO, at: WallMillis(0), common: 0, changed: false }))
        }
        // The CHECK on the id failed, which undoes this statement only.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks a key up in the batch's own transaction, which also detects equal keys within one batch.
fn lookup(
    conn: &Connection,
    windows: &mut Windows,
    room: i64,
    key: ScopedKey,
    body: Digest,
    now: u64,
) -> rusqlite::Result<Option<Seen>> {
    match key.scope {
        Scope::Session(session) => {
            let entry = window(conn, windows, room, session, now)?;
            let seen = entry.window.lookup(key.key, body);
            if seen.is_some() && now >= entry.used + TOUCH {
                (entry.used, entry.changed) = (now, true);
            }
            Ok(seen)
        }
        Scope::Common => conn
            .prepare_cached("SELECT body, seq, at FROM common_keys WHERE room = ?1 AND key = ?2")?
            .query_row(params![room, key.key.0.0], |row| {
                let entry = Entry {
                    key: key.key,
                    body: Digest(row.get(0)?),
                    seq: Seq(number(row.get(1)?)),
                    at: WallMillis(number(row.get(2)?)),
                };
                Ok(entry.compare(body))
            })
            .optional(),
    }
}

/// Returns a sender's window, loading it at most once in a transaction.
fn window<'a>(
    conn: &Connection,
    windows: &'a mut Windows,
    room: i64,
    session: SessionId,
    now: u64,
) -> rusqlite::Result<&'a mut UsedWindow> {
    use std::collections::btree_map::Entry::{Occupied, Vacant};
    match windows.entry((room, session)) {
        Occupied(entry) => Ok(entry.into_mut()),
        Vacant(entry) => {
            let found = conn
                .prepare_cached("SELECT id, used, entries FROM keys WHERE room = ?1 AND session = ?2")?
                .query_row(params![room, session.0], |row| {
                    Ok(UsedWindow {
                        id: row.get(0)?,
                        used: number(row.get(1)?),
                        window: Window::from_bytes(row.get_ref(2)?.as_blob()?),
                        changed: false,
                    })
                })
                .optional()?;
            let new = UsedWindow { id: None, used: now, window: Window::default(), changed: false };
            Ok(entry.insert(found.unwrap_or(new)))
        }
    }
}

/// Adds a new key, after [`lookup`] has found nothing.
fn remember(
    conn: &Connection,
    windows: &mut Windows,
    room: &mut Room,
    scope: Scope,
    entry: Entry,
    now: u64,
) -> rusqlite::Result<()> {
    match scope {
        Scope::Session(session) => {
            let used = window(conn, windows, room.id, session, now)?;
            used.window.push(entry);
            (used.used, used.changed) = (now, true);
        }
        Scope::Common => {
            if room.common >= COMMON as u64 {
                let gone = conn
                    .prepare_cached(
                        "DELETE FROM common_keys WHERE room = ?1
                         AND seq = (SELECT min(seq) FROM common_keys WHERE room = ?1)",
                    )?
                    .execute([room.id])?;
                room.common = room.common.saturating_sub(gone as u64);
            }
            conn.prepare_cached("INSERT INTO common_keys (room, key, body, seq, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![room.id, entry.key.0.0, entry.body.0, integer(entry.seq.0), integer(entry.at.0)])?;
            room.common += 1;
        }
    }
    Ok(())
}

fn write_windows(conn: &Connection, windows: &Windows) -> rusqlite::Result<()> {
    let mut update = conn.prepare_cached("UPDATE keys SET used = ?2, entries = ?3 WHERE id = ?1")?;
    let mut insert = conn.prepare_cached("INSERT INTO keys (room, session, used, entries) VALUES (?1, ?2, ?3, ?4)")?;
    for ((room, session), used) in windows.iter().filter(|(_, used)| used.changed) {
        let (at, entries) = (integer(used.used), used.window.as_bytes());
        match used.id {
            Some(id) => update.execute(params![id, at, entries])?,
            None => insert.execute(params![room, session.0, at, entries])?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::prune::Prune;
    use super::super::schema::migrate;
    use super::*;
    use crate::store::samples::{ALICE, keyed};

    const DAY: u64 = 86_400;
    const WEEK: u64 = 7 * DAY;

    fn log() -> (Connection, Batches) {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        conn.execute(
            "INSERT OR REPLACE INTO meta (id, epoch, clean, boot, durability, running) VALUES (1, 'e', 0, '', 'full', 0)",
            [],
        )
        .unwrap();
        (conn, Batches::new(Parking::new(10, WEEK), None))
    }

    /// Sends a message with this key at `now`, after the upkeep has dropped windows that are too old.
    fn send(conn: &Connection, batches: &mut Batches, key: u64, now: u64) -> Decision {
        Prune::default().step(conn, now, WEEK).unwrap();
        let append = keyed("r", &key.to_string(), ALICE, &format!("key-{key}"));
        batches.commit(conn, &[Write::Append(append)], now).unwrap().remove(0)
    }

    /// `park-for` counts from the last use: a sender that is busy for weeks loses no key.
    #[test]
    fn new_keys_renew_the_window_of_their_sender() {
        let (conn, mut batches) = log();
        for day in 0..30 {
            assert!(matches!(send(&conn, &mut batches, day, day * DAY), Decision::Stored { .. }));
        }
        // The first key is a month old, but among the last 64.
        assert!(matches!(send(&conn, &mut batches, 0, 30 * DAY), Decision::Duplicate { seq: Seq(1), .. }));
    }

    #[test]
    fn repeats_renew_the_window_of_their_sender() {
        let (conn, mut batches) = log();
        assert!(matches!(send(&conn, &mut batches, 1, 0), Decision::Stored { .. }));
        for day in 1..30 {
            let decision = send(&conn, &mut batches, 1, day * DAY);
            assert!(matches!(decision, Decision::Duplicate { seq: Seq(1), .. }), "on day {day}: {decision:?}");
        }
        let after = send(&conn, &mut batches, 1, 29 * DAY + WEEK + 1);
        assert!(matches!(after, Decision::Stored { .. }), "a week without use is its end: {after:?}");
    }

    /// A crash loses at most a minute of the running seconds, not all since the start.
    #[test]
    fn running_seconds_are_stored_while_running() {
        let (conn, mut batches) = log();
        for now in (0..600).step_by(20) {
            send(&conn, &mut batches, now, now);
            let stored = conn.query_row("SELECT running FROM meta", [], |row| row.get::<_, i64>(0)).unwrap();
            let lag = now - number(stored);
            assert!(lag <= RUNNING_STEP, "{lag} seconds behind at {now}");
        }
    }
}
