//! The table of parked sessions: inserts, claims and expires them. Ages are in running seconds. Independent of threads,
//! files and clocks.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Rows, params};

use super::schema::{integer, number};
use super::sealing::{Sealing, open_parked};
use crate::store::Parked;
use crate::types::{MemberId, Name, RoomId, Seq, SessionId};

/// Maximum number of rows that one sweep deletes.
const ROWS: u64 = 500;

/// Size of a row in bytes with its index entry, but for its name and rooms.
const ROW: u64 = 96;

/// The table `parked`. Ids rise with the time of parking, so the oldest rows come first.
pub(super) struct Parking {
    /// Maximum number of rows.
    pub max: u64,
    /// Maximum size of all rows together, in bytes.
    pub max_bytes: u64,
    /// How long a row is kept, in running seconds.
    pub keep: u64,
    /// What there is; `None` if not known.
    pub held: Option<Held>,
}

/// A number of rows, and their size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    rows: u64,
    bytes: u64,
}

impl Held {
    fn without(self, gone: Held) -> Held {
        Held { rows: self.rows.saturating_sub(gone.rows), bytes: self.bytes.saturating_sub(gone.bytes) }
    }
}

impl Parking {
    pub fn new(max: u64, keep: u64) -> Parking {
        Parking { max, max_bytes: u64::MAX, keep, held: None }
    }

