//! The writer's background work: pruning, returning space, emptying the write-ahead log, and detecting that a failed
//! disk works again. Each call is one bounded piece, so that a commit never waits for more than one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::batch::{Batches, roll_back};
use super::checkpoint::{COPIED_FROM, Due, Frames, Length};
use super::damage::is_damage;
use super::dating::Moment;
use super::error::DAMAGED;
use super::open::{self, BUSY, WAL_BYTES};
use super::removal;
use super::retention::{self, Hints, Policy, Shortage, Step};
use super::rows;
use super::schema::{self, SCRATCH, number};
use super::space::{NEARLY_FULL, rooms_within};
use super::standings::ROW;
use super::writer::{Health, Noted, WriterLoop};
use crate::store::{About, Bounds, STANDINGS, StoreEvent, Why};
use crate::types::WallMillis;

/// How long a checkpoint waits for readers. Our own reader is done after a page; one in another process may stay for
/// hours.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(100);

/// Running seconds between two sweeps for old keys and sessions, and at most between two for unused rooms.
const SWEEP: u64 = 60;

/// Age-based pruning runs every `keep_for / AGE_PART`, and at least once in [`AGE_MAX`].
const AGE_PART: u64 = 64;
const AGE_MAX: Duration = Duration::from_secs(3_600);

/// Number of frames that a write adds to the WAL at most, if its trees need no rebalancing, and that a commit adds
/// beside those of its writes.
const FRAMES_OF_A_WRITE: i64 = 4;

/// Size in bytes of the frames after which the WAL is looked at.
const LOOKED_AT: i64 = COPIED_FROM / 4;

/// The note about a long WAL. Anyone can read it, so it names no path.
const LONG_WAL: &str = "the database's -wal file grows: another program holds a read of the database open; end it";

/// Maximum number of lines about damage that the upkeep has met.
const TOLD: usize = 100;

/// Parked sessions may take this part.
const PARKED_PART: u64 = 8;

/// What became of sessions may take this part, but at least so many rows.
const STANDINGS_PART: u64 = 64;
const LEAST_STANDINGS: u64 = 1_000;

/// One counter of removed rooms is kept for so many bytes of the maximum size, but at least so many. Each takes some 16
/// bytes.
const REMOVALS_PART: u64 = 256;
const LEAST_REMOVALS: u64 = 1_000;

type Part = fn(&mut WriterLoop) -> rusqlite::Result<bool>;

/// The parts of the upkeep, and what each of them reads and writes. Damage of messages that are indexed, and of pages
/// that are free, is told by others: by reads and the background check, which know whether a row is sealed, and by
/// `racerd check`.
const PARTS: [(Option<&str>, Part); 5] = [
    (Some("old keys"), WriterLoop::sweep),
    (Some("the rooms"), WriterLoop::retain),
    (Some("rooms without messages"), WriterLoop::propose),
    (None, WriterLoop::fill),
    (None, WriterLoop::give_back),
];

impl WriterLoop {
    /// Uses an idle moment: does a piece of upkeep if one is due, or probes a failing disk.
    pub fn use_the_pause(&mut self) {
        match self.health {
            Health::Well => {
                self.upkeep_if_due();
                self.fold_if_due();
                if self.is_quiet() {
                    if self.has_some_to_fold() {
                        self.begin_fold();
                    }
                    // What a fold writes is emptied with the rest.
                    if !self.is_folding() {
                        self.tidy();
                    }
                }
            }
            Health::Failing { retry, .. } => self.probe(retry),
            Health::Gone(_) => {}
        }
    }

    /// Schedules upkeep after a write.
    pub fn upkeep_soon(&mut self) {
        let soon = self.parts.clock.now() + self.parts.timing.pause;
        self.upkeep_due = Some(self.upkeep_due.map_or(soon, |due| due.min(soon)));
    }

    /// Does one piece of upkeep, if it is due, and schedules the next.
    pub fn upkeep_if_due(&mut self) {
        let begun = self.parts.clock.now();
        let may_write = matches!(self.health, Health::Well | Health::Failing { why: Why::AtBound, .. });
        if !may_write || self.upkeep_due.is_none_or(|due| due > begun) {
            return;
        }
        let more = self.upkeep();
        let pause = self.parts.timing.pause.max(self.parts.clock.since(begun) * 4);
        self.upkeep_due = match (more, self.parts.bounds.keep_for) {
            (true, _) => Some(begun + pause),
            (false, 0) => None,
            (false, keep_for) => {
                let part = Duration::from_millis(keep_for / AGE_PART).min(AGE_MAX);
                Some(begun + part.max(self.parts.timing.idle))
            }
        };
    }

