//! Commits many appends in one transaction: decides each (the next seq, or a repeat by its key), then writes the
//! messages, each with its key in its row, and commits. Heads and key windows follow from those rows, and wait in
//! memory for a fold. Sessions are parked and claimed in the same transaction, in order. A batch is stored as a whole
//! or not at all, and nothing in memory ever says more than the database. Independent of threads, files and clocks.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension as _, Statement, params};

use super::fold::{self, Position, Which};
use super::message_key::MessageKey;
use super::oldest::{self, Oldest};
use super::parked::Parking;
use super::removal::{self, Removals};
use super::rounds::Grown;
use super::schema::{ROOM_IDS, integer, message_id, number};
use super::sealed_bodies::{self, Filling};
use super::sealing::{Sealing, message_place};
use super::space::Space;
use super::standings::{ROW, Standings};
use super::unfolded::{Folded, Unfolded};
use super::windows::Windows;
use crate::store::idempotency::Seen;
use crate::store::{Append, Claim, Found, Holder, Mark, Parked, Read, STANDINGS, Seek, Standing, StoreRequest};
use crate::types::{Digest, Era, RoomId, Seq, SessionId, WallMillis};

/// Maximum number of room rows cached between batches. About 150 bytes each.
pub(super) const ROOMS: usize = 4_096;

/// Maximum number of windows that are folded in one transaction because retention waits for their rooms, not counting
/// those of the last room: about 8 ms.
const FOLDED_AT_ONCE: usize = 128;

/// Interval at which the running seconds are stored.
const RUNNING_STEP: u64 = 60;

/// One request in a batch.
pub(super) enum Write {
    Append(Append),
    Park(Parked),
    Claim(Claim),
    Mark(Mark),
    Seek(Seek),
    Use(RoomId),
    Remove(RoomId),
}

impl Write {
    /// Returns whether the caller waits for the answer alone, so that nothing is gained by sharing a commit.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Write::Claim(_) | Write::Seek(_) | Write::Remove(_))
    }

    /// Estimates the number of bytes that the request adds to the database.
    pub fn bytes(&self) -> usize {
        match self {
            Write::Append(append) => append.body.len(),
            Write::Park(parked) => 64 + parked.rooms.len() * 24,
            Write::Mark(_) => ROW as usize,
            Write::Claim(_) | Write::Seek(_) | Write::Use(_) | Write::Remove(_) => 0,
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
            StoreRequest::Mark(mark) => writes.push(Write::Mark(mark)),
            StoreRequest::Seek(seek) => writes.push(Write::Seek(seek)),
            StoreRequest::Use(room) => writes.push(Write::Use(room)),
            StoreRequest::Remove(room) => writes.push(Write::Remove(room)),
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
        era: Era,
    },
    Duplicate {
        seq: Seq,
        at: WallMillis,
        era: Era,
    },
    KeyReused(Era),
    BodyReused(Era),
    /// The room has no seq left for this message.
    Refused,
    /// Its sender has written more than its share.
    OverShare,
    /// This would be one room too many.
    RoomsFull,
    /// There is no such room, and this append may not make it.
    NotMade,
    Parked,
    Claimed(Option<Box<Parked>>, Option<Standing>),
    Marked,
    Sought(Found),
    Used,
    Removed {
        is_gone: bool,
    },
}

/// The writer's memory between batches.
pub(super) struct Batches {
    /// A cache, cleared after each failure.
    rooms: HashMap<RoomId, Room>,
    pub unfolded: Unfolded,
    pub grown: Grown,
    pub space: Space,
    pub parking: Parking,
    pub standings: Standings,
    pub removals: Removals,
    /// Maximum number of rooms.
    pub rooms_max: u64,
    /// The running seconds as last stored.
    running: u64,
    /// Seals stored rows; `None` for a plain database.
    sealing: Option<Sealing>,
    filling: Filling,
}

/// The end of a room's log.
#[derive(Clone, Copy)]
struct Room {
    id: i64,
    head: Seq,
    at: WallMillis,
    /// The oldest message; `None` if the room has none.
    oldest: Option<Seq>,
    era: Era,
}

impl Room {
    fn new((id, era): (i64, Era)) -> Room {
        Room { id, head: Seq::ZERO, at: WallMillis(0), oldest: None, era }
    }
}

