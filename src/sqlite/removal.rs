//! Making and removing the rows of rooms. A room that has no message, no key and no parked session, and that nobody has
//! used for as long as a session stays parked, is proposed to the hub; if nobody is in it, it is removed, after another
//! look in the transaction that does it. Its id is given to another room later. A room that comes anew under its name
//! begins at seq 1, under another epoch. Independent of threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::schema::{ROOM_IDS, integer, last_id, number};
use crate::store::{Parked, use_recorded_after};
use crate::types::{Digest, Era, RoomId, Seq};

/// Maximum number of rooms that are proposed at once.
pub(super) const PROPOSED: usize = 64;

/// Number of counters of removals. All of them would take some 50 MB; a small database has fewer. If two names share
/// one, the removal of one room gives the other another epoch, if that was never written to and nobody is in it:
/// whoever comes back to it is told that something may be lost, though nothing is.
const PLACES: u64 = 1 << 22;

/// The place of the counter from which all others go on, also those that are not stored: what gave way is never more.
const LEAST: i64 = PLACES as i64;

/// Number of counters that give way together.
const GIVING: u32 = 64;

/// Returns which counter counts the removals of rooms of this name.
fn place(name: &RoomId) -> i64 {
    let Digest(digest) = Digest::of(name.as_str().as_bytes());
    let [a, b, c, d, ..] = digest;
    integer(u64::from(u32::from_le_bytes([a, b, c, d])) % PLACES)
}

/// Returns the era of a room that would get its first message now.
pub(super) fn era(conn: &Connection, name: &RoomId) -> rusqlite::Result<Era> {
    let removed: Option<i64> = conn
        .prepare_cached("SELECT max(count) FROM removals WHERE place IN (?1, ?2)")?
        .query_row([place(name), LEAST], |row| row.get(0))?;
    Ok(Era(number(removed.unwrap_or(0))))
}

/// Returns the id that the next new room gets: that of a removed one, or the next that none ever had.
fn next_id(conn: &Connection) -> rusqlite::Result<i64> {
    let free: Option<i64> = conn
        .prepare_cached("SELECT id FROM free_rooms ORDER BY id LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    match free {
        Some(id) => Ok(id),
        None => conn.prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM rooms")?.query_row([], |row| row.get(0)),
    }
}

/// Returns whether no further room is accepted, since there are `most`: the least id that is free comes next, so ids up
/// to `most` are enough for as many rooms. Where there were more before `most` was lowered, a new room may have a low
/// id that became free, but those with greater ones only go.
pub(super) fn is_full(conn: &Connection, most: u64) -> rusqlite::Result<bool> {
    Ok(number(next_id(conn)?) > most.min(ROOM_IDS))
}

/// Adds the row of a new room, and returns its id and era; `None` if there are `most` rooms. `told` is the era that its
/// members were told.
pub(super) fn make(
    conn: &Connection,
    name: &RoomId,
    most: u64,
    told: Option<Era>,
) -> rusqlite::Result<Option<(i64, Era)>> {
    let id = next_id(conn)?;
    if number(id) > most.min(ROOM_IDS) {
        return Ok(None);
    }
    let era = match told {
        Some(era) => era,
        None => era(conn, name)?,
    };
    conn.prepare_cached("DELETE FROM free_rooms WHERE id = ?1")?.execute([id])?;
    // Its first message comes in this transaction. Until then `oldest` is not NULL, so that the index of empty rooms
    // need not be written.
    conn.prepare_cached("INSERT INTO rooms (id, name, head, at, common, oldest, era) VALUES (?1, ?2, 0, 0, 0, 0, ?3)")?
        .execute(params![id, name.as_str(), integer(era.0)])?;
    Ok(Some((id, era)))
}

/// Records that an empty room is used at this running second, unless the record is young. `keep` is how long keys and
/// parked sessions are kept, in running seconds.
pub(super) fn note_use(conn: &Connection, name: &RoomId, now: u64, keep: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET used = ?2 WHERE name = ?1 AND oldest IS NULL AND used <= ?3")?
        .execute(params![name.as_str(), integer(now), integer(now.saturating_sub(use_recorded_after(keep)))])
        .map(drop)
}

