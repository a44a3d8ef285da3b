//! The store's side that only a database has: it is opened by each server, its writer uses the pauses, and what goes of
//! it is judged.

use racerd::store::StoreEvent;
use racerd::types::{Millis, WallMillis};

use super::agenda::{Event, MILLISECOND, Micros};
use super::keeping::Keeping;
use super::log::Log;
use super::retention::Retention;
use super::scene::{Checked, Scene, violation};
use super::store::{Store, oldest};

/// Milliseconds between two looks for what is to go, and for the going.
const ONE_LOOK: u64 = 30_000;

impl Store {
    /// The next server opens a database.
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

    /// How long servers have run on the log, for those who watch.
    pub(super) fn count_running(&self, scene: &mut Scene) {
        if let Log::Database(database) = &self.disk.log {
            scene.model.running = database.ran(scene.clock.read(scene.now)) / 1000;
        }
    }

    /// Something may be gone. Was that right, and is everything gone that is due?
    pub(super) fn look(&mut self, scene: &mut Scene) -> Checked {
        let now = scene.clock.read(scene.now);
        let mut is_large = false;
        let (mut running, mut squeezed) = (0, 0);
        let keeping = scene.mix.keeping;
        if let Log::Database(database) = &mut self.disk.log {
            running = database.running_millis(now);
            if self.looks != database.dates_read() {
                self.looks = database.dates_read();
                self.retention.look(now.wall.0, running);
            }
            is_large = database.bytes().saturating_mul(16) >= keeping.bytes.saturating_mul(15);
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

    /// What the log itself says of whether it takes appends.
    pub(super) fn note_health(&mut self, events: &[StoreEvent]) {
        for event in events {
            if let StoreEvent::Available(outcome) = event {
                self.is_ailing = outcome.is_err();
                // Where it takes none, nothing goes, either.
                self.retention.rest();
            }
        }
    }

    /// Has the database's writer use the pause as soon as it would.
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
            events.into_iter().for_each(|event| self.answer_write(event, scene));
            self.look(scene)?;
        }
        self.plan_upkeep(scene);
        Ok(())
    }

    /// The database may have any size from now on.
    pub fn lift_bound(&mut self, scene: &mut Scene) {
        scene.mix.keeping.bytes = 1 << 30;
        self.set_bounds(scene);
    }

    /// Applies what the settings say now of how much is kept.
    pub fn set_bounds(&mut self, scene: &mut Scene) {
        let bounds = scene.mix.keeping.bounds(&scene.mix.limits);
        match &mut self.disk.log {
            Log::Memory(log) => log.set_parked_max(bounds.parked_max),
            Log::Database(database) => {
                // What went by a shorter time does not come back with a longer one.
                scene.model.key_life = scene.model.key_life.min(bounds.park_for);
                let mut events = Vec::new();
                database.set_limits(scene.clock.read(scene.now), bounds, &mut events);
                self.note_health(&events);
                events.into_iter().for_each(|event| self.answer_write(event, scene));
            }
        }
    }

    /// One row goes bad: it is heard as unreadable from now on, where it is read, and nothing else is.
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

    /// How long until nothing is to be kept any more; `None` where messages are kept for ever.
    pub fn patience(&self, keeping: &Keeping) -> Option<Micros> {
        let goes = keeping.in_database && keeping.keep_for > 0;
        goes.then(|| Retention::patience(keeping))
    }

    /// After that time: nothing is left but what no stamp tells the age of.
    pub fn check_outlasted(&self, scene: &Scene) -> Checked {
        let keep_for = scene.mix.keeping.keep_for;
        let now = scene.clock.read(scene.now).wall.0;
        let is_old = |at: u64| (WallMillis::EARLIEST.0..now - keep_for - ONE_LOOK).contains(&at);
        for room in &scene.model.rooms {
            let old = (room.oldest..=room.head()).find(|seq| room.at(*seq).is_some_and(is_old));
            // Before it there may be one that is ahead, though by less than a day.
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
