//! Copies what can be read of a damaged database into a new one, row by row, from its pages. The damaged one is not
//! changed. Heads never go back. Lost messages leave no holes: those before them move up to the ones behind, so that
//! each room is contiguous up to its head again, and lost messages count as pruned. That gives seqs a second meaning,
//! so the new database has a new epoch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use rusqlite::{Connection, params};

use super::copying;
use super::image::{Image, Page, RawRow, SIZES, Value};
use super::sealed_salvage::SealedRows;
use crate::crypto::at_rest::{DataKey, LogSalt, sealed_with};
use crate::sqlite::OpenError;
use crate::sqlite::damage::is_whole;
use crate::sqlite::files::Files;
use crate::sqlite::fold::{self, Position, Which};
use crate::sqlite::limits::advice;
use crate::sqlite::message_key::MessageKey;
use crate::sqlite::oldest;
use crate::sqlite::parked;
use crate::sqlite::schema::{self, APPLICATION_ID, SCRATCH, VERSION, integer, last_id, message_id, number, seq_of};
use crate::sqlite::sizes;
use crate::sqlite::unfolded::Unfolded;
use crate::store::idempotency::{COMMON, Window};
use crate::types::{Cause, Era, Name, RoomId, Seq, WallMillis, counted};

/// Maximum number of ids of rooms that are freed: a damaged one may be any number.
const FREED: usize = 1 << 18;

/// Number of rows written in one transaction.
const ROWS: usize = 20_000;

/// Upper limit of plausible times (the year 10889) and running seconds.
const LATEST: i64 = 1 << 48;

/// Maximum number of pages read to find out whether a file is racerd's.
const LOOKED_AT: usize = 4_000 << 10;

/// Maximum number of rooms that a report names.
const NAMED: usize = 10;

/// The result of a salvage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    pub rooms: u64,
    pub messages: u64,
    /// Number of senders whose keys are kept, counted per room.
    pub senders: u64,
    /// Number of keys of POSTs without an identity that are kept.
    pub common: u64,
    pub parked: u64,
    /// Number of messages that are certainly lost, by room. A room's oldest messages may be lost as well: nothing tells
    /// them from pruned ones.
    pub lost: Vec<(String, u64)>,
    /// Number of rooms that have only their head left. They may have been pruned.
    pub empty: u64,
    /// Number of rooms whose names are lost; each is now called `salvaged-` and a number.
    pub unnamed: u64,
    /// Number of pages that could not be read, or not completely.
    pub damaged_pages: u64,
    /// The damage found in the WAL, if any.
    pub wal: Option<&'static str>,
}

impl Salvaged {
    pub fn lost_messages(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Salvaged { rooms, messages, senders, common, parked, .. } = self;
        write!(
            f,
            "copied {} of {}, the keys of {}, {} of POSTs without a session, {}; ",
            counted(*messages, "message"),
            counted(*rooms, "room"),
            counted(*senders, "sender"),
            counted(*common, "key"),
            counted(*parked, "parked session")
        )?;
        match self.lost_messages() {
            0 => write!(f, "no message is known to be lost")?,
            1 => write!(f, "at least 1 message is lost")?,
            lost => write!(f, "at least {lost} messages are lost")?,
        }
        for (n, (room, count)) in self.lost.iter().take(NAMED).enumerate() {
            write!(f, "{} {count} in {room}", if n == 0 { ":" } else { "," })?;
        }
        if self.lost.len() > NAMED {
            write!(f, ", and in {}", counted((self.lost.len() - NAMED) as u64, "further room"))?;
        }
        if self.empty > 0 {
            write!(f, "; nothing but its head is left of {}", counted(self.empty, "room"))?;
        }
        if self.unnamed > 0 {
            write!(f, "; the name of {} is lost, called salvaged-NUMBER now", counted(self.unnamed, "room"))?;
        }
        if self.damaged_pages > 0 {
            write!(f, "; {} damaged", counted(self.damaged_pages, "page"))?;
        }
        if let Some(wal) = self.wal {
            write!(f, "; {wal}, and what lay behind it is lost")?;
        }
        Ok(())
    }
}

