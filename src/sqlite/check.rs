//! Checks a whole database: SQLite's integrity check of its own files, and racerd's invariants of rooms, messages and
//! keys. Describes the faults it finds in words; changes nothing.
//!
//! A database of an older version is checked as it is, against the tables and the invariants of its own version. A
//! migrated copy would need as much free disk again, and somewhere to write, which a look at a backup on a read-only
//! medium or at a large file on a small disk has not; and a migration may hide what was wrong before it.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::damage::{LONGEST_TOLD, is_whole, one_line};
use super::log_salt::{self, Salt};
use super::message_key::MessageKey;
use super::pages::Pages;
use super::removal;
use super::retention;
use super::schema::{self, ROOM_IDS, SCRATCH, Sealed, number, room_of, seq_of, since};
use super::sealing::{message_place, open_message};
use super::space::{NEARLY_FULL, is_nearly_full};
use crate::crypto::at_rest::{DataKey, LogSalt, Place, RecordKey, Unreadable, is_of_old_format, sealed_with};
use crate::store::idempotency::{WINDOW, Window};
use crate::types::{Era, Name, RoomId, Seq, WallMillis, counted, harmless_start};

/// Maximum number of faults that are described; the rest are counted.
const TOLD: usize = 20;

/// Maximum number of faults of one kind that are described.
const TOLD_OF_A_KIND: u64 = 3;

/// Maximum number of kinds of faults that are told apart.
const KINDS: usize = 1_000;

/// A database is full once it has less than this left, in bytes: about what the largest message and its commit take
/// unless other limits are set.
const LEAST: i64 = 64 << 10;

/// The remark on a full database from which no message may go, after a word for the database.
const FULL: &str = "has reached max_database_size: messages are refused, large ones first; raise it, or let old messages \
                    expire with keep_messages or keep_for";

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The database's version.
    pub version: i32,
    pub rooms: u64,
    pub messages: u64,
    /// Size of the pages, and number of those that hold something; `None` if that was not found out.
    pub(super) pages: Option<(Pages, i64)>,
    pub faults: Vec<String>,
    /// Number of further faults.
    pub more: u64,
    /// Remarks that are not faults.
    pub remarks: Vec<String>,
    /// Kinds of faults, by their text without numbers; empty once the check is done.
    pub(super) kinds: BTreeMap<String, Counts>,
}

impl Checked {
    /// Returns the outcome of a check that ended at its first fault.
    pub(super) fn of(fault: &str) -> Checked {
        let mut checked = Checked::default();
        checked.fault(fault.to_owned());
        checked.fold();
        checked
    }

    pub fn is_well(&self) -> bool {
        self.faults.is_empty()
    }

    /// Returns what to say, after a word for the database, of one that no message may leave and that may take `max`
    /// bytes, if it is full or nearly so.
    pub fn fullness(&self, max: u64) -> Option<&'static str> {
        let (pages, used) = self.pages.filter(|_| max > 0)?;
        let most = pages.for_messages(pages.in_bytes(schema::integer(max)));
        let left = pages.bytes(most.saturating_sub(used).max(0));
        match left < LEAST {
            true => Some(FULL),
            false => is_nearly_full(number(left), number(pages.bytes(most))).then_some(NEARLY_FULL),
        }
    }

    /// Adds a fault; only the first few of its kind are described. The text may quote a damaged file, so it is escaped,
    /// and truncated if it is long.
    fn fault(&mut self, text: String) {
        let text = harmless_start(&text, LONGEST_TOLD);
        let key = kind(&text);
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&key) {
            self.more += 1;
            return;
        }
        let kind = self.kinds.entry(key).or_default();
        if kind.told < TOLD_OF_A_KIND && self.faults.len() < TOLD {
            kind.told += 1;
            kind.last = self.faults.len();
            self.faults.push(text);
        } else {
            kind.untold += 1;
            self.more += 1;
        }
    }

    /// Appends to the last description of each kind how many more faults of that kind there are.
    fn fold(&mut self) {
        for kind in std::mem::take(&mut self.kinds).into_values().filter(|kind| kind.told > 0 && kind.untold > 0) {
            if let Some(fault) = self.faults.get_mut(kind.last) {
                fault.push_str(&format!(" (and {} more like it)", kind.untold));
            }
        }
    }
}

/// Faults whose texts differ only in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    told: u64,
    untold: u64,
    /// Index of the last one that is described.
    last: usize,
}

/// Returns the text with each number replaced by `#`.
fn kind(text: &str) -> String {
    let mut kind = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if kind.ends_with('#') => {}
            true => kind.push('#'),
            false => kind.push(c),
        }
    }
    kind
}

