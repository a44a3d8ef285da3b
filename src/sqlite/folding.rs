//! When the writer folds: pieces between commits, so that none waits for more than one, unless so much waits to be
//! folded that commits have to. A fold that fails is tried again later; it harms no commit before that.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::batch::Batches;
use super::damage::is_damage;
use super::fold::Position;
use super::open;
use super::pages::{RESERVE, RESERVE_PART};
use super::unfolded::{FoldLimits, Unfolded};
use super::writer::{Health, SPACE_TRIES, WriterLoop, is_full};

/// The state of the writer's folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folding {
    /// Nothing is due.
    Waiting,
    /// A fold is under way.
    At {
        position: Position,
        /// The running second at which it began.
        begun: u64,
    },
    /// The last one failed; the next begins then.
    Failed(Instant),
}

impl WriterLoop {
    /// Returns whether a piece of a fold is to be written now.
    pub fn is_folding(&self) -> bool {
        matches!(self.folding, Folding::At { .. })
    }

    /// Begins a fold if one is due: too much waits, or for too long.
    fn begin_if_due(&mut self) {
        let running = self.running();
        let limits = self.fold_limits();
        let unfolded = &self.batches.unfolded;
        let is_due = self.waits(1)(unfolded) || unfolded.too_old_at(&limits).is_some_and(|then| running >= then);
        let may = match self.folding {
            Folding::Waiting => true,
            Folding::At { .. } => false,
            Folding::Failed(until) => self.parts.clock.now() >= until,
        };
        match (may, is_due) {
            (true, true) => self.begin_fold(),
            (true, false) => self.folding = Folding::Waiting,
            (false, _) => {}
        }
    }

    /// Begins a fold of all that waits.
    pub fn begin_fold(&mut self) {
        if !self.is_folding() && !self.batches.unfolded.is_empty() {
            self.folding = Folding::At { position: Position::default(), begun: self.running() };
        }
    }

    /// Begins a fold because the upkeep wants to delete something of these rooms. Returns whether one is under way, for
    /// any reason.
    pub fn fold_rooms(&mut self, rooms: &[i64]) -> bool {
        self.take_in(rooms);
        // The upkeep comes again sooner than a fold that failed is worth another attempt.
        if !rooms.is_empty() && self.folding == Folding::Waiting {
            self.begin_fold();
        }
        self.is_folding()
    }