/// Copies what can be read of the database with these files to an empty database. With a key, copies the sealed rows
/// that open; without one, all that look like sealed rows.
pub(in crate::sqlite) fn copy(from: &Files, to: &Connection, key: Option<&DataKey>) -> Result<Salvaged, Failed> {
    let mut image = image(from).map_err(Failed::Read)?;
    if let Some((APPLICATION_ID, version)) = image.marks()
        && version > VERSION
    {
        // What its rows mean is unknown here.
        return Err(Failed::Newer(version));
    }
    // Both can be chosen only while the copy is empty. Its pages get the size that they had.
    let page_size = image.page_size();
    to.execute_batch(&format!("PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = INCREMENTAL"))?;
    let mut copy = Copy {
        to,
        heads: BTreeMap::new(),
        names: BTreeMap::new(),
        sealed: SealedRows::new(key),
        most: Era::FIRST,
        report: Salvaged::default(),
        found: false,
    };
    copy.report.wal = image.wal_damage();
    schema::migrate(to)?;
    to.execute_batch("BEGIN")?;
    let mut rows = 0;
    for page in 1..=image.count() {
        match image.look(page) {
            Page::Rows(list, whole) => {
                copy.report.damaged_pages += u64::from(!whole);
                for row in list {
                    copy.take(row)?;
                    rows += 1;
                }
            }
            Page::Nothing => {}
            Page::Damaged => copy.report.damaged_pages += 1,
        }
        if rows > ROWS {
            to.execute_batch("COMMIT; BEGIN")?;
            rows = 0;
        }
    }
    copy.finish()?;
    to.execute_batch("COMMIT")?;
    if copy.found { Ok(copy.report) } else { Err(Failed::Nothing) }
}

/// Copies what can be read of a database to a new file, and syncs it. An old file of that name is replaced.
pub(super) fn salvage_to(files: &Files, new: &Path, key: Option<&DataKey>) -> Result<Salvaged, OpenError> {
    let because = |cause: Cause, why: String| OpenError::Salvage { path: files.database.clone(), why, cause };
    let failed = |why: String| because(Cause::Disk, why);
    let outcome = copying::begin(new).map_err(|error| failed(format!("{}: {error}", new.display()))).and_then(|_| {
        let conn = create(new).map_err(|error| failed(error.to_string()))?;
        copy(files, &conn, key).map_err(|error| match error {
            Failed::Read(error) => failed(error.to_string()),
            Failed::Write(error) => failed(format!("writing to {}: {error}{}", new.display(), advice(&error, new))),
            Failed::Nothing => because(Cause::Foreign, "nothing of racerd's is in it".to_owned()),
            Failed::Key(why) => because(Cause::Key, why),
            Failed::Newer(version) => OpenError::Newer { path: files.database.clone(), version },
        })
    });
    let synced = outcome.and_then(|report| {
        let sync = File::open(new).and_then(|file| file.sync_all());
        sync.map(|()| report).map_err(|error| failed(format!("{}: {error}", new.display())))
    });
    if synced.is_err() {
        let _ = fs::remove_file(new);
    }
    synced
}

/// Returns whether a file with an unrecognizable header is racerd's: one of its first pages has a row that can only be
/// racerd's.
pub(super) fn recognises(files: &Files) -> bool {
    image(files).is_ok_and(|mut image| recognised(&mut image) > 0)
}

/// Opens the pages of a database. Where nothing tells their size, it is that with which most rows are found.
fn image(files: &Files) -> std::io::Result<Image> {
    let mut image = Image::open(files)?;
    let mut best = (0, SIZES[0]);
    for size in SIZES {
        if !image.retry_with(size) {
            return Ok(image);
        }
        let rows = recognised(&mut image);
        if rows > best.0 {
            best = (rows, size);
        }
    }
    image.retry_with(best.1);
    Ok(image)
}

/// Counts the rows at the start of a file that can only be racerd's messages.
fn recognised(image: &mut Image) -> usize {
    let pages = u32::try_from(LOOKED_AT / image.page_size()).unwrap_or(u32::MAX);
    (1..=image.count().min(pages))
        .map(|page| match image.look(page) {
            Page::Rows(rows, _) => rows.iter().filter(|row| is_message(row)).count(),
            Page::Nothing | Page::Damaged => 0,
        })
        .sum()
}

/// Returns whether a row can only be a message of racerd's.
fn is_message(row: &RawRow) -> bool {
    use Value::{Blob, Integer, Null, Text};
    match (row.id, row.values.as_slice()) {
        (
            Some(id),
            [Null, Integer(at), Null | Integer(_), Text(name), Blob(body)]
            | [Null, Integer(at), Null | Integer(_), Text(name), Blob(body), Null | Blob(_)],
        ) => {
            let named = str::from_utf8(name).ok().and_then(Name::kept).is_some();
            let plain = named && is_whole(body);
            id > SCRATCH && is_time(*at) && (plain || name.is_empty() && sealed_with(body).is_some())
        }
        _ => false,
    }
}