/// The messages missing in a room between existing ones.
#[derive(Default)]
struct Holes {
    places: u64,
    messages: u64,
    first: u64,
    last: u64,
}

impl Holes {
    fn add(&mut self, from: u64, to: u64) {
        if self.places == 0 {
            self.first = from;
        }
        self.places += 1;
        self.messages += (to + 1).saturating_sub(from);
        self.last = to;
    }

    fn text(&self) -> Option<String> {
        let Holes { places, messages, first, last } = self;
        let what = match (places, messages) {
            (0, _) => return None,
            (1, 1) => format!("message {first} is missing"),
            (1, _) => format!("messages {first} to {last} are missing"),
            _ => format!("{messages} messages are missing in {places} places from {first} to {last}"),
        };
        Some(format!("{what}, and older ones are there"))
    }
}

/// A room's row, and the state of the walk through its messages.
struct Room {
    name: String,
    /// Whether messages behind the head in its row wait for a fold, or are damage.
    folds: bool,
    head: u64,
    at: i64,
    common: i64,
    era: Era,
    /// Seq and time of the oldest message, as the row has them; `None` in a version whose rows do not.
    oldest: Option<Option<(Seq, i64)>>,
    first: Option<(Seq, i64)>,
    last: Option<(Seq, i64)>,
    holes: Holes,
}

impl Room {
    /// Records the room's next message. Its time may be before its predecessor's: clocks are set back.
    fn take(&mut self, seq: Seq, at: i64) {
        if let Some((last, _)) = self.last.filter(|(last, _)| seq != last.next()) {
            self.holes.add(last.next().0, seq.0.saturating_sub(1));
        }
        self.first = self.first.or(Some((seq, at)));
        self.last = Some((seq, at));
    }

    /// Returns the last seq that was given: of the last message, or that in the row, if it is greater.
    fn end(&self) -> u64 {
        self.last.map_or(self.head, |(last, _)| last.0.max(self.head))
    }

    /// Judges the room after the walk through its messages.
    fn judge(&self, checked: &mut Checked) {
        let Room { name, head, at, .. } = self;
        if let Some(text) = self.holes.text() {
            checked.fault(format!("room {name}: {text}"));
        }
        if self.oldest.is_some_and(|oldest| oldest != self.first) {
            checked.fault(format!("room {name}: its row names another oldest message than it has"));
        }
        match self.last {
            Some((last, _)) if last.0 < *head || last.0 > *head && !self.folds => {
                checked.fault(format!("room {name}: its last message is {}, but its head is {head}", last.0));
            }
            Some((last, last_at)) if last.0 == *head && last_at > *at => {
                checked.fault(format!("room {name}: its last message is later than its own time"));
            }
            _ => {}
        }
    }
}

/// Checks the whole database in one read transaction. Sealed rows are opened if `key` is theirs; otherwise only the
/// headers of their records are checked.
pub(super) fn look(conn: &Connection, key: Option<&DataKey>) -> rusqlite::Result<Checked> {
    let mut checked = Checked::default();
    look_at(conn, key, &mut checked)?;
    checked.fold();
    Ok(checked)
}

fn look_at(conn: &Connection, key: Option<&DataKey>, checked: &mut Checked) -> rusqlite::Result<()> {
    let transaction = conn.unchecked_transaction()?;
    {
        let mut statement = transaction.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text = row.get_ref(0)?.as_str()?.to_owned();
            if text != "ok" {
                checked.fault(one_line(&text));
            }
        }
    }
    let version = schema::version(&transaction)?;
    checked.version = version;
    if let Some(wrong) = schema::wrong_tables(&transaction)? {
        checked.fault(wrong);
        return Ok(());
    }
    checked.remarks.extend(schema::older(version).map(|text| format!("it {text}")));
    let (all, free) = retention::pages(&transaction)?;
    checked.pages = Some((Pages::of(&transaction)?, all - free));
    let mut rooms = rooms(&transaction, version, checked)?;
    let is_full = if version < since::REMOVAL {
        schema::last_room(&transaction)? >= ROOM_IDS
    } else {
        let taken = "SELECT count(*) FROM free_rooms JOIN rooms USING (id)";
        let taken: i64 = transaction.query_row(taken, [], |row| row.get(0))?;
        if taken > 0 {
            checked.fault(format!("{} would be given to others", counted(number(taken), "existing room")));
        }
        removal::is_full(&transaction, ROOM_IDS)?
    };
    if is_full {
        checked.remarks.push("no number is left for a further room: messages to such a one are refused".to_owned());
    }
    let (found, agree) = log_salt::find(&transaction)?;
    let sealed = schema::sealed(&transaction)?.unwrap_or_default();
    match found {
        Salt::Damaged if sealed.with.is_some() => {
            checked.fault("the salt of what is sealed is damaged in both its places".to_owned());
        }
        _ if !agree => {
            let text = "one of the two places of the salt of what is sealed is damaged; the next start mends it";
            checked.fault(text.to_owned());
        }
        _ => {}
    }
    let rows = Rows::of(sealed, &log_salt::known(&transaction)?, key, checked);
    messages(&transaction, version, &mut rooms, &rows, checked)?;
    keys(&transaction, &rooms, checked)?;
    if !retention::can_shrink(&transaction)? {
        let text =
            "its file never shrinks (auto_vacuum is off); 'racerd backup' and 'racerd restore' of the backup mend that";
        checked.remarks.push(text.to_owned());
    }
    Ok(())
}

