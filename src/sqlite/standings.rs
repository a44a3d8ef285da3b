//! The table of what became of sessions that were in a room: ended, or the highest generation of their tokens that was
//! presented. One row each, found by half a digest of the session's id. Which network a row of this run belongs to is
//! known in memory alone, where the oldest of the largest gives way; rows of earlier runs count as one network.
//! Independent of threads, files and clocks.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::schema::{integer, number};
use super::sealing::Sealing;
use crate::store::{Holder, Holders, Mark, Standing, Victim};
use crate::types::{Digest, SessionId};

/// Size of a row in bytes, in a tree whose rows come in no order: its pages are two thirds full.
pub(super) const ROW: u64 = 40;

/// Maximum number of rows that one commit or one sweep deletes or looks at.
const STEP: u64 = 4_096;

/// How many rows are looked at for one of an earlier run.
const TRIES: u32 = 64;

/// How much longer than its session's tokens a row is kept, in running seconds: what a crash sets these back, and more.
const LONGER: u64 = 120;

/// The table `standings`.
pub(super) struct Standings {
    /// Maximum number of rows.
    pub max: u64,
    holders: Holders<i64>,
    /// The rows of earlier runs; `None` if not counted yet.
    earlier: Option<u64>,
    /// The id behind which the next row of an earlier run is looked for, and where the sweep goes on.
    from: i64,
    swept: i64,
    /// What the transaction does, which holds once it is committed.
    put: Vec<(i64, Holder, Row)>,
    /// Rows of this run that it deletes, with their networks.
    gone: Vec<(i64, Holder)>,
    gone_earlier: u64,
}

/// Whether a row was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    New,
    Known,
}

impl Standings {
    pub fn new(max: u64) -> Standings {
        Standings {
            max,
            holders: Holders::default(),
            earlier: None,
            from: i64::MIN,
            swept: i64::MIN,
            put: Vec::new(),
            gone: Vec::new(),
            gone_earlier: 0,
        }
    }

    /// Returns what became of a session, as far as that is known.
    pub fn of(conn: &Connection, session: SessionId, sealing: Option<&Sealing>) -> rusqlite::Result<Option<Standing>> {
        row(conn, id_of(session, sealing))
    }

    /// Records what became of a session, unless something later is known.
    pub fn put(&mut self, conn: &Connection, mark: &Mark, now: u64, sealing: Option<&Sealing>) -> rusqlite::Result<()> {
        let id = id_of(mark.session, sealing);
        let known = row(conn, id)?;
        if known >= Some(mark.standing) {
            return Ok(());
        }
        let generation = match mark.standing {
            Standing::Presented(generation) => Some(generation),
            Standing::Ended => None,
        };
        let sql = "INSERT INTO standings (id, at, generation) VALUES (?1, ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET at = excluded.at, generation = excluded.generation";
        conn.prepare_cached(sql)?.execute(params![id, integer(now), generation])?;
        self.put.push((id, mark.holder, if known.is_some() { Row::Known } else { Row::New }));
        Ok(())
    }