/// Records that the rooms of a session are used, which is parked now or comes back.
pub(super) fn note_parked(conn: &Connection, parked: &Parked, now: u64, keep: u64) -> rusqlite::Result<()> {
    parked.rooms.iter().try_for_each(|(room, _)| note_use(conn, room, now, keep))
}

/// Returns the last running second of use before which an empty room goes; `None` if that is before all.
fn unused_before(now: u64, keep: u64) -> Option<u64> {
    now.checked_sub(keep.saturating_add(use_recorded_after(keep)))
}

/// Returns rooms that may be removed, those that were unused for longest first.
pub(super) fn propose(conn: &Connection, now: u64, keep: u64) -> rusqlite::Result<Vec<RoomId>> {
    let Some(before) = unused_before(now, keep) else { return Ok(Vec::new()) };
    let transaction = conn.unchecked_transaction()?;
    let found: Vec<(i64, String)> = conn
        .prepare_cached("SELECT id, name FROM rooms WHERE oldest IS NULL AND used < ?1 ORDER BY used LIMIT ?2")?
        .query_map([integer(before), PROPOSED as i64], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut proposed = Vec::new();
    for (id, name) in found {
        match RoomId::parse(&name) {
            Some(name) if !has_keys(conn, id)? => proposed.push(name),
            // Looked at again later, so that it does not stand before others.
            _ => drop(conn.prepare_cached("UPDATE rooms SET used = ?2 WHERE id = ?1")?.execute([id, integer(before)])?),
        }
    }
    transaction.commit()?;
    Ok(proposed)
}

/// The counters of removals.
pub(super) struct Removals {
    /// Maximum number of counters.
    pub max: u64,
    /// Number of counters; `None` if not known.
    pub count: Option<u64>,
}

impl Default for Removals {
    fn default() -> Removals {
        Removals { max: PLACES, count: None }
    }
}

impl Removals {
    /// Removes a room, if it still may go. Returns its id if it is gone.
    pub fn remove(&mut self, conn: &Connection, name: &RoomId, now: u64, keep: u64) -> rusqlite::Result<Option<i64>> {
        let gone = remove(conn, name, now, keep)?;
        if gone.is_some() {
            self.count_removal(conn, place(name))?;
        }
        Ok(gone)
    }

    fn count_removal(&mut self, conn: &Connection, place: i64) -> rusqlite::Result<()> {
        let is_new = !conn.prepare_cached("SELECT count FROM removals WHERE place = ?1")?.exists([place])?;
        conn.prepare_cached(
            "INSERT INTO removals (place, count)
             VALUES (?1, coalesce((SELECT max(count) FROM removals WHERE place IN (?1, ?2)), 0) + 1)
             ON CONFLICT (place) DO UPDATE SET count = excluded.count",
        )?
        .execute([place, LEAST])?;
        if self.max >= PLACES {
            self.count = None;
            return Ok(());
        }
        let count = match self.count {
            Some(count) => count + u64::from(is_new),
            None => number(conn.query_row("SELECT count(*) FROM removals", [], |row| row.get(0))?),
        };
        self.count = Some(if count > self.max { count.saturating_sub(give_way(conn)?) } else { count });
        Ok(())
    }
}

/// Deletes some counters, after the least one has taken over the greatest of them. Returns how many went.
fn give_way(conn: &Connection) -> rusqlite::Result<u64> {
    let giving: Vec<(i64, i64)> = conn
        .prepare_cached("SELECT place, count FROM removals WHERE place < ?1 ORDER BY place LIMIT ?2")?
        .query_map([LEAST, i64::from(GIVING)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let (Some((last, _)), Some(greatest)) = (giving.last(), giving.iter().map(|(_, count)| count).max()) else {
        return Ok(0);
    };
    conn.prepare_cached(
        "INSERT INTO removals (place, count) VALUES (?1, ?2)
         ON CONFLICT (place) DO UPDATE SET count = max(count, excluded.count)",
    )?
    .execute([LEAST, *greatest])?;
    Ok(conn.prepare_cached("DELETE FROM removals WHERE place <= ?1")?.execute([last])? as u64)
}

/// Removes the row of a room, if it still may go. Returns its id if it is gone.
fn remove(conn: &Connection, name: &RoomId, now: u64, keep: u64) -> rusqlite::Result<Option<i64>> {
    let found: Option<(i64, Option<i64>, i64)> = conn
        .prepare_cached("SELECT id, oldest, used FROM rooms WHERE name = ?1")?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (Some((id, None, used)), Some(before)) = (found, unused_before(now, keep)) else { return Ok(None) };
    let used = number(used);
    if used >= before || is_parked_in(conn, used, keep)? || has_keys(conn, id)? || has_messages(conn, id)? {
        return Ok(None);
    }
    conn.prepare_cached("DELETE FROM rooms WHERE id = ?1")?.execute([id])?;
    conn.prepare_cached("INSERT INTO free_rooms (id) VALUES (?1)")?.execute([id])?;
    Ok(Some(id))
}

/// Returns whether a parked session may name a room that was last used then: parking is a use.
fn is_parked_in(conn: &Connection, used: u64, keep: u64) -> rusqlite::Result<bool> {
    let first: Option<i64> =
        conn.prepare_cached("SELECT at FROM parked ORDER BY id LIMIT 1")?.query_row([], |row| row.get(0)).optional()?;
    Ok(first.is_some_and(|at| number(at) <= used.saturating_add(use_recorded_after(keep))))
}

/// Returns whether a room has keys. Those that are not used for long are deleted by themselves.
fn has_keys(conn: &Connection, room: i64) -> rusqlite::Result<bool> {
    let mut windows = conn.prepare_cached("SELECT id FROM keys WHERE room = ?1 ORDER BY session LIMIT 1")?;
    let mut common = conn.prepare_cached("SELECT seq FROM common_keys WHERE room = ?1 ORDER BY seq LIMIT 1")?;
    Ok(windows.exists([room])? || common.exists([room])?)
}

fn has_messages(conn: &Connection, room: i64) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT id FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1")?
        .exists([last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::schema::migrate;
    use super::*;

    /// Rooms come and go without end. Few counters are kept, and yet no room comes under an era that it had.
    #[test]
    fn counters_give_way_and_no_era_comes_again() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let mut removals = Removals { max: 200, count: None };
        let mut last: HashMap<u64, u64> = HashMap::new();
        for n in 0..6_000_u64 {
            // Some are removed often, others once.
            let number = if n % 3 == 0 { n % 10 } else { n };
            let name = RoomId::parse(&format!("room-{number}")).unwrap();
            let (id, of) = make(&conn, &name, ROOM_IDS, None).unwrap().unwrap();
            let before = last.insert(number, of.0);
            assert!(before.is_none_or(|before| before < of.0), "{number}: {of:?} after {before:?}");
            conn.execute("UPDATE rooms SET oldest = NULL WHERE id = ?1", [id]).unwrap();
            assert_eq!(removals.remove(&conn, &name, 10_000, 1).unwrap(), Some(id));
            let count: i64 = conn.query_row("SELECT count(*) FROM removals", [], |row| row.get(0)).unwrap();
            assert!(count <= 201, "{count}");
            if n % 1_000 == 0 {
                removals.count = None;
            }
        }
        assert!(last.values().any(|era| *era > 100), "the counters that are left go on from those that gave way");
        // A few rooms that come and go have no others give way.
        let count = || conn.query_row("SELECT count(*) FROM removals", [], |row| row.get::<_, i64>(0)).unwrap();
        let before = count();
        assert!((137..=201).contains(&before), "a third at most gives way at once: {before}");
        for n in 0..1_000 {
            let name = RoomId::parse(&format!("room-{}", n % 3)).unwrap();
            let (id, _) = make(&conn, &name, ROOM_IDS, None).unwrap().unwrap();
            conn.execute("UPDATE rooms SET oldest = NULL WHERE id = ?1", [id]).unwrap();
            removals.remove(&conn, &name, 10_000, 1).unwrap();
        }
        assert!(count() + 64 >= before, "{before}, then {}", count());
    }

    #[test]
    fn a_large_database_keeps_all_counters() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let mut removals = Removals::default();
        for n in 0..1_000 {
            let name = RoomId::parse(&format!("room-{n}")).unwrap();
            let (id, of) = make(&conn, &name, ROOM_IDS, None).unwrap().unwrap();
            assert_eq!(of, Era(0), "{n}");
            conn.execute("UPDATE rooms SET oldest = NULL WHERE id = ?1", [id]).unwrap();
            removals.remove(&conn, &name, 10_000, 1).unwrap();
        }
        let count: i64 = conn.query_row("SELECT count(*) FROM removals", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1_000);
    }
}