fn rooms(conn: &Connection, version: i32, checked: &mut Checked) -> rusqlite::Result<HashMap<i64, Room>> {
    let sql = if version < since::OLDEST {
        "SELECT id, name, head, at, common FROM rooms ORDER BY id"
    } else if version < since::REMOVAL {
        "SELECT id, name, head, at, common, oldest, oldest_at FROM rooms ORDER BY id"
    } else {
        "SELECT id, name, head, at, common, oldest, oldest_at, era FROM rooms ORDER BY id"
    };
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let room = Room {
            name: row.get(1)?,
            folds: version >= since::FOLDS,
            head: number(row.get(2)?),
            at: row.get(3)?,
            common: row.get(4)?,
            oldest: match version < since::OLDEST {
                true => None,
                false => Some(row.get::<_, Option<i64>>(5)?.map(number).map(Seq).zip(row.get(6)?)),
            },
            era: match version < since::REMOVAL {
                true => Era::FIRST,
                false => Era(number(row.get(7)?)),
            },
            first: None,
            last: None,
            holes: Holes::default(),
        };
        Ok((row.get(0)?, room))
    })?;
    let rooms: HashMap<i64, Room> = rows.collect::<rusqlite::Result<_>>()?;
    checked.rooms = rooms.len() as u64;
    Ok(rooms)
}

/// How the rows of messages should be stored.
struct Rows {
    sealed: Sealed,
    records: Option<RecordKey>,
}

impl Rows {
    fn of(sealed: Sealed, salt: &LogSalt, key: Option<&DataKey>, checked: &mut Checked) -> Rows {
        let key = key.filter(|key| sealed.with == Some(key.id()) && sealed.rekey.is_none());
        let records = key.map(|key| key.records(salt));
        if sealed.rekey.is_some() {
            let text =
                "a change of its data key was cut short; the same 'racerd rekey' goes on, and no server starts before";
            checked.remarks.push(text.to_owned());
        } else if let (Some(id), None) = (sealed.with, &records) {
            checked.remarks.push(format!(
                "it is sealed with the data key {id}, which was not given (--data-key-file): whether its rows open was not \
                 looked at"
            ));
        }
        Rows { sealed, records }
    }

    /// Returns what is wrong with a row, if anything.
    fn fault(&self, place: &Place, name: &[u8], body: &[u8]) -> Option<String> {
        let plain = || {
            let wrong = match (str::from_utf8(name).ok().and_then(Name::kept), is_whole(body)) {
                (None, _) => "has no readable author",
                (_, false) => "is not whole",
                (Some(_), true) => return None,
            };
            Some(wrong.to_owned())
        };
        let found = sealed_with(body).filter(|_| name.is_empty());
        match (self.sealed.rekey, self.sealed.with, &self.records) {
            (None, None, _) => plain(),
            (None, Some(_), Some(records)) => {
                let opened = match found {
                    Some(_) => open_message(records, place, body).map(drop),
                    None => Err(Unreadable::NoRecord),
                };
                opened.err().map(|why| format!("cannot be read: {why}"))
            }
            (None, with, None) => (found != with).then(|| "is not sealed with the database's key".to_owned()),
            (Some(to), with, _) if found == with || found == to => found.map_or_else(plain, |_| None),
            (Some(_), ..) => Some("is sealed with a key that is not the database's".to_owned()),
        }
    }
}

/// Returns the bytes of a text or a blob; for any other type, bytes that are as invalid as garbled ones.
fn bytes(value: ValueRef<'_>) -> &[u8] {
    value.as_bytes().unwrap_or(b"\xff")
}

