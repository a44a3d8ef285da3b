//! The reader thread: reads one page at a time over its own read-only connection. Each page is one short read
//! transaction that ends before the answer is sent: a longer one would keep the WAL from starting over, so that it
//! would grow. While idle, the thread checks the database for damage.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::damage::{self, is_damage};
use super::piecemeal::{self, Ends, Loss};
use super::removal;
use super::schema::{last_id, number, seq_of};
use super::scrub::{Piece, Scrub};
use super::sealing;
use super::worker::Answers;
use super::writer::Command;
use crate::crypto::at_rest::{RecordKey, Unreadable};
use crate::sqlite::error::DAMAGED;
use crate::store::{About, Page, Read, ReadFailed, Span, StoreEvent, Why};
use crate::types::{Author, Body, Era, MemberId, Message, Name, RoomId, Seq, WallMillis};

/// Maximum number of unreadable messages that are reported, each once.
const REPORTED: usize = 1_000;

/// Advice for a disk that does not answer.
const DISK: &str = "check the disk and the kernel log";

/// Reads pages.
pub(super) struct Reader {
    pub conn: Connection,
    /// Set when the reader finds damage.
    pub damaged: Arc<AtomicBool>,
    /// Opens sealed rows; `None` for a plain database.
    pub records: Option<RecordKey>,
    /// The unreadable messages that were reported.
    pub told: BTreeSet<(RoomId, Seq)>,
    /// Whether a read has failed since the last complete background check.
    pub failing: bool,
    /// The background check.
    pub scrub: Scrub,
    /// The writer, which records damage in the database.
    pub notes: Sender<Command>,
}

