//! One run: clients, links, store and server in virtual time. In the first phase every fault of this run's mix may
//! occur; then faults end, and every client must get live; then all clients leave, and no state may be left.
//!
//! Checker: (6) once faults end, every client gets live again.

use racerd::crypto::sealed::SealedKey;

use super::agenda::{Agenda, Event, MILLISECOND, Micros, Mishap, SECOND};
use super::bounds::Bounds;
use super::client::Client;
use super::clock::Clock;
use super::ends::Ends;
use super::faults::Mix;
use super::here::Here;
use super::host::Host;
use super::model::Model;
use super::network::Links;
use super::scene::{Checked, Scene, Violation, violation};
use super::settings::History;
use super::signals::Signals;
use super::store::Store;
use super::strangers::Strangers;
use super::tally::Tally;
use super::trace::Trace;
use super::witness::Witness;

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Client actions before the faults end.
    pub actions: u64,
    /// Lines of the trace to keep.
    pub lines: usize,
    /// Every log that outlives the server is kept in a database.
    pub databases: bool,
}

/// The result of a run.
pub struct Outcome {
    pub tally: Tally,
    pub hash: u64,
    pub steps: u64,
    pub lines: Vec<String>,
    pub violation: Option<Violation>,
}

/// Virtual time within which every client is live after faults end: several times the longest back-off and retry-after.
const LIVE_WITHIN: Micros = 600 * SECOND;
/// Virtual time after which nothing is left of the clients that went.
const GONE_WITHIN: Micros = 600 * SECOND;
/// Turns at one moment after which the loop counts as spinning.
const SPIN: u32 = 100_000;
/// A run that exceeds this many events per action is taken to be stuck.
const STEPS_PER_ACTION: u64 = 20_000;

const LIVE: &str = "6: everyone gets live once faults end";
const LEFT: &str = "4: nothing is left of those who went";

pub struct World {
    scene: Scene,
    clients: Vec<Client>,
    strangers: Strangers,
    host: Option<Host>,
    /// Absent only while it is handed to the next server.
    store: Option<Store>,
    bounds: Bounds,
    turn_at: Option<Micros>,
    turns_at_once: u32,
    last_turn: Micros,
    is_stopping: bool,
    steps: u64,
}

/// Makes one run.
pub fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    let violation = world.live(plan.actions).err();
    let World { mut scene, steps, .. } = world;
    Outcome { hash: scene.trace.hash(), lines: scene.trace.take_lines(), tally: scene.tally, steps, violation }
}

impl World {
    fn new(plan: Plan) -> World {
        let (mix, mut random) = Mix::draw(plan.seed, plan.databases);
        let store = Store::new(&mix, &mut random);
        let clients = (0..mix.clients)
            .map(|index| Client::new(index, if mix.namesakes { index / 2 } else { index }, index < mix.sealed))
            .collect();
        let key = SealedKey::new(random.array());
        let strangers = Strangers::new(&mix, plan.seed);
        let scene = Scene {
            now: 0,
            clock: Clock::new(mix.server.speed, mix.server.wall),
            agenda: Agenda::default(),
            random,
            links: Links::default(),
            model: Model::new(mix.rooms, &store.disk.epoch),
            mix,
            limits: History::default(),
            tally: Tally::default(),
            trace: Trace::new(plan.lines),
            witness: Witness::default(),
            here: Here::default(),
            signals: Signals::default(),
            ends: Ends::default(),
            key,
            is_listening: false,
            is_calm: false,
            is_turn_due: false,
            rests_until: None,
            run: 0,
            epochs: Vec::new(),
        };
        World {
            scene,
            clients,
            strangers,
            host: None,
            store: Some(store),
            bounds: Bounds::default(),
            turn_at: None,
            turns_at_once: 0,
            last_turn: 0,
            is_stopping: false,
            steps: 0,
        }
    }