    /// Deletes rows beyond the limit, at the beginning of a transaction that may add some.
    pub fn trim(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut earlier = self.earlier(conn)?;
        let mut delete = conn.prepare_cached("DELETE FROM standings WHERE id = ?1")?;
        let held = |earlier: u64, holders: &Holders<i64>| earlier + holders.len() as u64;
        for _ in 0..STEP {
            if held(earlier, &self.holders) <= self.max {
                break;
            }
            match self.holders.next_victim(earlier) {
                Some(Victim::Other) => {
                    let Some(id) = self.next_earlier(conn)? else { continue };
                    delete.execute([id])?;
                    earlier -= 1;
                    self.earlier = Some(earlier);
                    self.gone_earlier += 1;
                }
                Some(Victim::Record(id, holder)) => {
                    self.gone.push((id, holder));
                    delete.execute([id])?;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Notes that the transaction was committed.
    pub fn committed(&mut self) {
        for (id, holder, row) in self.put.drain(..) {
            if row == Row::Known && !self.holders.contains(&id) {
                self.earlier = self.earlier.map(|earlier| earlier.saturating_sub(1));
            }
            self.holders.put(id, holder);
        }
        self.gone.clear();
        self.gone_earlier = 0;
    }

    /// Notes that it was not.
    pub fn failed(&mut self) {
        self.put.clear();
        for (id, holder) in self.gone.drain(..) {
            self.holders.put(id, holder);
        }
        self.earlier = self.earlier.map(|earlier| earlier + self.gone_earlier);
        self.gone_earlier = 0;
    }

    /// Deletes some of the rows that are older than `keep` running seconds. Returns how many it deleted.
    pub fn sweep(&mut self, conn: &Connection, now: u64, keep: u64) -> rusqlite::Result<usize> {
        let Some(oldest) = now.checked_sub(keep.saturating_add(LONGER)) else { return Ok(0) };
        let mut step = conn.prepare_cached("SELECT id FROM standings WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?;
        let last: Option<i64> = step.query_row([self.swept, integer(STEP - 1)], |row| row.get(0)).optional()?;
        let upto = last.unwrap_or(i64::MAX);
        let mut old =
            conn.prepare_cached("DELETE FROM standings WHERE id > ?1 AND id <= ?2 AND at < ?3 RETURNING id")?;
        let gone: Vec<i64> =
            old.query_map([self.swept, upto, integer(oldest)], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for id in &gone {
            if !self.holders.remove(id) {
                self.earlier = self.earlier.map(|earlier| earlier.saturating_sub(1));
            }
        }
        self.swept = if last.is_some() { upto } else { i64::MIN };
        Ok(gone.len())
    }

    /// Returns the number of rows of earlier runs.
    fn earlier(&mut self, conn: &Connection) -> rusqlite::Result<u64> {
        if let Some(earlier) = self.earlier {
            return Ok(earlier);
        }
        let rows = conn.query_row("SELECT count(*) FROM standings", [], |row| row.get(0)).map(number)?;
        let earlier = rows.saturating_sub(self.holders.len() as u64);
        self.earlier = Some(earlier);
        Ok(earlier)
    }

    /// Returns the next row of an earlier run, in no particular order; `None` if the next few are of this one.
    fn next_earlier(&mut self, conn: &Connection) -> rusqlite::Result<Option<i64>> {
        let mut next = conn.prepare_cached("SELECT id FROM standings WHERE id > ?1 ORDER BY id LIMIT 1")?;
        for _ in 0..TRIES {
            match next.query_row([self.from], |row| row.get::<_, i64>(0)).optional()? {
                Some(id) => self.from = id,
                None if self.from == i64::MIN => return Ok(None),
                None => self.from = i64::MIN,
            }
            let is_row = self.from != i64::MIN;
            if is_row && !self.holders.contains(&self.from) {
                return Ok(Some(self.from));
            }
        }
        Ok(None)
    }
}

fn row(conn: &Connection, id: i64) -> rusqlite::Result<Option<Standing>> {
    let found = conn
        .prepare_cached("SELECT generation FROM standings WHERE id = ?1")?
        .query_row([id], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(found.map(|generation| match generation {
        // What is no generation is damaged.
        Some(generation) => Standing::Presented(u32::try_from(generation).unwrap_or(0)),
        None => Standing::Ended,
    }))
}

/// Returns the id of a session's row: half a digest, which in a sealed database nobody can make without the key.
fn id_of(session: SessionId, sealing: Option<&Sealing>) -> i64 {
    let digest = sealing.map_or_else(|| Digest::of(&session.0), |sealing| sealing.session(session));
    let (half, _) = digest.0.split_at(size_of::<i64>());
    half.iter().fold(0, |id, byte| id << 8 | i64::from(*byte))
}