    /// Does one piece of upkeep. Returns whether there is more to do.
    fn upkeep(&mut self) -> bool {
        roll_back(&self.parts.conn);
        self.follow_the_disk();
        let mut more = false;
        // None keeps the others from what they can do.
        for (what, part) in PARTS {
            match (part(self), what) {
                (Ok(has_more), _) => more |= has_more,
                (Err(error), Some(what)) => self.tell_of_damage(what, &error),
                (Err(_), None) => {}
            }
            roll_back(&self.parts.conn);
        }
        self.bound_the_wal();
        more
    }

    /// Deletes old keys and sessions.
    fn sweep(&mut self) -> rusqlite::Result<bool> {
        let running = self.running();
        if running < self.swept + SWEEP {
            return Ok(false);
        }
        // After a failure, the next attempt comes as late as if it had worked.
        let swept = std::mem::replace(&mut self.swept, running);
        let parked = self.batches.parking.sweep(&self.parts.conn, running).unwrap_or_else(|error| {
            self.tell_of_damage("parked sessions", &error);
            roll_back(&self.parts.conn);
            0
        });
        let (conn, keep) = (&self.parts.conn, self.parts.bounds.park_for);
        let standings = self.batches.standings.sweep(conn, running, keep).unwrap_or_else(|error| {
            self.tell_of_damage("what became of sessions", &error);
            roll_back(&self.parts.conn);
            0
        });
        self.untidy |= parked + standings > 0;
        let keys = self.prune.step(&self.parts.conn, running, self.parts.bounds.park_for)?;
        self.untidy |= keys.dropped > 0;
        // What waits in a room with old windows is folded first.
        let is_folding = self.fold_rooms(&keys.waiting);
        let more = is_folding || keys.dropped + parked + standings > 0;
        if more {
            self.swept = swept;
        }
        Ok(more)
    }

    /// Deletes the messages that are not to be kept.
    fn retain(&mut self) -> rusqlite::Result<bool> {
        let shortage = if self.is_near_bound()? { Shortage::Near } else { Shortage::No };
        if shortage == Shortage::No {
            self.giving.begin_anew();
        }
        let policy = Policy { shortage, ..self.policy() };
        let now = self.time_of_ages().unwrap_or_else(|error| {
            self.tell_of_damage("the time of the newest message", &error);
            None
        });
        if policy == Policy::default() {
            return Ok(false);
        }
        // Which rooms are large shows once what waits is folded. A failure is told by the next fold or commit.
        if shortage == Shortage::Near && self.fold_all().is_err() {
            roll_back(&self.parts.conn);
        }
        if shortage == Shortage::Near && self.give_many_keys() {
            return Ok(true);
        }
        let mut step = self.prune_messages(&policy, now)?;
        if !step.waiting.is_empty() && self.fold_for_retention(&step.waiting)? {
            self.retention.go_back();
            step = self.prune_messages(&policy, now)?;
        }
        Ok(!step.done)
    }

    /// Proposes rooms that nobody uses for removal.
    fn propose(&mut self) -> rusqlite::Result<bool> {
        let running = self.running();
        let park_for = self.parts.bounds.park_for;
        if running < self.proposed + SWEEP.min(park_for) {
            return Ok(false);
        }
        // After a failure, the next attempt comes as late as if it had worked.
        let proposed = std::mem::replace(&mut self.proposed, running);
        let unused = removal::propose(&self.parts.conn, running, park_for)?;
        let more = unused.len() >= removal::PROPOSED;
        if more {
            self.proposed = proposed;
        }
        self.answers.send((!unused.is_empty()).then_some(StoreEvent::Unused(unused)));
        Ok(more)
    }

    /// Indexes the sealed bodies of messages that are older than the index.
    fn fill(&mut self) -> rusqlite::Result<bool> {
        let more = self.batches.fill(&self.parts.conn, self.parts.sealed_body)?;
        self.untidy |= more;
        Ok(more)
    }

    /// Returns free pages to the file system.
    fn give_back(&mut self) -> rusqlite::Result<bool> {
        let more = retention::give_back(&self.parts.conn, self.parts.pages)?;
        self.untidy |= more;
        Ok(more)
    }