    /// Runs the three phases.
    fn live(&mut self, actions: u64) -> Checked {
        let mix = &self.scene.mix;
        self.scene.trace.line(0, "world", || format!("{mix:?}"));
        self.start()?;
        for client in &self.clients {
            client.plan(&mut self.scene);
        }
        let server = self.scene.mix.server;
        let mishaps = [
            (Mishap::Kill, server.kill),
            (Mishap::PowerCut, server.power_cut),
            (Mishap::Stop, server.stop),
            (Mishap::Suspend, server.suspend),
            (Mishap::SetClock, server.set_clock),
            (Mishap::Reload, server.reload),
            (Mishap::DiskFull, server.disk_full),
            (Mishap::Damage, self.scene.mix.keeping.damage),
        ];
        for (mishap, every) in mishaps {
            self.plan_mishap(mishap, every);
        }
        while self.scene.tally.actions < actions {
            self.step()?;
            if self.steps > actions.max(100) * STEPS_PER_ACTION {
                return violation(LIVE, "nobody does anything any more");
            }
        }
        self.calm_down()?;
        self.thin_out()?;
        self.go()?;
        self.outlast()
    }

    /// Ends the faults.
    fn calm_down(&mut self) -> Checked {
        self.scene.trace.line(self.scene.now, "world", || "faults end");
        self.scene.is_calm = true;
        self.scene.mix.calm_down();
        self.scene.clock.mend(self.scene.now);
        self.scene.break_silent_links();
        self.store_mut().set_full(false);
        if let Some(store) = &mut self.store {
            store.lift_bound(&mut self.scene);
        }
        let until = self.scene.now + LIVE_WITHIN;
        self.until(until, |world| world.is_settled())?;
        // Messages may have been stored without anybody being told; the next message reveals them.
        self.publish()?;
        self.until(until, |world| world.is_settled())?;
        // A large room sends its count once a second, so a client's list of names may be older.
        self.until(until, |world| world.compare_rosters())
    }

    /// Lets every second client go. The others hear how many are left, although nobody else comes.
    fn thin_out(&mut self) -> Checked {
        self.scene.trace.line(self.scene.now, "world", || "every second one goes");
        self.clients.iter_mut().skip(1).step_by(2).for_each(Client::leave_for_good);
        let until = self.scene.now + GONE_WITHIN;
        self.until(until, |world| world.compare_counts())
    }

    /// Checks that the remaining clients know their number.
    fn compare_counts(&self) -> Checked {
        const CHECKER: &str = "6: everyone knows how many are here";
        for client in &self.clients {
            for (room, view) in client.rooms.iter().filter(|_| !client.is_leaving()) {
                let left = self.clients.iter().filter(|other| !other.is_leaving() && other.is_in(*room)).count();
                let here = self.scene.here.room(*room).map_or(0, |here| here.members.len());
                if here != left {
                    return violation(CHECKER, format!("{here} are in r{room}, and {left} clients have not left"));
                }
                let count = view.members.as_ref().map(|members| members.count);
                if view.hears_count() && count != Some(here as u64) {
                    let text = format!("c{} takes them for {count:?} in r{room}, and they are {here}", client.index);
                    return violation(CHECKER, text);
                }
            }
        }
        Ok(())
    }

    /// Lets all clients go.
    fn go(&mut self) -> Checked {
        self.scene.trace.line(self.scene.now, "world", || "everyone goes");
        self.clients.iter_mut().for_each(Client::leave_for_good);
        let until = self.scene.now + GONE_WITHIN;
        self.until(until, |world| world.is_empty())
    }

    /// Lets time pass until no dated message is to be kept any more.
    fn outlast(&mut self) -> Checked {
        let Some(patience) = self.store.as_ref().and_then(|store| store.patience(&self.scene.mix.keeping)) else {
            return Ok(());
        };
        for _ in 0..2 {
            let scene = &mut self.scene;
            scene.clock.pass(scene.now, patience);
            self.plan_upkeep();
            let until = self.scene.now + 60 * SECOND;
            while self.scene.now < until && !self.scene.agenda.is_empty() {
                self.step()?;
            }
        }
        self.store.as_ref().map_or(Ok(()), |store| store.check_outlasted(&self.scene))
    }