/// A message that a batch stores.
struct Added {
    room: i64,
    seq: Seq,
    at: WallMillis,
    oldest: Seq,
    bytes: u64,
    key: Option<MessageKey>,
}

/// What a batch has stored so far, which nobody knows before its commit.
struct Adding {
    windows: Windows,
    added: Vec<Added>,
}

impl Batches {
    pub fn new(parking: Parking, sealing: Option<Sealing>) -> Batches {
        Batches {
            rooms: HashMap::new(),
            unfolded: Unfolded::default(),
            grown: Grown::default(),
            space: Space::default(),
            parking,
            standings: Standings::new(STANDINGS as u64),
            removals: Removals::default(),
            rooms_max: ROOM_IDS,
            running: 0,
            sealing,
            filling: Filling::default(),
        }
    }

    /// Decides and commits a batch; `now` in running seconds. Returns the decisions in the order of the batch: those of
    /// its beginning, at least one, once rooms were taken in and with them `is_enough` waits for a fold.
    ///
    /// # Errors
    /// Nothing was stored, except that a commit that failed in its last step may reappear after a crash.
    pub fn commit(
        &mut self,
        conn: &Connection,
        batch: &[Write],
        now: u64,
        is_enough: impl Fn(&Unfolded) -> bool,
    ) -> rusqlite::Result<Vec<Decision>> {
        roll_back(conn);
        if batch.iter().any(|write| matches!(write, Write::Park(_))) {
            self.parking.measure(conn)?;
        }
        let before = (self.parking.held, self.removals.count);
        let result = self.transact(conn, batch, now, is_enough);
        if let Some(sealing) = &mut self.sealing {
            sealing.drop_nonces();
        }
        if result.is_err() {
            roll_back(conn);
            self.rooms.clear();
            (self.parking.held, self.removals.count) = before;
            self.standings.failed();
        } else {
            self.standings.committed();
            if now >= self.running + RUNNING_STEP {
                self.running = now;
            }
        }
        if self.rooms.len() > ROOMS {
            self.rooms.clear();
        }
        result
    }