fn messages(
    conn: &Connection,
    version: i32,
    rooms: &mut HashMap<i64, Room>,
    how: &Rows,
    checked: &mut Checked,
) -> rusqlite::Result<()> {
    let mut ids: Vec<i64> = rooms.keys().copied().collect();
    ids.sort_unstable();
    for id in &ids {
        if let Some(room) = rooms.get(id).filter(|room| RoomId::parse(&room.name).is_none()) {
            checked.fault(format!("room {id} has a name that no room can have: {:?}", room.name));
        }
    }
    let sql = if version < since::FOLDS {
        "SELECT id, at, name, body, member, NULL FROM messages ORDER BY id"
    } else {
        "SELECT id, at, name, body, member, key FROM messages ORDER BY id"
    };
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let (mut strange, mut old_format) = (None, 0);
    while let Some(row) = rows.next()? {
        let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        if id == SCRATCH {
            continue;
        }
        checked.messages += 1;
        old_format += u64::from(
            row.get_ref(2)?.as_bytes().is_ok_and(<[u8]>::is_empty) && is_of_old_format(bytes(row.get_ref(3)?)),
        );
        match rooms.get_mut(&room_of(id)) {
            Some(room) => {
                room.take(seq_of(id), at);
                let member = row.get_ref(4)?.as_i64_or_null().unwrap_or(Some(-1)).map(number);
                let place = message_place((&room.name, room.era), seq_of(id), WallMillis(number(at)), member);
                if let Some(what) = how.fault(&place, bytes(row.get_ref(2)?), bytes(row.get_ref(3)?)) {
                    checked.fault(format!("room {}: message {} {what}", room.name, seq_of(id).0));
                }
                let key = row.get_ref(5)?;
                if key != ValueRef::Null && key.as_blob().ok().and_then(MessageKey::decode).is_none() {
                    checked.fault(format!("room {}: message {} has a key that is none", room.name, seq_of(id).0));
                }
            }
            None if strange == Some(room_of(id)) => {}
            None => {
                strange = Some(room_of(id));
                checked.fault(format!("there are messages of a room {} that does not exist", room_of(id)));
            }
        }
    }
    for id in &ids {
        if let Some(room) = rooms.get(id) {
            room.judge(checked);
        }
    }
    if old_format > 0 {
        let (are, them) = if old_format == 1 { ("is", "it") } else { ("are", "them") };
        checked.remarks.push(format!(
            "{} {are} sealed as before version 12 of the database, not bound to it: another one with the same data key could \
             pass {them} off as its own; 'racerd rekey' seals {them} anew, with another key or the same",
            counted(old_format, "message")
        ));
    }
    Ok(())
}

/// Checks that keys refer to messages that exist, or that existed before they were pruned.
fn keys(conn: &Connection, rooms: &HashMap<i64, Room>, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut statement = conn.prepare("SELECT room, entries FROM keys ORDER BY room")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, entries): (i64, &[u8]) = (row.get(0)?, row.get_ref(1)?.as_blob()?);
        let Some(room) = rooms.get(&id) else {
            checked.fault(format!("there are keys of a room {id} that does not exist"));
            continue;
        };
        let window = Window::from_bytes(entries);
        if window.as_bytes() != entries {
            checked.fault(format!("room {}: a sender's keys are not {WINDOW} whole ones at most", room.name));
        }
        let mut ahead = window.entries().map(|entry| entry.seq).filter(|seq| seq.0 == 0 || seq.0 > room.end());
        if let Some(seq) = ahead.next() {
            checked.fault(format!("room {}: a key stands for message {}, which was never given", room.name, seq.0));
        }
    }
    let mut statement =
        conn.prepare("SELECT room, count(*), min(seq), max(seq) FROM common_keys GROUP BY room ORDER BY room")?;
    let mut rows = statement.query([])?;
    let mut counts = HashMap::new();
    while let Some(row) = rows.next()? {
        let (id, count, first, last): (i64, i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        counts.insert(id, count);
        match rooms.get(&id) {
            None => checked.fault(format!("there are keys of a room {id} that does not exist")),
            Some(room) if first < 1 || number(last) > room.end() => {
                checked.fault(format!("room {}: a key stands for a message that was never given", room.name));
            }
            Some(_) => {}
        }
    }
    let mut ids: Vec<i64> = rooms.keys().copied().collect();
    ids.sort_unstable();
    for id in ids {
        let count = counts.get(&id).copied().unwrap_or(0);
        if let Some(room) = rooms.get(&id).filter(|room| room.common != count) {
            checked.fault(format!("room {}: it counts {} common keys, and there are {count}", room.name, room.common));
        }
    }
    Ok(())
}