    /// Folds these rooms alone, as far as a few pieces go, so that retention can delete in them. It then leaves alone
    /// those that are damaged. Returns whether any was folded.
    pub fn fold_for_retention(&mut self, rooms: &[i64]) -> rusqlite::Result<bool> {
        let rooms = self.take_in(rooms);
        self.untidy = true;
        if self.with_all_pages(|conn, batches| batches.fold_rooms(conn, &rooms)).is_ok() {
            return Ok(!rooms.is_empty());
        }
        // One of them may be in the way of the others.
        let mut is_any = false;
        for room in rooms {
            match self.with_all_pages(|conn, batches| batches.fold_rooms(conn, &[room])) {
                Ok(()) => is_any = true,
                Err(error) if is_damage(&error) => {
                    self.tell_of_room("the keys", room, &error);
                    self.retention.leave_alone(room);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(is_any)
    }

    /// Makes sure that what waits in these rooms is in memory, until there is enough. Returns those where it is.
    /// Retention leaves alone those that are damaged.
    fn take_in(&mut self, rooms: &[i64]) -> Vec<i64> {
        let (now, is_enough) = (self.running(), self.waits(1));
        let mut taken = Vec::new();
        for room in rooms {
            let unfolded = &self.batches.unfolded;
            if unfolded.tail(*room).is_none() && is_enough(unfolded) {
                continue;
            }
            match self.batches.take_in(&self.parts.conn, *room, now) {
                Ok(()) => taken.push(*room),
                Err(error) => {
                    self.tell_of_room("the newest messages", *room, &error);
                    if is_damage(&error) {
                        self.retention.leave_alone(*room);
                    }
                }
            }
        }
        taken
    }

    /// Writes a piece of a fold, if one is due.
    pub fn fold_if_due(&mut self) {
        self.begin_if_due();
        // A failure of the disk matters only once a commit has to wait for a fold, which then reports it.
        if let Err(error) = self.fold_piece() {
            self.tell_of_damage("a sender's keys", &error);
        }
    }

    fn fold_piece(&mut self) -> rusqlite::Result<()> {
        let Folding::At { position, begun } = self.folding else { return Ok(()) };
        self.untidy = true;
        match self.with_all_pages(|conn, batches| batches.fold(conn, position)) {
            Ok(Some(position)) => self.folding = Folding::At { position, begun },
            Ok(None) => {
                self.folding = Folding::Waiting;
                self.batches.unfolded.all_since(begun);
            }
            Err(error) => {
                self.folding = Folding::Failed(self.parts.clock.now() + self.parts.timing.probe_last);
                return Err(error);
            }
        }
        self.bound_the_wal();
        Ok(())
    }

    /// Folds all that waits.
    ///
    /// # Errors
    /// A piece could not be written. What was not folded goes on waiting.
    pub fn fold_all(&mut self) -> rusqlite::Result<()> {
        self.begin_fold();
        while self.is_folding() {
            self.fold_piece()?;
        }
        Ok(())
    }

    /// Folds as long as so much waits that nothing may be added to it. Where that needs more pages than the database
    /// has left, old messages make space for it, if they may be deleted.
    ///
    /// # Errors
    /// A piece could not be written.
    pub fn fold_down(&mut self) -> rusqlite::Result<()> {
        let mut tries = 0;
        let is_enough = self.waits(2);
        while is_enough(&self.batches.unfolded) {
            self.begin_fold();
            if let Err(error) = self.fold_piece() {
                if tries == SPACE_TRIES || !is_full(&error) || !self.make_space() {
                    return Err(error);
                }
                tries += 1;
            }
        }
        Ok(())
    }

    /// Folds something with the pages that only folds may take.
    fn with_all_pages<T>(
        &mut self,
        fold: impl FnOnce(&Connection, &mut Batches) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.with_pages(self.parts.most_pages, |writer| {
            let folded = fold(&writer.parts.conn, &mut writer.batches);
            writer.batches.space.changed();
            folded
        })
    }

    /// Writes something with so many pages, of which messages may not take all.
    pub fn with_pages<T>(
        &mut self,
        most: i64,
        write: impl FnOnce(&mut WriterLoop) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        open::set_most_pages(&self.parts.conn, most)?;
        let written = write(self);
        // If this fails, messages may take those pages, too, until the next time.
        let _ = open::set_most_pages(&self.parts.conn, self.pages_for_messages());
        written
    }

    /// Returns the limits at which a fold begins. Where messages go by their age, none waits for longer than a part of
    /// that.
    fn fold_limits(&self) -> FoldLimits {
        let limits = self.parts.fold_limits;
        match self.parts.bounds.keep_for {
            0 => limits,
            keep_for => FoldLimits { age: limits.age.min((keep_for / 1000 / 64).max(1)), ..limits },
        }
    }

    /// Returns the test of whether as much waits as the limits allow, or `times` as much.
    pub fn waits(&self, times: u64) -> impl Fn(&Unfolded) -> bool + use<> {
        let (limits, reserve) = (self.fold_limits(), self.fold_reserve());
        move |unfolded| unfolded.is_at(&limits, times, reserve)
    }

    /// Returns how many bytes the database has left for folds when it has no page left for messages.
    fn fold_reserve(&self) -> u64 {
        (self.max_bytes() / RESERVE_PART).min(RESERVE)
    }

    /// Returns the maximum number of pages for anything but folds.
    pub fn pages_for_messages(&self) -> i64 {
        self.parts.pages.for_messages(self.parts.most_pages)
    }

    /// Returns whether enough waits to be folded once nothing is written any more.
    pub fn has_some_to_fold(&self) -> bool {
        matches!(self.health, Health::Well)
            && self.folding == Folding::Waiting
            && self.batches.unfolded.are_many(&self.parts.fold_limits)
    }

    /// Returns in how long the next piece is due; `None` if nothing waits.
    pub fn fold_due_in(&self) -> Option<Duration> {
        match self.folding {
            Folding::At { .. } => Some(Duration::ZERO),
            Folding::Failed(until) => Some(until.saturating_duration_since(self.parts.clock.now())),
            Folding::Waiting => {
                let too_old = self.batches.unfolded.too_old_at(&self.fold_limits())?;
                Some(Duration::from_secs(too_old.saturating_sub(self.running())))
            }
        }
    }
}