    /// Tells that something of a room is damaged. See [`WriterLoop::tell_of_damage`].
    pub fn tell_of_room(&mut self, what: &str, room: i64, error: &rusqlite::Error) {
        let name = rows::room_name(&self.parts.conn, room).ok().flatten();
        let name = name.map_or_else(|| format!("number {room}"), |(name, _)| name);
        self.tell_of_damage(&format!("{what} of room {name}"), error);
    }

    /// Tells of damage that the upkeep or a fold has met, once, and has the next start act on it. Other failures are
    /// told by the next append, which meets them, too.
    pub fn tell_of_damage(&mut self, what: &str, error: &rusqlite::Error) {
        if !is_damage(error) {
            return;
        }
        self.parts.damaged.store(true, Ordering::Relaxed);
        let fault = format!("{what} cannot be read or written: {error}");
        self.note(fault.clone());
        if self.told.len() < TOLD && self.told.insert(fault.clone()) {
            self.answers.send([StoreEvent::Unreadable(format!("{fault}; {DAMAGED}")), StoreEvent::Damaged]);
        }
    }

    /// Reads the clock, and returns the reference time for ages; `None` if messages do not expire.
    pub fn time_of_ages(&mut self) -> rusqlite::Result<Option<WallMillis>> {
        let moment = Moment {
            wall: self.parts.clock.wall(),
            running: self.running_millis(),
            keep_for: self.parts.bounds.keep_for,
        };
        let mut told = Vec::new();
        let writes = self.dating.writes;
        let now = self.dating.now(&self.parts.conn, moment, &mut told);
        self.untidy |= self.dating.writes != writes;
        self.answers.send(told);
        now
    }

    /// Deletes some of the messages that may be deleted.
    pub fn prune_messages(&mut self, policy: &Policy, now: Option<WallMillis>) -> rusqlite::Result<Step> {
        let running = self.running();
        let step = self.with_pages_to_delete(|writer| {
            let Batches { grown, space, .. } = &mut writer.batches;
            writer.retention.step(&writer.parts.conn, policy, (now, running), Hints { grown, space })
        })?;
        self.batches.forget_rooms(&step.changed);
        if step.dropped > 0 {
            self.batches.space.changed();
        }
        if step.misdated > 0 {
            let mut told = Vec::new();
            self.dating.misdated(&mut told);
            self.answers.send(told);
        }
        self.untidy |= step.dropped > 0;
        if let Some((room, error)) = &step.damaged {
            self.tell_of_room("the oldest messages", *room, error);
        }
        Ok(step)
    }

    /// Returns the rules by which messages are deleted while there is space.
    pub fn policy(&self) -> Policy {
        let Bounds { keep_messages, keep_for, .. } = self.parts.bounds;
        Policy { keep_messages, keep_for, shortage: Shortage::No }
    }

    /// Updates a maximum size that is a share of the free space, as other programs use or free disk space.
    fn follow_the_disk(&mut self) {
        if self.parts.bounds.max_database_size == 0 {
            self.set_most_pages(0);
        }
    }

    /// Sets the maximum size of the database, in bytes, or as a share of the free space. If that cannot be set, the
    /// disk is failing, which the next append reports.
    fn set_most_pages(&mut self, bytes: u64) {
        if let Ok(most) = open::bound(&self.parts.conn, &self.parts.files, self.parts.pages, bytes) {
            self.parts.most_pages = most;
            let _ = open::set_most_pages(&self.parts.conn, self.pages_for_messages());
            self.bound_space();
        }
    }

    /// Takes over how large the database may get, and whether messages may be deleted to make room.
    pub fn bound_space(&mut self) {
        let may_delete = self.policy() != Policy::default();
        let most = self.pages_for_messages();
        self.batches.space.bound(self.parts.pages, most, may_delete);
        let bytes = u64::try_from(self.parts.pages.bytes(most)).unwrap_or(0);
        self.batches.parking.max_bytes = bytes / PARKED_PART;
        self.batches.standings.max = (bytes / STANDINGS_PART / ROW).clamp(LEAST_STANDINGS, STANDINGS as u64);
        self.batches.removals.max = (bytes / REMOVALS_PART).max(LEAST_REMOVALS);
    }