    fn transact(
        &mut self,
        conn: &Connection,
        batch: &[Write],
        now: u64,
        is_enough: impl Fn(&Unfolded) -> bool,
    ) -> rusqlite::Result<Vec<Decision>> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.space.measure(conn)?;
        if batch.iter().any(|write| matches!(write, Write::Mark(_))) {
            self.standings.trim(conn)?;
        }
        let before = self.unfolded.rows();
        let mut adding = Adding { windows: Windows::default(), added: Vec::with_capacity(batch.len()) };
        let mut decisions = Vec::with_capacity(batch.len());
        {
            let mut insert = conn.prepare_cached(
                "INSERT INTO messages (id, at, member, name, body, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for write in batch {
                // What the batch itself adds gets there after the commit.
                let has_taken_in = self.unfolded.rows() > before;
                if has_taken_in && self.may_take_in(write) && is_enough(&self.unfolded) {
                    break;
                }
                decisions.push(match write {
                    Write::Append(append) => self.append(conn, &mut insert, append, &mut adding, now)?,
                    Write::Park(parked) => {
                        self.parking.park(conn, parked, now, self.sealing.as_mut())?;
                        removal::note_parked(conn, parked, now, self.parking.keep)?;
                        Decision::Parked
                    }
                    Write::Mark(mark) => {
                        self.standings.put(conn, mark, now, self.sealing.as_ref())?;
                        Decision::Marked
                    }
                    Write::Claim(claim) => self.claim(conn, claim.session, now)?,
                    Write::Seek(seek) => Decision::Sought(self.seek(conn, seek)?),
                    Write::Use(room) => {
                        removal::note_use(conn, room, now, self.parking.keep)?;
                        Decision::Used
                    }
                    Write::Remove(room) => Decision::Removed { is_gone: self.remove(conn, room, now)? },
                });
            }
        }
        let Adding { windows, added } = adding;
        windows.write_renewed(conn, now)?;
        if now >= self.running + RUNNING_STEP {
            conn.prepare_cached("UPDATE meta SET running = ?1 WHERE id = 1")?.execute([integer(now)])?;
        }
        conn.prepare_cached("COMMIT")?.execute([])?;
        // Only now, so that a batch which failed has left nothing in memory.
        for Added { room, seq, at, oldest, bytes, key } in added {
            self.unfolded.add(room, seq, at, bytes, key, now);
            self.grown.note(room, oldest, seq);
        }
        windows.renew_recent(&mut self.unfolded);
        Ok(decisions)
    }

    /// Takes out a parked session. What it says of the session's tokens stays.
    fn claim(&mut self, conn: &Connection, session: SessionId, now: u64) -> rusqlite::Result<Decision> {
        let standing = Standings::of(conn, session, self.sealing.as_ref())?;
        if standing == Some(Standing::Ended) {
            return Ok(Decision::Claimed(None, standing));
        }
        let parked = self.parking.claim(conn, session, now, self.sealing.as_ref())?;
        if let Some(parked) = &parked {
            removal::note_parked(conn, parked, now, self.parking.keep)?;
            if parked.generation > 0 {
                let standing = Standing::Presented(parked.generation);
                let mark = Mark { session, standing, holder: Holder::of(None), asker: None };
                self.standings.put(conn, &mark, now, self.sealing.as_ref())?;
            }
        }
        Ok(Decision::Claimed(parked.map(Box::new), standing))
    }

    /// Returns what became of a session, as far as the database knows.
    pub fn standing(&self, conn: &Connection, session: SessionId) -> rusqlite::Result<Option<Standing>> {
        Standings::of(conn, session, self.sealing.as_ref())
    }

    /// Returns whether a request may have a room taken in.
    fn may_take_in(&self, write: &Write) -> bool {
        matches!(write, Write::Append(append) if !self.rooms.contains_key(&append.room))
    }

    /// Stores a message as its room's next, unless its key or its sealed body is known.
    fn append(
        &mut self,
        conn: &Connection,
        insert: &mut Statement,
        append: &Append,
        adding: &mut Adding,
        now: u64,
    ) -> rusqlite::Result<Decision> {
        let is_over = self.space.is_over(append.ticket.needs);
        let is_refused = is_over && self.space.refuses();
        let room = match self.rooms.get_mut(&append.room) {
            Some(room) => room,
            None => {
                let row = match load_room(conn, &mut self.unfolded, &append.room, now)? {
                    Some(room) => Some(room),
                    None if is_refused => return Ok(Decision::OverShare),
                    None if append.ticket.makes_nothing() => return Ok(Decision::NotMade),
                    None => removal::make(conn, &append.room, self.rooms_max, append.era)?.map(Room::new),
                };
                let Some(row) = row else { return Ok(Decision::RoomsFull) };
                self.rooms.entry(append.room.clone()).or_insert(row)
            }
        };
        let body = append.body.as_str().as_bytes();
        let key = append.key.map(|key| match &self.sealing {
            Some(sealing) => sealing.hash(room.id, key, body),
            None => (key, Digest::of(body)),
        });
        let key = key.map(|(key, body)| MessageKey { key, body });
        if let Some(key) = &key {
            match adding.windows.lookup(conn, &self.unfolded, (room.id, room.head), key, now)? {
                Some(Seen::Same { seq, at }) => return Ok(Decision::Duplicate { seq, at, era: room.era }),
                Some(Seen::OtherBody) => return Ok(Decision::KeyReused(room.era)),
                None => {}
            }
        }
        if is_refused {
            return Ok(Decision::OverShare);
        }
        let sealed = append.sealed.map(|digest| match &self.sealing {
            Some(sealing) => sealing.sealed_body(room.id, digest),
            None => digest,
        });
        if let Some(sealed) = sealed
            && sealed_bodies::holds(conn, room.id, sealed)?
        {
            return Ok(Decision::BodyReused(room.era));
        }
        let (seq, at) = (room.head.next(), append.at.stamp_after(room.at));
        let Some(id) = message_id(room.id, seq) else { return Ok(Decision::Refused) };
        let member = append.author.member.map(|member| member.as_u64());
        let name = append.author.name.as_str();
        let (name, body) = match &mut self.sealing {
            Some(sealing) => {
                let place = message_place((append.room.as_str(), room.era), seq, at, member);
                ("", sealing.message(&place, name.as_bytes(), body)?)
            }
            None => (name, body),
        };
        let key_bytes = key.as_ref().map(MessageKey::encode);
        let key_bytes = key_bytes.as_ref().map(|bytes| bytes.as_slice());
        insert.execute(params![id, integer(at.0), member.map(integer), name, body, key_bytes])?;
        self.space.stored(room.id, room.oldest.is_none(), is_over);
        self.space.add(body.len());
        let oldest = match room.oldest {
            Some(oldest) => oldest,
            None => oldest::put(conn, room.id, Oldest { seq, at }).map(|()| seq)?,
        };
        room.oldest = Some(oldest);
        if let Some(sealed) = sealed {
            sealed_bodies::put(conn, id, sealed)?;
        }
        (room.head, room.at) = (seq, at);
        if let Some(key) = &key {
            adding.windows.remember(room.id, key, seq, at);
        }
        adding.added.push(Added { room: room.id, seq, at, oldest, bytes: body.len() as u64, key });
        Ok(Decision::Stored { seq, at, era: room.era })
    }

    /// Forgets what is cached of these rooms: their rows have changed.
    pub fn forget_rooms(&mut self, changed: &[i64]) {
        if !changed.is_empty() {
            let changed: BTreeSet<i64> = changed.iter().copied().collect();
            self.rooms.retain(|_, room| !changed.contains(&room.id));
        }
    }

    /// Forgets the cached rooms.
    #[cfg(test)]
    pub fn clear_cache(&mut self) {
        self.rooms.clear();
    }

    /// Writes the next piece of a fold in a transaction of its own. Returns where to go on; `None` at the end.
    ///
    /// # Errors
    /// Nothing was written, or it will be written once more, which changes nothing.
    pub fn fold(&mut self, conn: &Connection, from: Position) -> rusqlite::Result<Option<Position>> {
        self.fold_in_transaction(conn, |unfolded| {
            let (folded, next) = fold::piece(conn, unfolded, Which::All, from)?;
            Ok((vec![folded], next))
        })
    }

    /// Folds these rooms alone, in one transaction: all of each, as far as a few pieces go.
    ///
    /// # Errors
    /// As for [`Batches::fold`].
    pub fn fold_rooms(&mut self, conn: &Connection, rooms: &[i64]) -> rusqlite::Result<()> {
        self.fold_in_transaction(conn, |unfolded| {
            let mut written = Vec::new();
            let mut windows = 0;
            for room in rooms {
                let (folded, next) = fold::piece(conn, unfolded, Which::Room(*room), Position::of_room(*room))?;
                windows += folded.windows.len();
                written.push(folded);
                if next.is_some() || windows >= FOLDED_AT_ONCE {
                    break;
                }
            }
            Ok((written, ()))
        })
    }

    /// Runs `write` in a transaction, and forgets what it has written once that is committed.
    fn fold_in_transaction<T>(
        &mut self,
        conn: &Connection,
        write: impl FnOnce(&Unfolded) -> rusqlite::Result<(Vec<Folded>, T)>,
    ) -> rusqlite::Result<T> {
        roll_back(conn);
        let transact = || -> rusqlite::Result<_> {
            conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let written = write(&self.unfolded)?;
            conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(written)
        };
        let (written, outcome) = transact().inspect_err(|_| roll_back(conn))?;
        written.iter().for_each(|folded| self.unfolded.forget(folded));
        Ok(outcome)
    }

    /// Makes sure that what waits in a room is in memory, so that a fold can write it; `now` in running seconds.
    pub fn take_in(&mut self, conn: &Connection, room: i64, now: u64) -> rusqlite::Result<()> {
        if self.unfolded.tail(room).is_some() {
            return Ok(());
        }
        let head: Option<i64> = conn
            .prepare_cached("SELECT head FROM rooms WHERE id = ?1")?
            .query_row([room], |row| row.get(0))
            .optional()?;
        match head {
            Some(head) => fold::read(conn, &mut self.unfolded, room, Seq(number(head)), now),
            None => Ok(()),
        }
    }

    /// Removes a room, if it still may go. Returns whether it is gone.
    fn remove(&mut self, conn: &Connection, room: &RoomId, now: u64) -> rusqlite::Result<bool> {
        let gone = self.removals.remove(conn, room, now, self.parking.keep)?;
        if let Some(id) = gone {
            self.rooms.remove(room);
            self.space.has_given(id);
        }
        Ok(gone.is_some())
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
}