impl Reader {
    /// Answers reads until all senders are gone.
    pub fn run(mut self, requests: &Receiver<Vec<Read>>, answers: &Answers) {
        loop {
            let received = match self.scrub.patience() {
                Some(patience) => requests.recv_timeout(patience),
                None => requests.recv().map_err(RecvTimeoutError::from),
            };
            match received {
                Ok(reads) => {
                    for read in reads {
                        // A page may have taken long: its answer is sent immediately, not with the rest.
                        self.answer(read, answers);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.scrub(answers),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does the next piece of the background check.
    fn scrub(&mut self, answers: &Answers) {
        match self.scrub.piece(&self.conn, self.records.as_ref()) {
            Piece::Read => {}
            Piece::End => {
                let _ = self.notes.send(Command::Scrubbed);
                // Damage does not heal.
                if std::mem::take(&mut self.failing) && !self.damaged.load(Ordering::Relaxed) {
                    answers.send([StoreEvent::Note { about: About::Unreadable, text: None }]);
                }
            }
            Piece::Wrong { reason, damage } => {
                self.failing |= !damage;
                // A sealed row that does not open is delivered as unreadable, and does not stop the next start.
                if damage && self.records.is_none() {
                    self.note(reason.clone());
                }
                let advice = if damage { DAMAGED } else { DISK };
                let reason = format!("the background check found a fault {reason}; {advice}");
                answers.send([StoreEvent::Unreadable(reason), StoreEvent::Damaged]);
            }
        }
    }

    /// Has the writer record the damage, so that the next start acts on it.
    fn note(&self, what: String) {
        self.damaged.store(true, Ordering::Relaxed);
        // A writer that has ended can record nothing.
        let _ = self.notes.send(Command::Note(what));
    }

    /// Answers one read.
    pub fn answer(&mut self, read: Read, answers: &Answers) {
        let mut losses = Vec::new();
        match page(&self.conn, &read, self.records.as_ref(), &mut losses) {
            Ok(page) => {
                let told = self.lost(&read.room, losses);
                answers.send([StoreEvent::Page(page)].into_iter().chain(told));
            }
            Err(error) => {
                if is_damage(&error) {
                    self.note(format!("room {} cannot be read: {error}", read.room));
                }
                if !is_damage(&error) {
                    self.failing = true;
                    self.scrub.begin_again();
                }
                let advice = if is_damage(&error) { DAMAGED } else { DISK };
                let reason = format!("a page of room {} cannot be read: {error}; {advice}", read.room);
                let why = if is_damage(&error) { Why::Damaged } else { Why::Disk };
                let failed = ReadFailed { ticket: read.ticket, room: read.room, why };
                answers.send([StoreEvent::ReadFailed(failed), StoreEvent::Unreadable(reason), StoreEvent::Damaged]);
            }
        }
    }

    /// Handles the unreadable messages of a page. Returns the events that report them, each message once.
    fn lost(&mut self, room: &RoomId, mut losses: Vec<Loss>) -> Vec<StoreEvent> {
        if losses.is_empty() {
            return Vec::new();
        }
        let told = &mut self.told;
        losses.retain(|loss| told.len() < REPORTED && told.insert((room.clone(), loss.seq)));
        let lines = piecemeal::told(room, &losses);
        // A sealed row that does not open is delivered as unreadable, and does not stop the next start.
        if let Some(loss) = losses.iter().find(|loss| matches!(loss.why, piecemeal::Why::Damage(_))) {
            self.note(format!("message {} of room {room} cannot be read: {}", loss.seq.0, loss.why));
        }
        lines.into_iter().map(StoreEvent::Unreadable).chain([StoreEvent::Damaged]).collect()
    }
}

/// Reads one page. If the database is damaged there, reads message by message, and adds the unreadable ones to
/// `losses`.
fn page(conn: &Connection, read: &Read, records: Option<&RecordKey>, losses: &mut Vec<Loss>) -> rusqlite::Result<Page> {
    // Dropping it, on every return, ends the transaction; the statements inside are dropped before it.
    let transaction = conn.unchecked_transaction()?;
    let page = match piecemeal::ends(&transaction, &read.room)? {
        None => nothing(read, (Seq::ZERO, Seq(1)), removal::era(&transaction, &read.room)?),
        Some(ends) => match page_of(&transaction, read, &ends, records, losses) {
            Ok(page) if is_whole(&page, read) => page,
            Err(error) if !is_damage(&error) => return Err(error),
            _ => {
                losses.clear();
                piecemeal::page(&transaction, read, &ends, records, losses)?
            }
        },
    };
    transaction.finish()?;
    Ok(page)
}

/// Returns a page without messages.
pub(super) fn nothing(read: &Read, (head, oldest): (Seq, Seq), era: Era) -> Page {
    let (ticket, room, span) = (read.ticket, read.room.clone(), read.span);
    Page { ticket, room, span, messages: Vec::new(), oldest, head, more: false, era }
}

fn page_of(
    conn: &Connection,
    read: &Read,
    ends: &Ends,
    records: Option<&RecordKey>,
    losses: &mut Vec<Loss>,
) -> rusqlite::Result<Page> {
    let mut page = nothing(read, (ends.head, piecemeal::oldest(conn, ends)?), ends.era);
    let (none, all) = (last_id(ends.room, Seq::ZERO), last_id(ends.room, Seq(u64::MAX)));
    let (sql, after, upto) = match read.span {
        Span::After(seq) => (RISING, last_id(ends.room, seq), all),
        Span::Before(seq) => (FALLING, none, last_id(ends.room, Seq(seq.0.saturating_sub(1)))),
        Span::Newest => (FALLING, none, all),
    };
    let mut statement = conn.prepare_cached(sql)?;
    // One row more than requested tells whether there are more.
    let mut rows = statement.query([after, upto, i64::from(read.limit) + 1])?;
    let mut left = read.bytes as usize;
    while let Some(row) = rows.next()? {
        if page.messages.len() >= read.limit as usize {
            page.more = true;
            break;
        }
        let (message, why) = message_of(&read.room, ends.era, row, records)?;
        let bytes = message.body.len();
        if bytes > left && !page.messages.is_empty() {
            page.more = true;
            break;
        }
        left = left.saturating_sub(bytes);
        losses.extend(why.map(|why| Loss { seq: message.seq, why: piecemeal::Why::Sealed(why) }));
        page.messages.push(message);
    }
    if !matches!(read.span, Span::After(_)) {
        page.messages.reverse();
        losses.reverse();
    }
    Ok(page)
}

/// Returns whether a page has each message that it must have: a room's log is contiguous up to its head.
fn is_whole(page: &Page, read: &Read) -> bool {
    let (first, last) = reach(read.span, page.oldest, page.head);
    let (Some(begin), Some(end)) = (page.messages.first(), page.messages.last()) else {
        return page.more || first > last;
    };
    let is_rising = matches!(read.span, Span::After(_));
    let begins = begin.seq == first || (!is_rising && page.more && begin.seq > first);
    let ends = end.seq == last || (is_rising && page.more && end.seq < last);
    begins && ends && page.messages.windows(2).all(|two| matches!(two, [a, b] if a.seq.next() == b.seq))
}

/// Returns the first and the last seq that a span covers in a log from `oldest` to `head`; the first is greater if it
/// covers none.
pub(super) fn reach(span: Span, oldest: Seq, head: Seq) -> (Seq, Seq) {
    match span {
        Span::After(seq) => (oldest.max(seq.next()), head),
        Span::Before(seq) => (oldest, head.min(Seq(seq.0.saturating_sub(1)))),
        Span::Newest => (oldest, head),
    }
}

const RISING: &str = "SELECT id, at, member, name, body FROM messages
                      WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";

const FALLING: &str = "SELECT id, at, member, name, body FROM messages
                       WHERE id > ?1 AND id <= ?2 ORDER BY id DESC LIMIT ?3";

/// Reads a message from its row (id, at, member, name, body). `records` opens the rows of a sealed database. If a
/// sealed message does not open, also returns the reason.
pub(super) fn message_of(
    room: &RoomId,
    era: Era,
    row: &Row,
    records: Option<&RecordKey>,
) -> rusqlite::Result<(Message, Option<Unreadable>)> {
    match records {
        Some(records) => sealed_message(room, era, row, records),
        None => Ok((message(room, row)?, None)),
    }
}

/// Reads a message of a sealed database. A row that does not open keeps its place: a gap in a room would be permanent.
pub(super) fn sealed_message(
    room: &RoomId,
    era: Era,
    row: &Row,
    records: &RecordKey,
) -> rusqlite::Result<(Message, Option<Unreadable>)> {
    // A value of the wrong type is treated like a wrong value: the record does not open for it.
    let at = WallMillis(number(row.get_ref(1)?.as_i64().unwrap_or(-1)));
    let member = row.get_ref(2)?.as_i64_or_null().unwrap_or(Some(-1)).map(number);
    let seq = seq_of(row.get(0)?);
    let place = sealing::message_place((room.as_str(), era), seq, at, member);
    // A row with a name in the clear was not sealed.
    let opened = match (row.get_ref(3)?.as_bytes(), row.get_ref(4)?.as_bytes()) {
        (Ok([]), Ok(record)) => sealing::open_message(records, &place, record),
        _ => Err(Unreadable::NoRecord),
    };
    let (name, body, why) = match opened {
        Ok((name, body)) => (name, body, None),
        Err(why) => {
            let name = sealing::nobody().ok_or_else(no_name)?;
            (name, Body::unreadable(), Some(why))
        }
    };
    let author = Author { member: member.map(MemberId::from_random), name };
    Ok((Message { room: room.clone(), seq, at, author, body }, why))
}

pub(super) fn no_name() -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(3, "name".into(), Type::Text)
}

/// Reads a message of a plain database from its row (id, at, member, name, body). A body that is not JSON is an error:
/// no client could parse a frame or page that contains it.
pub(super) fn message(room: &RoomId, row: &Row) -> rusqlite::Result<Message> {
    let body = str::from_utf8(row.get_ref(4)?.as_blob()?).map_err(|error| rusqlite::Error::Utf8Error(4, error))?;
    if !damage::is_whole(body.as_bytes()) {
        return Err(rusqlite::Error::FromSqlConversionFailure(4, Type::Blob, "its body is not valid JSON".into()));
    }
    let name = Name::kept(row.get_ref(3)?.as_str()?).ok_or_else(no_name)?;
    Ok(Message {
        room: room.clone(),
        seq: seq_of(row.get(0)?),
        at: WallMillis(number(row.get(1)?)),
        author: Author { member: row.get::<_, Option<i64>>(2)?.map(|id| MemberId::from_random(number(id))), name },
        body: Body::checked(body.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sqlite::schema;
    use crate::store::samples::read;

    /// Builds a reader whose disk fails while the flag is set, with its outputs. Its checks are due immediately.
    fn reader(fails: &Arc<AtomicBool>) -> (Reader, Answers, Receiver<StoreEvent>, Receiver<Command>) {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&conn).unwrap();
        let fails = fails.clone();
        conn.progress_handler(1, Some(move || fails.load(Ordering::Relaxed))).unwrap();
        let (sender, events) = channel();
        let (notes, noted) = channel();
        let reader = Reader {
            conn,
            damaged: Arc::default(),
            records: None,
            told: BTreeSet::new(),
            failing: false,
            scrub: Scrub::new(1 << 40, Instant::now(), Duration::ZERO),
            notes,
        };
        (reader, Answers { events: sender, wake: Box::new(|| ()) }, events, noted)
    }

    fn is_over(event: &StoreEvent) -> bool {
        matches!(event, StoreEvent::Note { about: About::Unreadable, text: None })
    }

    /// Runs a check to its end. Returns whether it reported that everything can be read again.
    fn pass(reader: &mut Reader, answers: &Answers, events: &Receiver<StoreEvent>, noted: &Receiver<Command>) -> bool {
        while noted.try_recv().is_err() {
            reader.scrub(answers);
        }
        events.try_iter().filter(is_over).count() == 1
    }

    #[test]
    fn a_whole_pass_after_a_failure_of_the_disk_says_that_it_is_over() {
        let fails = Arc::new(AtomicBool::new(false));
        let (mut reader, answers, events, noted) = reader(&fails);
        assert!(!pass(&mut reader, &answers, &events, &noted), "nothing has failed");
        // The check is halfway: the part it has read so far proves nothing.
        reader.scrub(&answers);
        fails.store(true, Ordering::Relaxed);
        reader.answer(read("lobby", Span::Newest, 1, 100), &answers);
        let told: Vec<StoreEvent> = events.try_iter().collect();
        assert!(
            matches!(&told[..], [StoreEvent::ReadFailed(failed), StoreEvent::Unreadable(_), StoreEvent::Damaged] if failed.why == Why::Disk)
        );
        reader.scrub(&answers);
        assert!(matches!(events.try_recv(), Ok(StoreEvent::Unreadable(_))), "it still fails");
        fails.store(false, Ordering::Relaxed);
        let mut pieces = 0;
        let over = loop {
            reader.scrub(&answers);
            pieces += 1;
            if let Some(event) = events.try_iter().find(|event| !matches!(event, StoreEvent::Damaged)) {
                break event;
            }
        };
        assert!(is_over(&over), "{over:?}");
        assert_eq!(pieces, 20, "each table and index of it");
        assert!(noted.try_recv().is_ok());
        assert!(!pass(&mut reader, &answers, &events, &noted), "once");
        // Damage does not heal.
        fails.store(true, Ordering::Relaxed);
        reader.scrub(&answers);
        fails.store(false, Ordering::Relaxed);
        reader.damaged.store(true, Ordering::Relaxed);
        assert!(!pass(&mut reader, &answers, &events, &noted));
    }
}