    fn plan_upkeep(&mut self) {
        if let (Some(store), true) = (&mut self.store, self.host.is_some()) {
            store.plan_upkeep(&mut self.scene);
        }
    }

    /// Continues until the condition holds; at `time` it must.
    fn until(&mut self, time: Micros, mut is_so: impl FnMut(&World) -> Checked) -> Checked {
        let mut next_look = 0;
        loop {
            let is_last = self.scene.now > time || self.scene.agenda.is_empty();
            if is_last || self.scene.now >= next_look {
                match is_so(self) {
                    Ok(()) => return Ok(()),
                    Err(fault) if is_last => return Err(fault),
                    Err(_) => next_look = self.scene.now + 50 * MILLISECOND,
                }
            }
            self.step()?;
        }
    }

    fn is_settled(&self) -> Checked {
        if self.host.is_none() || self.is_stopping {
            return violation(LIVE, "the server is not up");
        }
        for client in &self.clients {
            if let Err(fault) = client.is_settled(&self.scene) {
                return violation(LIVE, fault);
            }
        }
        Ok(())
    }

    /// Publishes one message in each room from outside, so that there is a last one that every client has to hear.
    fn publish(&mut self) -> Checked {
        for room in 0..self.scene.model.rooms.len() {
            let index = room % self.clients.len();
            self.clients[index].publish(room, &mut self.scene);
        }
        Ok(())
    }