    /// Parks a session, replacing its earlier row if there is one; `now` in running seconds. If the table is full,
    /// deletes some of the oldest rows, but not many more than it adds, so that a lowered limit is reached without one
    /// long step.
    pub fn park(
        &mut self,
        conn: &Connection,
        parked: &Parked,
        now: u64,
        sealing: Option<&mut Sealing>,
    ) -> rusqlite::Result<()> {
        let before = self.held(conn)?;
        let replaced = delete(conn, parked.session)?;
        let mut insert = conn.prepare_cached(
            "INSERT INTO parked (session, at, member, name, generation, rooms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let session = parked.session.0;
        let bytes = match sealing {
            Some(sealing) => {
                // The time exactly as it is stored in the row.
                let sealed = sealing.parked(parked, number(integer(now)))?;
                insert.execute(params![session, integer(now), 0, "", 0, sealed])?;
                ROW + sealed.len() as u64
            }
            None => {
                let (member, name, rooms) =
                    (integer(parked.member.as_u64()), parked.name.as_str(), encode(&parked.rooms));
                insert.execute(params![session, integer(now), member, name, parked.generation, rooms])?;
                ROW + (name.len() + rooms.len()) as u64
            }
        };
        let held = Held { rows: before.rows + 1, bytes: before.bytes.saturating_add(bytes) }.without(replaced);
        self.held = Some(held.without(self.drop_oldest(conn, held, 1 + bytes / ROW)?));
        Ok(())
    }

    /// Removes and returns the session's row; `None` if there is none, or if it is too old or damaged.
    pub fn claim(
        &mut self,
        conn: &Connection,
        session: SessionId,
        now: u64,
        sealing: Option<&Sealing>,
    ) -> rusqlite::Result<Option<Parked>> {
        let found = conn
            .prepare_cached("SELECT at, member, name, generation, rooms FROM parked WHERE session = ?1")?
            .query_row([session.0], |row| {
                let at = number(row.get(0)?);
                let parked = match sealing {
                    Some(sealing) => open_parked(sealing.records(), session, at, row.get_ref(4)?.as_blob()?),
                    None => read(session, row).ok(),
                };
                Ok((at, parked))
            })
            .optional()?;
        let Some((at, parked)) = found else { return Ok(None) };
        let gone = delete(conn, session)?;
        self.held = self.held.map(|held| held.without(gone));
        Ok(parked.filter(|_| at.saturating_add(self.keep) >= now))
    }

    /// Deletes some of the rows beyond the limits of age, number or size. Returns how many it deleted.
    pub fn sweep(&mut self, conn: &Connection, now: u64) -> rusqlite::Result<usize> {
        let before = self.held(conn)?;
        // Known again once all of it is done.
        self.held = None;
        let mut held = before;
        if let Some(oldest) = now.checked_sub(self.keep) {
            // Ids rise with the time of parking, so the id range is limited before the ages are compared.
            let mut old = conn.prepare_cached(
                "DELETE FROM parked WHERE at < ?1 AND id IN (SELECT id FROM parked ORDER BY id LIMIT ?2)
                 RETURNING octet_length(name) + octet_length(rooms)",
            )?;
            held = held.without(sum(old.query([integer(oldest), integer(ROWS)])?)?);
        }
        held = held.without(self.drop_oldest(conn, held, ROWS)?);
        self.held = Some(held);
        Ok(usize::try_from(before.rows - held.rows).unwrap_or(usize::MAX))
    }

    /// Makes sure that it is known what there is.
    pub fn measure(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.held(conn).map(drop)
    }

    fn held(&mut self, conn: &Connection) -> rusqlite::Result<Held> {
        if let Some(held) = self.held {
            return Ok(held);
        }
        let sql = "SELECT count(*), coalesce(sum(octet_length(name) + octet_length(rooms)), 0) FROM parked";
        let (rows, bytes) = conn.query_row(sql, [], |row| Ok((number(row.get(0)?), number(row.get(1)?))))?;
        let held = Held { rows, bytes: bytes.saturating_add(rows.saturating_mul(ROW)) };
        self.held = Some(held);
        Ok(held)
    }

    /// Deletes the oldest rows beyond the limits of number and size, but at most so many.
    fn drop_oldest(&self, conn: &Connection, held: Held, most: u64) -> rusqlite::Result<Held> {
        let mut gone = Held::default();
        if held.rows <= self.max && held.bytes <= self.max_bytes {
            return Ok(gone);
        }
        let mut oldest = conn
            .prepare_cached("SELECT id, octet_length(name) + octet_length(rooms) FROM parked ORDER BY id LIMIT ?1")?;
        let mut rows = oldest.query([integer(most)])?;
        let mut last: Option<i64> = None;
        while let Some(row) = rows.next()? {
            let left = held.without(gone);
            if left.rows <= self.max && left.bytes <= self.max_bytes {
                break;
            }
            last = Some(row.get(0)?);
            gone = Held { rows: gone.rows + 1, bytes: gone.bytes.saturating_add(ROW + number(row.get(1)?)) };
        }
        if let Some(last) = last {
            conn.prepare_cached("DELETE FROM parked WHERE id <= ?1")?.execute([last])?;
        }
        Ok(gone)
    }
}

/// Deletes a session's row. Returns what went.
fn delete(conn: &Connection, session: SessionId) -> rusqlite::Result<Held> {
    let sql = "DELETE FROM parked WHERE session = ?1 RETURNING octet_length(name) + octet_length(rooms)";
    sum(conn.prepare_cached(sql)?.query([session.0])?)
}

/// Sums up deleted rows by what their deletion returns: the bytes of name and rooms.
fn sum(mut rows: Rows<'_>) -> rusqlite::Result<Held> {
    let mut held = Held::default();
    while let Some(row) = rows.next()? {
        held = Held { rows: held.rows + 1, bytes: held.bytes.saturating_add(ROW + number(row.get(0)?)) };
    }
    Ok(held)
}

fn read(session: SessionId, row: &Row) -> rusqlite::Result<Parked> {
    let name = Name::kept(row.get_ref(2)?.as_str()?);
    Ok(Parked {
        session,
        member: MemberId::from_random(number(row.get(1)?)),
        name: name.ok_or_else(|| rusqlite::Error::InvalidColumnType(2, "name".into(), Type::Text))?,
        generation: row.get(3)?,
        rooms: decode(row.get_ref(4)?.as_blob()?),
    })
}

/// Encodes each room as the length of its id, the id, and the seq.
pub(super) fn encode(rooms: &[(RoomId, Seq)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rooms.len() * 24);
    for (room, seq) in rooms {
        // An id has at most 64 characters.
        bytes.push(room.as_str().len() as u8);
        bytes.extend_from_slice(room.as_str().as_bytes());
        bytes.extend_from_slice(&seq.0.to_be_bytes());
    }
    bytes
}

/// Decodes stored bytes. Damaged bytes yield the rooms before the damage.
pub(super) fn decode(bytes: &[u8]) -> Vec<(RoomId, Seq)> {
    let mut rooms = Vec::new();
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first() {
        let Some((id, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        let Some((seq, tail)) = tail.split_first_chunk::<8>() else { break };
        let Some(id) = str::from_utf8(id).ok().and_then(RoomId::parse) else { break };
        rooms.push((id, Seq(u64::from_be_bytes(*seq))));
        rest = tail;
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::super::schema::migrate;
    use super::*;
    use crate::crypto::at_rest::DataKey;
    use crate::crypto::at_rest::LogSalt;
    use crate::store::samples;

    fn parked(n: u8) -> Parked {
        let rooms = (0..n % 3).map(|m| (RoomId::parse(&format!("room-{m}")).unwrap(), Seq(u64::MAX - u64::from(m))));
        Parked {
            session: SessionId([n; 16]),
            member: MemberId::from_random(u64::MAX),
            name: Name::parse("Zoë").unwrap(),
            generation: u32::MAX,
            rooms: rooms.collect(),
        }
    }

    impl Parking {
        fn rows(&self) -> u64 {
            self.held.unwrap().rows
        }
    }

    fn count(conn: &Connection) -> i64 {
        conn.query_row("SELECT count(*) FROM parked", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn rows_expire_by_running_seconds() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let mut parking = Parking::new(1000, 100);
        for n in 0..20 {
            parking.park(&conn, &parked(n), u64::from(n) * 10, None).unwrap();
        }
        assert_eq!(parking.claim(&conn, SessionId([3; 16]), 130, None).unwrap(), Some(parked(3)));
        assert_eq!(parking.claim(&conn, SessionId([3; 16]), 130, None).unwrap(), None, "it was taken out");
        assert_eq!(
            parking.claim(&conn, SessionId([2; 16]), 130, None).unwrap(),
            None,
            "too old, though no sweep was yet"
        );
        assert_eq!(parking.sweep(&conn, 99).unwrap(), 0);
        assert_eq!(parking.sweep(&conn, 200).unwrap(), 8, "0 to 9, without the two that are gone");
        assert_eq!((parking.rows(), count(&conn)), (10, 10));
        // A counter that went back (by at most a minute, after a crash) drops nothing early.
        assert_eq!(parking.sweep(&conn, 150).unwrap(), 0);
    }

    #[test]
    fn a_lowered_bound_is_reached_in_steps() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let mut parking = Parking::new(u64::MAX, 100);
        conn.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO parked SELECT i, randomblob(16), 0, 1, 'x', 1, x'' FROM n;",
        )
        .unwrap();
        parking.max = 600;
        parking.park(&conn, &parked(1), 1, None).unwrap();
        assert_eq!(count(&conn), 1999);
        let steps: Vec<usize> = (0..4).map(|_| parking.sweep(&conn, 1).unwrap()).collect();
        assert_eq!((steps, count(&conn)), (vec![500, 500, 399, 0], 600));
        assert_eq!(parking.claim(&conn, SessionId([1; 16]), 1, None).unwrap(), Some(parked(1)), "the newest stays");
        parking.held = None;
        parking.max = 0;
        parking.park(&conn, &parked(2), 1, None).unwrap();
        assert_eq!((parking.rows(), count(&conn)), (598, 598));
    }

    /// Sessions of many rooms take the place of many.
    #[test]
    fn rows_are_bounded_in_bytes() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        let mut parking = Parking::new(u64::MAX, 100);
        parking.max_bytes = 20 * (ROW + 3);
        let rooms: Vec<String> = (0..16).map(|n| format!("room-{n:05}")).collect();
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        let size = || {
            let sql = "SELECT sum(96 + length(CAST(name AS BLOB)) + length(rooms)) FROM parked";
            number(conn.query_row(sql, [], |row| row.get(0)).unwrap())
        };
        let mut sealing = Sealing::new(&DataKey::new([1; 32]), &LogSalt([2; 16]));
        for n in 0..500 {
            let of = if n % 50 == 9 { &rooms[..] } else { &[] };
            let sealing = (n % 3 == 0).then_some(&mut sealing);
            parking.park(&conn, &samples::session_in(n % 70, of), 1, sealing).unwrap();
            assert!(size() <= parking.max_bytes, "{} after {n}", size());
            assert_eq!(parking.held, Some(Held { rows: count(&conn) as u64, bytes: size() }), "{n}");
        }
        assert!(size() > parking.max_bytes / 2);
        parking.claim(&conn, samples::session_in(499 % 70, &[]).session, 1, None).unwrap();
        parking.max_bytes /= 4;
        parking.sweep(&conn, 1).unwrap();
        assert!(size() <= parking.max_bytes);
        assert_eq!(parking.held, Some(Held { rows: count(&conn) as u64, bytes: size() }));
        parking.sweep(&conn, 200).unwrap();
        assert_eq!((parking.held, count(&conn)), (Some(Held::default()), 0));
    }

    #[test]
    fn damaged_rooms_give_what_is_whole() {
        let rooms = parked(2).rooms;
        let bytes = encode(&rooms);
        assert_eq!(decode(&bytes), rooms);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), rooms[..1]);
        assert_eq!(decode(&[64, 65]), []);
        assert_eq!(decode(b"\x01/\0\0\0\0\0\0\0\0"), [], "no room has this id");
    }
}