    /// Returns the note for the operator that senders over their share are refused, as one just was if they are
    /// `refused`, or that there is space again, if that is new.
    pub fn note_shares(&mut self, refused: bool) -> Option<StoreEvent> {
        let is_so = refused || self.shares_told && self.batches.space.is_near_and_refuses();
        if std::mem::replace(&mut self.shares_told, is_so) == is_so {
            return None;
        }
        Some(StoreEvent::Note { about: About::Shares, text: is_so.then(|| format!("the database {NEARLY_FULL}")) })
    }

    /// Applies new limits.
    pub fn bound(&mut self, bounds: Bounds) {
        self.set_most_pages(bounds.max_database_size);
        self.batches.parking.max = bounds.parked_max;
        self.batches.parking.keep = bounds.park_for;
        self.batches.grown.keep(bounds.keep_messages);
        self.parts.bounds = bounds;
        self.bound_space();
        // A lasting failure is noticed at the next append.
        let _ = self.batches.space.measure(&self.parts.conn);
        let note = self.note_shares(false);
        self.answers.send(note);
        self.bound_rooms();
        (self.swept, self.proposed) = (0, 0);
        self.retention.restart();
        self.giving.begin_anew();
        self.upkeep_soon();
        if let Health::Failing { retry, .. } = self.health {
            // The old limit may have been the reason for the failure.
            self.probe(retry);
        }
    }

    /// Applies the maximum number of rooms, and tells whether further ones are refused.
    pub fn bound_rooms(&mut self) {
        let bytes = u64::try_from(self.parts.pages.bytes(self.parts.most_pages)).unwrap_or(0);
        self.batches.rooms_max = self.parts.bounds.rooms_max.min(rooms_within(bytes));
        // A lasting failure is noticed at the next append.
        let is_full = removal::is_full(&self.parts.conn, self.batches.rooms_max).unwrap_or(false);
        let note = self.note_rooms(is_full);
        self.answers.send(note);
    }

    /// Returns the note for the operator that further rooms are refused, or are accepted again, if that is new.
    pub fn note_rooms(&mut self, is_full: bool) -> Option<StoreEvent> {
        if std::mem::replace(&mut self.rooms_full, is_full) == is_full {
            return None;
        }
        let limit = self.batches.rooms_max;
        let advice = match limit {
            _ if limit < self.parts.bounds.rooms_max => match self.parts.bounds.max_database_size {
                0 => "; free some disk space, or set max_database_size",
                _ => "; raise max_database_size",
            },
            _ if limit < schema::ROOM_IDS => "; raise rooms_max",
            _ => "",
        };
        let text = format!(
            "the database has as many rooms as it takes ({limit}): messages to further rooms are refused{advice}"
        );
        Some(StoreEvent::Note { about: About::Rooms, text: is_full.then_some(text) })
    }

    /// Records in the database that it is damaged, so that the next start acts on it. The first record stays.
    pub fn note(&mut self, what: String) {
        let what = match std::mem::replace(&mut self.noted, Noted::Nothing) {
            Noted::Written => {
                self.noted = Noted::Written;
                return;
            }
            Noted::Waiting(first) => first,
            Noted::Nothing => what,
        };
        roll_back(&self.parts.conn);
        self.noted = match schema::note_damage(&self.parts.conn, &what) {
            Ok(()) => Noted::Written,
            // Retried at shutdown.
            Err(_) => Noted::Waiting(what),
        };
        self.untidy = true;
    }

    /// Records when the whole database was last read.
    pub fn scrubbed(&mut self) {
        roll_back(&self.parts.conn);
        // If this fails, the next background check just comes sooner.
        let _ = schema::note_scrubbed(&self.parts.conn, self.running());
        self.untidy = true;
    }

