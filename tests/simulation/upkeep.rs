//! The store's tasks that only a database has: each server opens it, its writer does upkeep in the pauses, and its
//! pruning is judged.

use racerd::store::StoreEvent;
use racerd::types::{Millis, WallMillis};

use super::agenda::{Event, MILLISECOND, Micros};
use super::keeping::Keeping;
use super::log::Log;
use super::retention::Retention;
use super::scene::{Checked, Scene, violation};
use super::store::{Store, oldest};

/// Milliseconds: the time between two looks for messages to prune, plus the pruning.
const ONE_LOOK: u64 = 30_000;

/// Running seconds for which a key stays after its last use, however full the database is.
const KEYS_STAY: u64 = 60;

impl Store {
    /// Opens the database for the next server.
    pub fn open(&mut self, scene: &mut Scene) -> Checked {
        let Log::Database(database) = &mut self.disk.log else { return Ok(()) };
        scene.tally.databases += 1;
        database.open(scene.clock.read(scene.now), &mut scene.random)?;
        let opened = database.opened();
        let epoch = opened.epoch().0.to_string();
        let is_same = self.disk.epoch == epoch;
        if !is_same && !self.disk.epoch.is_empty() {
            return violation("store: an epoch lasts", format!("{} became {epoch}", self.disk.epoch));
        }
        if is_same && opened.token_key() != self.disk.token_key {
            return violation("store: an epoch lasts", "and its token key does not");
        }
        (self.disk.token_key, self.disk.running) = (opened.token_key(), opened.running_seconds());
        self.disk.epoch = epoch;
        scene.model.key_life = scene.mix.limits.park_for.min(scene.model.key_life);
        let before: Vec<u64> = scene.model.rooms.iter().map(|room| room.oldest).collect();
        scene.tally.lost_commits += scene.model.reopened(&mut self.disk.log)?;
        let now = scene.model.rooms.iter().map(|room| room.oldest);
        if is_same && !before.iter().copied().eq(now) {
            return violation("store: an epoch lasts", format!("the rooms began at {before:?}"));
        }
        let newest = scene.model.rooms.iter().filter_map(|room| room.at(room.head())).max();
        self.retention.begin(self.disk.running * 1000, newest);
        self.saved = self.retention.clone();
        self.looks = 0;
        self.look(scene)
    }

    /// Records for the observers how long servers have run on the log.
    pub(super) fn count_running(&self, scene: &mut Scene) {
        if let Log::Database(database) = &self.disk.log {
            scene.model.running = database.ran(scene.clock.read(scene.now)) / 1000;
        }
    }

    /// Judges pruning: nothing was pruned too early, and everything due is gone.
    pub(super) fn look(&mut self, scene: &mut Scene) -> Checked {
        let now = scene.clock.read(scene.now);
        let mut is_large = false;
        let (mut running, mut squeezed) = (0, 0);
        let keeping = scene.mix.keeping;
        if let Log::Database(database) = &mut self.disk.log {
            running = database.running_millis(now);
            self.retention.runs(running);
            if self.looks != database.dates_read() {
                self.looks = database.dates_read();
                self.retention.look(now.wall.0, running);
            }
            is_large = database.bytes().saturating_mul(16) >= keeping.bytes.saturating_mul(15);
            let given = database.opened().youngest_key_given();
            if let Some(age) = given.filter(|age| *age < scene.model.key_life) {
                if !is_large || !keeping.lets_go() || age < KEYS_STAY {
                    return violation("3: a key is stored once", format!("keys unused for {age} s were given up"));
                }
                scene.model.key_life = age;
            }
        }
        for index in 0..scene.model.rooms.len() {
            let room = &scene.model.rooms[index];
            let Some(oldest) = oldest(&mut self.disk.log, room) else {
                return violation("store: a page can be read", format!("{} cannot", room.id));
            };
            if let Log::Database(_) = self.disk.log {
                let by_size = self.retention.judge_gone(room, oldest, running, &keeping, is_large)?;
                scene.tally.pruned += oldest - room.oldest;
                squeezed += (by_size..oldest).map(|seq| scene.model.bytes(index, seq)).sum::<u64>();
            }
            let room = &mut scene.model.rooms[index];
            room.oldest = oldest;
            if let (Log::Database(_), false) = (&self.disk.log, self.is_ailing) {
                self.retention.judge_kept(index, room, running, &keeping)?;
            }
        }
        Retention::judge_squeezed(squeezed, &keeping)?;
        scene.model.judge_again()
    }

    /// Notes whether the log says that it accepts appends.
    pub(super) fn note_health(&mut self, events: &[StoreEvent]) {
        for event in events {
            if let StoreEvent::Available(outcome) = event {
                self.is_ailing = outcome.is_err();
                // A log that accepts no appends prunes nothing, either.
                self.retention.rest();
            }
        }
    }