/// Rolls back a transaction that a failure has left open, if any. SQLite itself rolls back after some errors and not
/// after others (<https://www.sqlite.org/lang_transaction.html>). If the rollback fails, the next batch tries it again
/// first.
pub(super) fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
}

/// Loads the end of a room's log; `None` if there is no such room. What waits there since before the start is read from
/// the rows of its messages.
fn load_room(conn: &Connection, unfolded: &mut Unfolded, name: &RoomId, now: u64) -> rusqlite::Result<Option<Room>> {
    let found = conn
        .prepare_cached("SELECT id, head, at, oldest, era FROM rooms WHERE name = ?1")?
        .query_row([name.as_str()], |row| {
            let (head, at) = (Seq(number(row.get(1)?)), WallMillis(number(row.get(2)?)));
            let oldest = row.get::<_, Option<i64>>(3)?.map(|seq| Seq(number(seq)));
            Ok(Room { id: row.get(0)?, head, at, oldest, era: Era(number(row.get(4)?)) })
        })
        .optional()?;
    let Some(room) = found else { return Ok(None) };
    if unfolded.tail(room.id).is_none() {
        fold::read(conn, unfolded, room.id, room.head, now)?;
    }
    let tail = unfolded.tail(room.id);
    Ok(Some(tail.map_or(room, |tail| Room { head: tail.head, at: tail.at, ..room })))
}