    /// Empties the WAL.
    fn tidy(&mut self) {
        if self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)") {
            self.untidy = false;
            self.restart_past = self.wal_frames();
        } else {
            // Another process is reading: back off.
            self.idle = (self.idle * 2).min(self.parts.timing.idle * 16);
            self.quiet_since = self.parts.clock.now();
        }
        self.measure_wal();
    }

    /// Tests whether writing works again by writing 64 KiB and deleting them.
    fn probe(&mut self, retry: Duration) {
        let again = (retry * 2).min(self.parts.timing.probe_last);
        self.check_files();
        if matches!(self.health, Health::Gone(_)) {
            return;
        }
        self.look_again();
        if self.wal != Length::TooLong && (self.writes_scratch() || self.make_space() && self.writes_scratch()) {
            let recovered: Option<StoreEvent> = self.recovered();
            self.answers.send(recovered);
        } else if let Health::Failing { retry, .. } = &mut self.health {
            *retry = again;
        }
    }

    /// Does what may end a failure, if it was done long enough ago: under load there is no idle moment for a probe.
    pub fn look_again_if_due(&mut self) {
        if let Health::Failing { retry, .. } = self.health
            && self.parts.clock.since(self.looked_again) >= retry
        {
            self.look_again();
        }
    }

    /// Does what may end a failure: takes over how much space the disk has now, and empties the WAL, which may itself
    /// free some.
    fn look_again(&mut self) {
        self.looked_again = self.parts.clock.now();
        roll_back(&self.parts.conn);
        self.follow_the_disk();
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        self.measure_wal();
    }

    /// Writes 64 KiB and deletes them. Returns whether that worked.
    fn writes_scratch(&self) -> bool {
        let conn = &self.parts.conn;
        let put = "INSERT OR REPLACE INTO messages (id, at, name, body) VALUES (?1, 0, '', zeroblob(65536))";
        let written = conn.execute(put, [SCRATCH]);
        written.and_then(|_| conn.execute("DELETE FROM messages WHERE id = ?1", [SCRATCH])).is_ok()
    }

    /// Looks after the WAL once this commit, of so many writes and bytes, and those before it may have added enough to
    /// it. Looking costs a system call and a statement that SQLite prepares anew each time.
    pub fn bound_the_wal_after(&mut self, writes: usize, bytes: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let frames = self.parts.pages.bytes(FRAMES_OF_A_WRITE * (1 + count(writes)));
        self.unmeasured = self.unmeasured.saturating_add(frames).saturating_add(count(bytes));
        if self.unmeasured >= LOOKED_AT {
            self.bound_the_wal();
        }
    }

    /// Returns the number of frames above which the WAL starts over.
    fn wal_frames(&self) -> i64 {
        self.parts.pages.in_bytes(WAL_BYTES)
    }

    /// Has the WAL copied, or makes it start over, once it is too long. If a reader prevents the latter, the next
    /// attempt is after the WAL has grown by as much again.
    pub fn bound_the_wal(&mut self) {
        self.unmeasured = 0;
        self.measure_wal();
        let frames = self.frames();
        match frames.due(self.restart_past, self.parts.pages, self.parts.copier.is_copying()) {
            Due::Nothing => {}
            Due::Copy => self.parts.copier.ask(),
            Due::Restart => {
                let restarted = self.checkpoint("PRAGMA wal_checkpoint(RESTART)");
                self.restart_past = if restarted { self.wal_frames() } else { frames.all + self.wal_frames() };
            }
        }
    }

    /// Returns the number of pages in the WAL since it last started over. The file may be longer: it is overwritten
    /// from its beginning, which is cheaper than truncating it each time. (NOOP counts and does nothing.)
    fn frames(&self) -> Frames {
        let count = |sql| {
            let mut statement = self.parts.conn.prepare_cached(sql)?;
            statement.query_row([], |row| Ok(Frames { all: row.get(1)?, copied: row.get(2)? }))
        };
        count("PRAGMA wal_checkpoint(NOOP)").unwrap_or_default()
    }

    /// Runs a checkpoint. Returns whether the whole WAL is now in the database file and no reader needs it.
    pub fn checkpoint(&mut self, pragma: &str) -> bool {
        self.parts.copier.settle();
        let conn = &self.parts.conn;
        let _ = conn.busy_timeout(CHECKPOINT_BUSY);
        let busy = conn.query_row(pragma, [], |row| row.get::<_, bool>(0));
        let _ = conn.busy_timeout(BUSY);
        busy == Ok(false)
    }

    /// Measures the WAL file, and tells when it becomes long and when that is over.
    pub fn measure_wal(&mut self) {
        let length = Length::of(self.parts.files.wal_bytes(), self.max_bytes());
        let (was_usual, is_usual) = (self.wal == Length::Usual, length == Length::Usual);
        self.wal = length;
        if was_usual != is_usual {
            let text = (!is_usual).then(|| LONG_WAL.to_owned());
            self.answers.send([StoreEvent::Note { about: About::Wal, text }]);
        }
    }

    /// Returns the maximum size of the database in bytes.
    pub fn max_bytes(&self) -> u64 {
        number(self.parts.pages.bytes(self.parts.most_pages))
    }
}