/// The reason why nothing could be copied.
#[derive(Debug)]
pub(in crate::sqlite) enum Failed {
    Read(std::io::Error),
    Write(rusqlite::Error),
    /// A newer racerd wrote it, with this version of the database.
    Newer(i32),
    /// The file contains nothing of racerd's.
    Nothing,
    /// Its rows are sealed, and cannot be copied without their key.
    Key(String),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Write(error)
    }
}

/// The state of a room while it is copied.
#[derive(Clone, Debug, Default)]
struct Head {
    name: Option<RoomId>,
    era: Era,
    /// The head in its row: the keys of messages behind it may be in their rows alone.
    folded: Seq,
    seq: Seq,
    at: WallMillis,
}

/// The columns of a message's row.
struct Stored<'a> {
    at: i64,
    member: Option<i64>,
    name: &'a [u8],
    body: &'a [u8],
    key: Option<&'a [u8]>,
}

struct Copy<'a> {
    to: &'a Connection,
    heads: BTreeMap<i64, Head>,
    /// Names found in an index, for rooms whose rows are lost.
    names: BTreeMap<i64, RoomId>,
    sealed: SealedRows,
    /// The last room of its name that any removal may have led to.
    most: Era,
    report: Salvaged,
    found: bool,
}

impl Copy<'_> {
    /// Stores a row in the table that its columns indicate. A row that is not racerd's, or makes no sense, is skipped.
    /// Of a row found in several versions (freed pages keep old ones), the latest is kept.
    fn take(&mut self, row: RawRow) -> rusqlite::Result<()> {
        use Value::{Blob, Integer, Null, Text};
        match (row.id, row.values.as_slice()) {
            (Some(id), [Null, Integer(at), member @ (Null | Integer(_)), Text(name), Blob(body), key @ ..])
                if matches!(key, [] | [Null | Blob(_)]) =>
            {
                let member = if let Integer(member) = member { Some(*member) } else { None };
                let key = if let [Blob(key)] = key { MessageKey::decode(key).map(|_| key.as_slice()) } else { None };
                self.message(id, Stored { at: *at, member, name, body, key })
            }
            (Some(id), [Null, Text(name), Integer(head), Integer(at), Integer(_), rest @ ..])
                if matches!(rest, [] | [Null | Integer(_), Null | Integer(_), ..]) =>
            {
                let era = if let [_, _, Integer(era), ..] = rest { Some(Era(number(*era))) } else { None };
                self.room(id, name, (*head, *at), era);
                Ok(())
            }
            (Some(_), [Null, Integer(room), Blob(session), Integer(used), Blob(entries)]) => {
                let window = Window::from_bytes(entries)
                    .plausible(|entry| is_given(integer(entry.seq.0)) && is_time(integer(entry.at.0)));
                let Some((seq, at)) = window.newest() else { return Ok(()) };
                if session.len() != 16 || !is_room(*room) || !is_time(*used) {
                    return Ok(());
                }
                self.reaches(*room, seq, at);
                self.to
                    .prepare_cached(
                        "INSERT INTO keys (room, session, used, entries) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (room, session) DO UPDATE SET used = excluded.used, entries = excluded.entries
                         WHERE excluded.used >= used",
                    )?
                    .execute(params![room, session, used, window.as_bytes()])
                    .map(drop)
            }
            (None, [Integer(room), Blob(key), Blob(body), Integer(seq), Integer(at)]) => {
                if key.len() != 16 || body.len() != 16 || !is_room(*room) || !is_given(*seq) || !is_time(*at) {
                    return Ok(());
                }
                self.reaches(*room, Seq(number(*seq)), WallMillis(number(*at)));
                self.to
                    .prepare_cached(
                        "INSERT OR IGNORE INTO common_keys (room, key, body, seq, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![room, key, body, seq, at])
                    .map(drop)
            }
            (None, [Text(name), Integer(id)]) => {
                if let Some(name) = room_name(name).filter(|_| is_room(*id)) {
                    self.found = true;
                    self.names.insert(*id, name);
                }
                Ok(())
            }
            (
                Some(id),
                [Null, Blob(session), Integer(at), Integer(member), Text(name), Integer(generation), Blob(rooms)],
            ) => {
                let sealed = name.is_empty() && sealed_with(rooms).is_some();
                let name = str::from_utf8(name).ok().filter(|name| sealed || Name::kept(name).is_some());
                let generation = u32::try_from(*generation).ok();
                let (Some(name), Some(generation)) = (name, generation) else { return Ok(()) };
                if session.len() != 16 || !is_time(*at) || *member < 0 {
                    return Ok(());
                }
                self.to
                    .prepare_cached(
                        "INSERT INTO parked (id, session, at, member, name, generation, rooms)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                         ON CONFLICT (session) DO UPDATE SET id = excluded.id, at = excluded.at, member = excluded.member,
                             name = excluded.name, generation = excluded.generation, rooms = excluded.rooms
                             WHERE excluded.id > id
                         ON CONFLICT (id) DO NOTHING",
                    )?
                    .execute(params![id, session, at, member, name, generation, rooms])
                    .map(drop)
            }
            (Some(1), [Null, Text(_), Integer(_), Text(_), Text(_), Integer(running), rest @ ..]) => {
                if let [_, key_id, rekey, ..] = rest {
                    self.sealed.log_says(key_id, rekey);
                }
                let salt = |value: &Value| if let Blob(bytes) = value { LogSalt::from_bytes(bytes) } else { None };
                rest.iter().filter_map(salt).for_each(|salt| self.sealed.salt_is(salt));
                if is_time(*running) {
                    self.found = true;
                    schema::put_meta(self.to, number(*running))?;
                }
                Ok(())
            }
            (Some(_), [Null, Integer(removed)]) => {
                self.most = self.most.max(Era(number(*removed)));
                Ok(())
            }
            (Some(1), [Null, Blob(bytes)]) => {
                LogSalt::from_bytes(bytes).into_iter().for_each(|salt| self.sealed.salt_is(salt));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Notes the row of a room.
    fn room(&mut self, id: i64, name: &[u8], (head, at): (i64, i64), era: Option<Era>) {
        let Some(name) = room_name(name).filter(|_| is_room(id) && is_seq(head) && is_time(at)) else { return };
        self.found = true;
        let entry = self.heads.entry(id).or_default();
        entry.name = Some(name);
        let head = Seq(number(head));
        if let Some(era) = era.filter(|_| head >= entry.folded) {
            entry.era = era;
        }
        entry.folded = entry.folded.max(head);
        entry.seq = entry.seq.max(head);
        entry.at = entry.at.max(WallMillis(number(at)));
    }

    fn message(&mut self, id: i64, row: Stored<'_>) -> rusqlite::Result<()> {
        let Stored { at, member, name, body, key } = row;
        let (room, seq) = (schema::room_of(id), seq_of(id));
        let sealed = if name.is_empty() { sealed_with(body) } else { None };
        let name = str::from_utf8(name).ok().filter(|name| sealed.is_some() || Name::kept(name).is_some());
        let Some(name) = name.filter(|_| id > SCRATCH && is_room(room) && seq > Seq::ZERO && is_time(at)) else {
            return Ok(());
        };
        // Nobody but the sender's JSON tells whether a body is whole, and half of one would break its readers' frames.
        if let Some(id) = sealed {
            self.sealed.saw(id);
        } else if !is_whole(body) {
            return Ok(());
        }
        self.found = true;
        self.reaches(room, seq, WallMillis(number(at)));
        self.to
            .prepare_cached(
                "INSERT OR IGNORE INTO messages (id, at, member, name, body, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![id, at, member, name, body, key])
            .map(drop)
    }

    /// Records that the room has certainly assigned this seq, at this time.
    fn reaches(&mut self, room: i64, seq: Seq, at: WallMillis) {
        let head = self.heads.entry(room).or_default();
        head.seq = head.seq.max(seq);
        head.at = head.at.max(at);
    }

    /// Names the rooms, closes holes, and counts, once all rows are there.
    fn finish(&mut self) -> Result<(), Failed> {
        self.sealed.begin(self.to)?;
        let heads = std::mem::take(&mut self.heads);
        let running = schema::running(self.to)?;
        self.free_ids(&heads)?;
        let mut taken = BTreeSet::new();
        let mut moved: HashMap<RoomId, Moved> = HashMap::new();
        for (id, head) in heads {
            let named = head.name.clone().or_else(|| self.names.get(&id).cloned());
            let name = match named.filter(|name| !taken.contains(name)) {
                Some(name) => name,
                None => {
                    self.report.unnamed += 1;
                    let mut parts = (0_u32..).map(|n| if n == 0 { String::new() } else { format!("-{n}") });
                    let mut free = parts.by_ref().filter_map(|part| RoomId::parse(&format!("salvaged-{id}{part}")));
                    let Some(name) = free.find(|name| !taken.contains(name)) else { continue };
                    name
                }
            };
            taken.insert(name.clone());
            self.report.rooms += 1;
            let era = match head.name {
                Some(_) => head.era,
                None => self.sealed.era_of(self.to, id, &name, self.most)?,
            };
            self.sealed.drop_unreadable(self.to, id, (&name, era))?;
            self.to
                .prepare_cached(
                    "INSERT INTO rooms (id, name, head, at, common, used, era) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)",
                )?
                .execute(params![
                    id,
                    name.as_str(),
                    integer(head.seq.0),
                    integer(head.at.0),
                    integer(running),
                    integer(era.0)
                ])?;
            self.count_common(id)?;
            self.fold(id, &head)?;
            if let Some(shift) = self.close_holes(id, head.seq, (&name, era))? {
                self.move_keys(id, &shift)?;
                moved.insert(name.clone(), shift);
            }
            self.count_common(id)?;
            oldest::correct(self.to, id, None, running)?;
            sizes::correct(self.to, id)?;
        }
        if self.sealed.is_sealed() {
            self.sealed.move_cursors(self.to, &moved)?;
        } else {
            self.move_cursors(&moved)?;
        }
        let count = |sql| self.to.query_row(sql, [], |row| Ok(number(row.get(0)?)));
        self.report.messages = count("SELECT count(*) FROM messages")?;
        self.report.senders = count("SELECT count(*) FROM keys WHERE session <> x''")?;
        self.report.common = count("SELECT count(*) FROM common_keys")?;
        self.report.parked = count("SELECT count(*) FROM parked")?;
        // If the row about the log is lost, the next start creates one.
        Ok(())
    }

    /// Frees the ids that no room has, as far as their number makes sense.
    fn free_ids(&self, heads: &BTreeMap<i64, Head>) -> rusqlite::Result<()> {
        let mut free = self.to.prepare_cached("INSERT INTO free_rooms (id) VALUES (?1)")?;
        let mut next = 1;
        let gaps = heads.keys().flat_map(|id| std::mem::replace(&mut next, id + 1)..*id);
        for id in gaps.take(FREED) {
            free.execute([id])?;
        }
        Ok(())
    }

    /// Writes to the windows and the common keys of a room what was in the rows of its messages alone, while these
    /// still have the seqs to which the windows refer.
    fn fold(&self, room: i64, head: &Head) -> rusqlite::Result<()> {
        // If the room's row is lost, all of its messages may be meant, but older common keys are not kept.
        let behind = head.folded.max(Seq(head.seq.0.saturating_sub(COMMON as u64)));
        let mut unfolded = Unfolded::default();
        fold::read(self.to, &mut unfolded, room, behind, 0)?;
        let mut position = Some(Position::default());
        while let Some(from) = position {
            let (folded, next) = fold::piece(self.to, &unfolded, Which::All, from)?;
            unfolded.forget(&folded);
            position = next;
        }
        Ok(())
    }

    /// Sets the number of a room's common keys.
    fn count_common(&self, room: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE rooms SET common = (SELECT count(*) FROM common_keys WHERE room = ?1) WHERE id = ?1";
        self.to.prepare_cached(sql)?.execute([room]).map(drop)
    }

    /// Closes the holes in a room, if there are any: moves its messages up to each other and to its head, the newest
    /// first.
    fn close_holes(&mut self, room: i64, head: Seq, (name, era): (&RoomId, Era)) -> Result<Option<Moved>, Failed> {
        let range = [last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))];
        let (count, oldest): (i64, Option<i64>) = self
            .to
            .prepare_cached("SELECT count(*), min(id) FROM messages WHERE id > ?1 AND id <= ?2")?
            .query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(oldest) = oldest else {
            self.report.empty += u64::from(head > Seq::ZERO);
            return Ok(None);
        };
        let lost = (head.0 + 1).saturating_sub(seq_of(oldest).0).saturating_sub(number(count));
        if lost == 0 {
            return Ok(None);
        }
        self.report.lost.push((name.to_string(), lost));
        let seqs: Vec<Seq> = self
            .to
            .prepare_cached("SELECT id FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id")?
            .query_map(range, |row| Ok(seq_of(row.get(0)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let shift = Moved { seqs, head };
        for (place, seq) in shift.seqs.iter().enumerate().rev() {
            let (Some(from), Some(to)) = (message_id(room, *seq), message_id(room, shift.at(place))) else { continue };
            if from != to {
                self.sealed.move_message(self.to, (name, era), from, to)?;
            }
        }
        Ok(Some(shift))
    }

    /// Makes keys refer to the same messages as before; keys of lost messages are dropped, so that those may be sent
    /// again.
    fn move_keys(&self, room: i64, shift: &Moved) -> rusqlite::Result<()> {
        let windows: Vec<(i64, Vec<u8>)> = self
            .to
            .prepare_cached("SELECT id, entries FROM keys WHERE room = ?1")?
            .query_map([room], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut update = self.to.prepare_cached("UPDATE keys SET entries = ?2 WHERE id = ?1")?;
        for (id, entries) in windows {
            let window = Window::from_bytes(&entries).renumbered(|seq| shift.of(seq));
            update.execute(params![id, window.as_bytes()])?;
        }
        let common: Vec<(Vec<u8>, i64)> = self
            .to
            .prepare_cached("SELECT key, seq FROM common_keys WHERE room = ?1")?
            .query_map([room], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut update = self.to.prepare_cached("UPDATE common_keys SET seq = ?3 WHERE room = ?1 AND key = ?2")?;
        let mut delete = self.to.prepare_cached("DELETE FROM common_keys WHERE room = ?1 AND key = ?2")?;
        for (key, seq) in common {
            match shift.of(Seq(number(seq))) {
                Some(seq) => update.execute(params![room, key, integer(seq.0)])?,
                None => delete.execute(params![room, key])?,
            };
        }
        Ok(())
    }

    /// Moves the cursors of parked sessions, so that these continue after the last message they had.
    fn move_cursors(&self, moved: &HashMap<RoomId, Moved>) -> rusqlite::Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let sessions: Vec<(i64, Vec<u8>)> = self
            .to
            .prepare("SELECT id, rooms FROM parked")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut update = self.to.prepare("UPDATE parked SET rooms = ?2 WHERE id = ?1")?;
        for (id, rooms) in sessions {
            let mut rooms = parked::decode(&rooms);
            for (room, cursor) in &mut rooms {
                if let Some(shift) = moved.get(room) {
                    *cursor = shift.cursor(*cursor);
                }
            }
            update.execute(params![id, parked::encode(&rooms)])?;
        }
        Ok(())
    }
}

/// The new seqs of a room's messages: contiguous up to the head, in the same order.
pub(in crate::sqlite) struct Moved {
    /// The old seqs, in ascending order.
    seqs: Vec<Seq>,
    head: Seq,
}

impl Moved {
    /// Returns the new seq of the message at this place in `seqs`.
    fn at(&self, place: usize) -> Seq {
        Seq(self.head.0.saturating_sub((self.seqs.len() - 1 - place) as u64))
    }

    /// Returns the new seq of the message that had this one; `None` if it is lost. Seqs pruned before stay as they are.
    fn of(&self, seq: Seq) -> Option<Seq> {
        match self.seqs.binary_search(&seq) {
            Ok(place) => Some(self.at(place)),
            Err(0) => Some(seq),
            Err(_) => None,
        }
    }

    /// Returns the new cursor of a session that had everything up to this seq.
    pub fn cursor(&self, seq: Seq) -> Seq {
        match self.seqs.partition_point(|kept| *kept <= seq) {
            0 => seq,
            count => self.at(count - 1),
        }
    }
}

fn room_name(bytes: &[u8]) -> Option<RoomId> {
    str::from_utf8(bytes).ok().and_then(RoomId::parse)
}

fn is_room(id: i64) -> bool {
    (1..=0xff_ffff).contains(&id)
}

/// Returns whether a message can have this seq.
fn is_given(seq: i64) -> bool {
    seq > 0 && is_seq(seq)
}

/// Returns whether a message can have this seq, or whether it is 0, the head of an empty room.
fn is_seq(seq: i64) -> bool {
    seq >= 0 && message_id(1, Seq(number(seq))).is_some()
}

fn is_time(time: i64) -> bool {
    (0..LATEST).contains(&time)
}

/// Creates an empty database at this path, for one writer alone, and without syncing; it is synced once it is complete.
pub(in crate::sqlite) fn create(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -8192",
    )?;
    Ok(conn)
}