#[cfg(test)]
mod tests {
    use super::super::prune::Prune;
    use super::super::schema::migrate;
    use super::*;
    use crate::crypto::at_rest::DataKey;
    use crate::crypto::at_rest::LogSalt;
    use crate::store::Scope;
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

    /// Sends a message with this key at `now`, after the upkeep has dropped what is too old.
    fn send(conn: &Connection, batches: &mut Batches, scope: Scope, key: u64, now: u64) -> Decision {
        Prune::default().step(conn, now, WEEK).unwrap();
        let append = keyed("r", &key.to_string(), scope, &format!("key-{key}"));
        let decision = batches.commit(conn, &[Write::Append(append)], now, |_| false).unwrap().remove(0);
        fold_all(conn, batches);
        decision
    }

    fn fold_all(conn: &Connection, batches: &mut Batches) {
        let mut position = Some(Position::default());
        while let Some(from) = position {
            position = batches.fold(conn, from).unwrap();
        }
    }

    /// `park-for` counts from the last use: a sender that is busy for weeks loses no key, nor does a room its common
    /// ones.
    #[test]
    fn new_keys_renew_the_window_of_their_sender() {
        for scope in [ALICE, Scope::Common] {
            let (conn, mut batches) = log();
            for day in 0..30 {
                assert!(matches!(send(&conn, &mut batches, scope, day, day * DAY), Decision::Stored { .. }));
            }
            // The first key is a month old, but among the last 64.
            let again = send(&conn, &mut batches, scope, 0, 30 * DAY);
            assert!(matches!(again, Decision::Duplicate { seq: Seq(1), .. }), "{scope:?}");
        }
    }

    #[test]
    fn repeats_renew_the_window_of_their_sender() {
        for scope in [ALICE, Scope::Common] {
            let (conn, mut batches) = log();
            assert!(matches!(send(&conn, &mut batches, scope, 1, 0), Decision::Stored { .. }));
            for day in 1..30 {
                let decision = send(&conn, &mut batches, scope, 1, day * DAY);
                assert!(
                    matches!(decision, Decision::Duplicate { seq: Seq(1), .. }),
                    "{scope:?}, day {day}: {decision:?}"
                );
            }
            let after = send(&conn, &mut batches, scope, 1, 29 * DAY + WEEK + 1);
            assert!(matches!(after, Decision::Stored { .. }), "{scope:?}: a week without use is its end: {after:?}");
        }
    }

    #[test]
    fn no_nonce_that_was_drawn_ahead_outlives_a_commit() {
        let (conn, mut batches) = log();
        batches.sealing = Some(Sealing::new(&DataKey::new([1; 32]), &LogSalt([2; 16])));
        for now in 0..3 {
            send(&conn, &mut batches, ALICE, now, now);
            assert_eq!(batches.sealing.as_ref().map(Sealing::drawn_ahead), Some(0));
        }
    }

    /// A crash loses at most a minute of the running seconds, not all since the start.
    #[test]
    fn running_seconds_are_stored_while_running() {
        let (conn, mut batches) = log();
        for now in (0..600).step_by(20) {
            send(&conn, &mut batches, ALICE, now, now);
            let stored = conn.query_row("SELECT running FROM meta", [], |row| row.get::<_, i64>(0)).unwrap();
            let lag = now - number(stored);
            assert!(lag <= RUNNING_STEP, "{lag} seconds behind at {now}");
        }
    }
}