    /// Schedules the database's upkeep for the time at which the writer would use the pause.
    pub fn plan_upkeep(&mut self, scene: &mut Scene) {
        let Log::Database(database) = &mut self.disk.log else { return };
        let now = scene.clock.read(scene.now);
        let Some(patience) = database.patience(now) else { return };
        let due = now.mono.0.saturating_add(patience.as_nanos().div_ceil(1_000_000) as u64);
        let time = scene.clock.when(Millis(due), scene.now).max(scene.now + MILLISECOND);
        if self.upkeep_at.is_none_or(|at| time < at) {
            self.upkeep_at = Some(time);
            scene.agenda.at(time, Event::Upkeep);
        }
    }

    pub fn upkeep(&mut self, scene: &mut Scene) -> Checked {
        if self.upkeep_at != Some(scene.now) {
            return Ok(());
        }
        self.upkeep_at = None;
        let Log::Database(database) = &mut self.disk.log else { return Ok(()) };
        if !database.is_open() {
            return Ok(());
        }
        let now = scene.clock.read(scene.now);
        if database.patience(now).is_some_and(|patience| patience.is_zero()) || self.is_ailing {
            scene.tally.upkeeps += 1;
            let mut events = Vec::new();
            database.use_the_pause(now, &mut events);
            self.note_health(&events);
            let unused = |event: &StoreEvent| if let StoreEvent::Unused(rooms) = event { rooms.len() } else { 0 };
            scene.tally.proposed += events.iter().map(unused).sum::<usize>() as u64;
            events.into_iter().for_each(|event| self.answer_write(event, scene));
            self.look(scene)?;
        }
        self.plan_upkeep(scene);
        Ok(())
    }

    /// Lifts the database's size limit.
    pub fn lift_bound(&mut self, scene: &mut Scene) {
        scene.mix.keeping.bytes = 1 << 30;
        self.set_bounds(scene);
    }

    /// Applies the retention bounds of the present settings.
    pub fn set_bounds(&mut self, scene: &mut Scene) {
        let bounds = scene.mix.keeping.bounds(&scene.mix.limits);
        match &mut self.disk.log {
            Log::Memory(log) => log.set_parked_max(bounds.parked_max),
            Log::Database(database) => {
                // A longer lifetime does not restore keys that expired under a shorter one.
                scene.model.key_life = scene.model.key_life.min(bounds.park_for);
                let mut events = Vec::new();
                database.set_bounds(scene.clock.read(scene.now), bounds, &mut events);
                self.note_health(&events);
                events.into_iter().for_each(|event| self.answer_write(event, scene));
            }
        }
    }

    /// Damages one row: from now on it is read as unreadable, and no other row is.
    pub fn damage(&mut self, scene: &mut Scene) -> Checked {
        let Log::Database(database) = &mut self.disk.log else { return Ok(()) };
        let index = scene.random.below(scene.model.rooms.len());
        let room = &scene.model.rooms[index];
        if !database.is_open() || room.oldest > room.head() {
            return Ok(());
        }
        let seq = scene.random.within((room.oldest, room.head()));
        if let Err(error) = database.damage(room.id.as_str(), seq, &mut scene.random) {
            return violation("simulation", format!("a row cannot be damaged: {error}"));
        }
        scene.tally.damaged += u64::from(scene.mix.keeping.key.is_some());
        scene.tally.damaged_plain += u64::from(scene.mix.keeping.key.is_none());
        scene.trace.line(scene.now, "world", || format!("{} {seq} goes bad", scene.model.rooms[index].id));
        scene.model.damaged.insert((index, seq));
        Ok(())
    }

    /// Returns the time after which no message is to be kept; `None` where messages are kept forever.
    pub fn patience(&self, keeping: &Keeping) -> Option<Micros> {
        let goes = keeping.in_database && keeping.keep_for > 0;
        goes.then(|| Retention::patience(keeping))
    }

    /// Checks that after that time only messages are left whose stamp does not tell their age.
    pub fn check_outlasted(&self, scene: &Scene) -> Checked {
        let keep_for = scene.mix.keeping.keep_for;
        let now = scene.clock.read(scene.now).wall.0;
        let is_old = |at: u64| (WallMillis::EARLIEST.0..now - keep_for - ONE_LOOK).contains(&at);
        for room in &scene.model.rooms {
            let old = (room.oldest..=room.head()).find(|seq| room.at(*seq).is_some_and(is_old));
            // A message before it may have a stamp that is ahead, though by less than a day.
            let ahead =
                (room.oldest..=room.head()).find(|seq| room.at(*seq).is_some_and(|at| at >= now - keep_for - ONE_LOOK));
            if let Some(seq) = old.filter(|old| ahead.is_none_or(|ahead| *old < ahead)) {
                let text = format!("{} keeps {} to {}, of which {seq} is old", room.id, room.oldest, room.head());
                return violation("retention: what is due goes", text);
            }
        }
        Ok(())
    }
}