    /// Checks that every client is here, and that every client knows it.
    fn compare_rosters(&self) -> Checked {
        for client in &self.clients {
            for (room, view) in &client.rooms {
                let Some(roster) = view.members.as_ref().and_then(|members| members.names.as_ref()) else { continue };
                let here = self.clients.iter().filter(|client| client.is_in(*room));
                let members: Vec<&str> = here.filter_map(|client| client.member()).collect();
                let missing = members.iter().find(|member| roster.get(**member) != Some(&false));
                if let Some(member) = missing {
                    let text = format!("c{} takes {member} for {:?} in r{room}", client.index, roster.get(*member));
                    return violation("6: everyone knows who is here", text);
                }
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> Checked {
        let (Some(host), Some(store)) = (&self.host, &self.store) else {
            return violation(LEFT, "the server is not up");
        };
        let hub = &host.engine.app.hub;
        let (rooms, sessions, connections) = (hub.room_count(), hub.session_count(), host.engine.net.count());
        if rooms + sessions + connections > 0 {
            return violation(LEFT, format!("{rooms} rooms, {sessions} sessions, {connections} connections"));
        }
        for client in &self.clients {
            if let Err(fault) = client.is_gone() {
                return violation(LEFT, fault);
            }
        }
        if !store.is_idle() {
            return violation(LEFT, "the store is at work");
        }
        match host.engine.deadline() {
            None => Ok(()),
            Some(due) => violation(LEFT, format!("a deadline at {due:?}")),
        }
    }

    // Events.

    fn step(&mut self) -> Checked {
        let Some((time, event)) = self.scene.agenda.pop() else {
            return violation(LIVE, "nothing is on the agenda any more");
        };
        self.steps += 1;
        self.scene.now = time;
        self.scene.trace.mark(time);
        match event {
            Event::Act { client } => {
                self.clients[client].judge_rest(&mut self.scene)?;
                self.clients[client].act(&mut self.scene)?;
                self.clients[client].plan(&mut self.scene);
                self.strangers.act(&mut self.scene);
            }
            Event::Up { link } => self.scene.move_up(link),
            Event::Down { link } => {
                self.scene.move_down(link);
                let client = self.scene.links.get(link).client;
                if self.scene.links.get(link).is_open_to_client() {
                    self.clients[client].bytes(link, &mut self.scene)?;
                }
            }
            Event::Break { link } => {
                let client = self.scene.links.get(link).client;
                if self.scene.break_link(link) && client < self.clients.len() {
                    self.clients[client].lost(link, &mut self.scene);
                }
            }
            Event::Turn if self.turn_at == Some(time) => self.turn()?,
            Event::Turn => {}
            Event::Commit | Event::Upkeep | Event::Read { .. } | Event::Answer { .. } => self.store_event(event)?,
            Event::Mishap(mishap) => self.befall(mishap)?,
            Event::Start => self.start()?,
        }
        if self.scene.links.wants_turn() {
            let turn = self.scene.random.within((0, self.scene.mix.server.turn));
            self.wake(time + turn);
        }
        Ok(())
    }

    fn store_event(&mut self, event: Event) -> Checked {
        let now = self.scene.now;
        let scene = &mut self.scene;
        let Some(store) = &mut self.store else { return Ok(()) };
        match event {
            Event::Commit if store.is_due(now) => store.commit(scene),
            Event::Upkeep => store.upkeep(scene),
            Event::Read { number } => store.read(number, scene),
            Event::Answer { number } => {
                if store.deliver(number) {
                    self.wake(now);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn wake(&mut self, time: Micros) {
        if self.host.is_some() && self.turn_at.is_none_or(|at| time < at) {
            self.turn_at = Some(time);
            self.scene.agenda.at(time, Event::Turn);
        }
    }

    fn turn(&mut self) -> Checked {
        self.turn_at = None;
        let (Some(host), Some(store)) = (&mut self.host, &mut self.store) else { return Ok(()) };
        self.turns_at_once = if self.last_turn == self.scene.now { self.turns_at_once + 1 } else { 0 };
        self.last_turn = self.scene.now;
        if self.turns_at_once > SPIN {
            return violation("6: the loop rests", format!("the loop spins; deadline {:?}", host.engine.deadline()));
        }
        let next = host.turn(store, &mut self.scene)?;
        self.strangers.turned(&host.engine, &mut self.scene)?;
        let repeats = self.scene.mix.store.repeats > 0 || self.scene.tally.answers_repeated > 0;
        self.bounds.check(&host.engine, store, &self.scene.limits, self.scene.now, repeats)?;
        let Scene { here, model, mix, witness, .. } = &mut self.scene;
        here.look(&host.engine, model, &mix.limits, witness.mono)?;
        let hub = &host.engine.app.hub;
        // Without a grace period, a client that is lost in the same turn leaves nothing behind.
        let forgets = self.scene.mix.limits.resume_within == 0;
        let is_here = |session| forgets || hub.find_session(session).is_some();
        if let Err(fault) = self.scene.witness.check_owed(is_here) {
            return violation("4: what was kept is given back once", fault);
        }
        if host.engine.is_finished() {
            return self.end(true, true);
        }
        if let Some(next) = next {
            self.wake(next);
        }
        Ok(())
    }

    fn store_mut(&mut self) -> &mut Store {
        self.store.as_mut().expect("a store, between two events")
    }

    // The server's life.

    fn start(&mut self) -> Checked {
        if self.host.is_some() {
            return Ok(());
        }
        let scene = &mut self.scene;
        scene.clock.restart(scene.now);
        if !scene.is_calm && scene.mix.server.set_clock > 0 && scene.random.below(4) == 0 {
            // The clock was set unobserved, while the server was down.
            scene.tally.clocks_set += 1;
            scene.clock.meddle(scene.now, &mut scene.random);
        }
        self.scene.run = self.scene.epochs.len() as u32;
        let Some(store) = &mut self.store else { return Ok(()) };
        store.open(&mut self.scene)?;
        let epoch = store.disk.epoch.clone();
        self.scene.trace.line(self.scene.now, "server", || format!("starts, epoch {epoch}"));
        self.scene.epochs.push(epoch);
        self.scene.limits.begin(self.scene.now, self.scene.mix.limits);
        self.host = Some(Host::start(store, &mut self.scene));
        self.bounds = Bounds::default();
        self.scene.here = Here::default();
        self.scene.is_listening = true;
        self.is_stopping = false;
        self.plan_upkeep();
        self.wake(self.scene.now);
        Ok(())
    }

    /// Ends the server. The next one begins with what the disk kept.
    fn end(&mut self, in_order: bool, with_power: bool) -> Checked {
        let unread = self.host.take().and_then(|host| host.new_limits);
        self.turn_at = None;
        self.scene.is_listening = false;
        self.is_stopping = false;
        let Some(mut store) = self.store.take() else { return Ok(()) };
        if in_order {
            store.finish(&mut self.scene)?;
        }
        self.scene.server_dies(!with_power);
        let is_full = store.is_full();
        let mut store = store.reopen(in_order, with_power, &mut self.scene)?;
        store.set_full(is_full);
        if let Some(limits) = unread {
            self.scene.mix.limits = limits;
            store.set_bounds(&mut self.scene);
        }
        self.store = Some(store);
        self.scene.later(self.scene.mix.server.down, Event::Start);
        Ok(())
    }

    fn plan_mishap(&mut self, mishap: Mishap, every: Micros) {
        if every > 0 && !self.scene.is_calm {
            let wait = self.scene.random.within((every / 4, every * 2));
            self.scene.agenda.at(self.scene.now + wait, Event::Mishap(mishap));
        }
    }

    fn befall(&mut self, mishap: Mishap) -> Checked {
        if self.scene.is_calm && mishap != Mishap::DiskFree {
            return Ok(());
        }
        self.scene.trace.line(self.scene.now, "world", || format!("{mishap:?}"));
        let server = self.scene.mix.server;
        let now = self.scene.now;
        let is_up = self.host.is_some();
        let every = match mishap {
            Mishap::Kill => {
                if is_up {
                    self.scene.tally.kills += 1;
                    self.end(false, true)?;
                }
                server.kill
            }
            Mishap::PowerCut => {
                if is_up {
                    self.scene.tally.power_cuts += 1;
                    self.end(false, false)?;
                }
                server.power_cut
            }
            Mishap::Stop => {
                if let Some(host) = &mut self.host
                    && !self.is_stopping
                {
                    self.scene.tally.stops += 1;
                    self.is_stopping = true;
                    host.stop();
                    self.wake(now);
                }
                server.stop
            }
            Mishap::Suspend => {
                self.scene.tally.suspends += 1;
                let by = self.scene.random.magnitude((SECOND, 3600 * SECOND));
                self.scene.clock.sleep(now, by, &mut self.scene.random);
                self.plan_upkeep();
                self.wake(now);
                server.suspend
            }
            Mishap::SetClock => {
                self.scene.tally.clocks_set += 1;
                self.scene.clock.meddle(now, &mut self.scene.random);
                server.set_clock
            }
            Mishap::Reload => {
                let limits = self.scene.mix.limits.redraw(&mut self.scene.random);
                match &mut self.host {
                    Some(host) => {
                        host.reload(limits);
                        self.wake(now);
                    }
                    // The next server starts with the new settings.
                    None => {
                        self.scene.mix.limits = limits;
                        if let Some(store) = &mut self.store {
                            store.set_bounds(&mut self.scene);
                        }
                    }
                }
                server.reload
            }
            Mishap::DiskFull => {
                self.scene.tally.disk_full += 1;
                self.store_mut().set_full(true);
                let spell = self.scene.random.magnitude((100 * MILLISECOND, 20 * SECOND));
                self.scene.agenda.at(now + spell, Event::Mishap(Mishap::DiskFree));
                server.disk_full
            }
            Mishap::DiskFree => {
                self.store_mut().set_full(false);
                0
            }
            Mishap::Damage => {
                if let Some(store) = &mut self.store {
                    store.damage(&mut self.scene)?;
                }
                self.scene.mix.keeping.damage
            }
        };
        self.plan_mishap(mishap, every);
        Ok(())
    }
}
