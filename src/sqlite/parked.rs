//! The table of parked sessions: inserts, claims and expires them. Ages are in running seconds. Independent of threads,
//! files and clocks.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::schema::{integer, number};
use super::sealing::{Sealing, open_parked};
use crate::store::Parked;
use crate::types::{MemberId, Name, RoomId, Seq, SessionId};

/// Maximum number of rows that one sweep deletes.
const ROWS: i64 = 500;

/// The table `parked`. Ids rise with the time of parking, so the oldest rows come first.
pub(super) struct Parking {
    /// Maximum number of rows.
    pub max: u64,
    /// How long a row is kept, in running seconds.
    pub keep: u64,
    /// Number of rows; `None` if not known.
    count: Option<u64>,
}

impl Parking {
    pub fn new(max: u64, keep: u64) -> Parking {
        Parking { max, keep, count: None }
    }

    /// Parks a session, replacing its earlier row if there is one; `now` in running seconds. If the table is full,
    /// deletes up to two of the oldest rows for each new one, so that a lowered limit is reached without one long step.
    pub fn park(
        &mut self,
        conn: &Connection,
        parked: &Parked,
        now: u64,
        sealing: Option<&mut Sealing>,
    ) -> rusqlite::Result<()> {
        let before = self.count(conn)?;
        let replaced = delete(conn, parked.session)?;
        let mut insert = conn.prepare_cached(
            "INSERT INTO parked (session, at, member, name, generation, rooms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        match sealing {
            Some(sealing) => insert.execute(params![
                parked.session.0,
                integer(now),
                0,
                "",
                0,
                // The time exactly as it is stored in the row.
                sealing.parked(parked, number(integer(now)))?
            ])?,
            None => insert.execute(params![
                parked.session.0,
                integer(now),
                integer(parked.member.as_u64()),
                parked.name.as_str(),
                parked.generation,
                encode(&parked.rooms),
            ])?,
        };
        let count = (before + 1).saturating_sub(replaced);
        let extra = count.saturating_sub(self.max).min(2);
        self.count = Some(count - drop_oldest(conn, extra)?.min(count));
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
        self.count = self.count.map(|count| count.saturating_sub(gone));
        Ok(parked.filter(|_| at.saturating_add(self.keep) >= now))
    }

    /// Deletes some of the rows beyond the age or the number limit. Returns how many it deleted.
    pub fn sweep(&mut self, conn: &Connection, now: u64) -> rusqlite::Result<usize> {
        let count = self.count(conn)?;
        let mut gone = 0;
        if let Some(before) = now.checked_sub(self.keep) {
            // Ids rise with the time of parking, so the id range is limited before the ages are compared.
            gone += conn
                .prepare_cached(
                    "DELETE FROM parked WHERE at < ?1 AND id IN (SELECT id FROM parked ORDER BY id LIMIT ?2)",
                )?
                .execute([integer(before), ROWS])? as u64;
        }
        let extra = count.saturating_sub(gone).saturating_sub(self.max).min(ROWS.unsigned_abs());
        gone += drop_oldest(conn, extra)?;
        self.count = Some(count.saturating_sub(gone));
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }

    /// Forgets the count after a rollback.
    pub fn forget(&mut self) {
        self.count = None;
    }

    fn count(&mut self, conn: &Connection) -> rusqlite::Result<u64> {
        match self.count {
            Some(count) => Ok(count),
            None => {
                let count = number(conn.query_row("SELECT count(*) FROM parked", [], |row| row.get(0))?);
                self.count = Some(count);
                Ok(count)
            }
        }
    }
}

fn delete(conn: &Connection, session: SessionId) -> rusqlite::Result<u64> {
    Ok(conn.prepare_cached("DELETE FROM parked WHERE session = ?1")?.execute([session.0])? as u64)
}

fn drop_oldest(conn: &Connection, rows: u64) -> rusqlite::Result<u64> {
    if rows == 0 {
        return Ok(0);
    }
    let sql = "DELETE FROM parked WHERE id IN (SELECT id FROM parked ORDER BY id LIMIT ?1)";
    Ok(conn.prepare_cached(sql)?.execute([integer(rows)])? as u64)
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
        assert_eq!((parking.count, count(&conn)), (Some(10), 10));
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
        parking.forget();
        parking.max = 0;
        parking.park(&conn, &parked(2), 1, None).unwrap();
        assert_eq!((parking.count, count(&conn)), (Some(598), 598));
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
