//! The edge of the simulated server: the real engine, and around it the part that `server/` plays in a process. A turn
//! has the same order as the server's own.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use racerd::access::Doors;
use racerd::api::HostRules;
use racerd::chat::{self, Chat, ChatLimits, Secrets};
use racerd::conn::{Connection, Door, Ending};
use racerd::engine::{self, Connections, Edge, Engine, Fact, Input, Part, Turn, Written};
use racerd::store::{StoreEvent, StoreRequest};
use racerd::testing::{Random, nonces};
use racerd::types::{ConnId, Epoch, Millis, shares_of};
use racerd::ws::code;

use super::agenda::Micros;
use super::doors::EXCESS;
use super::faults::Mix;
use super::limits::Limits;
use super::network::{End, Read};
use super::scene::{Checked, Scene, Violation, violation};
use super::store::Store;
use super::witness::Queue;

pub struct Host {
    pub engine: Engine<Chat>,
    pub slots: Vec<Option<(u32, usize)>>,
    free: Vec<usize>,
    /// The excess links, and those that wait until there are fewer.
    excess: BTreeSet<usize>,
    /// Too much memory was held at the end of the last turn, or is since.
    was_short: bool,
    /// What is unread was measured in this turn.
    is_measured: bool,
    /// A connection that was closed for want of memory, though there was enough.
    closed_in_vain: Option<ConnId>,
    /// A peer whose time was taken for over, though it was the server that was late.
    unjust: Option<String>,
    held_back: Vec<usize>,
    generation: u32,
    turn: Turn,
    stop_wanted: bool,
    /// The limits of the present settings, if the server has not reloaded them yet.
    pub new_limits: Option<Limits>,
    /// The most connections that were ever open at the end of a turn.
    most_connections: u64,
}

const CREDITED: &str = "22: nobody's time is over while it is the server that is late";

/// A running server, during one turn.
struct Running<'a> {
    host: &'a mut Host,
    store: &'a mut Store,
    scene: &'a mut Scene,
    /// Reads, or writes, for which the present part of the turn has time.
    part: usize,
}

impl Host {
    /// Starts a server on the contents of the store.
    pub fn start(store: &Store, scene: &mut Scene) -> Host {
        let limits = &scene.mix.limits;
        let secrets = Secrets {
            token_key: store.disk.token_key,
            nonces: nonces(scene.random.next_u64()),
            seed: scene.random.next_u64(),
            running: store.disk.running,
        };
        let answers_once = scene.mix.store.repeats == 0 && scene.tally.answers_repeated == 0;
        scene.witness.start(&store.disk.token_key, store.disk.running, answers_once, limits);
        scene.is_turn_due = true;
        scene.ends.starts();
        let epoch = Epoch(store.disk.epoch.as_str().into());
        let chat = ChatLimits { encrypted_rooms: scene.mix.encryption.rooms(), ..limits.chat() };
        let app = chat::Limits { hub: limits.hub(), chat, hosts: HostRules::default(), doors: Doors::open() };
        let mut chat = Chat::new(app, epoch, secrets);
        let mut random = Random::new(scene.random.next_u64());
        chat.seal(scene.key.clone(), None, move || Some(random.array()));
        chat.sealed_only = scene.mix.doors.private_only;
        let net = Connections::new(limits.conn(), limits.admission()).within(limits.memory);
        Host {
            engine: Engine::new(net, chat, limits.drain_timeout),
            slots: Vec::new(),
            free: Vec::new(),
            excess: BTreeSet::new(),
            was_short: false,
            is_measured: false,
            closed_in_vain: None,
            unjust: None,
            held_back: Vec::new(),
            generation: 0,
            turn: Turn::default(),
            stop_wanted: false,
            new_limits: None,
            most_connections: 0,
        }
    }

    /// Requests a graceful shutdown with the next turn.
    pub fn stop(&mut self) {
        self.stop_wanted = true;
    }

    /// Makes the next turn reload the settings, which now mean these limits.
    pub fn reload(&mut self, limits: Limits) {
        self.new_limits = Some(limits);
    }

    /// Makes one turn of the loop. Returns the latest virtual time at which the next one is due.
    pub fn turn(&mut self, store: &mut Store, scene: &mut Scene) -> Checked<Option<Micros>> {
        scene.tally.turns += 1;
        let now = scene.clock.read(scene.now);
        scene.witness.turns(now.mono.0);
        let mut turn = std::mem::take(&mut self.turn);
        self.was_short |= self.is_short(scene);
        let more = turn.run(&mut Running { host: self, store, scene, part: 0 }, now)?;
        if !more && Store::is_inline(scene) && store.has_answers() {
            let text = "an answer of the store is there, and the loop sleeps".to_owned();
            return violation("lost wake-ups: the loop never sleeps beside work", text);
        }
        self.turn = turn;
        if let Some(fault) = scene.witness.makers.fault() {
            return violation("rates: rooms are made as fast as is allowed", fault);
        }
        scene.witness.waiting_bytes = (self.engine.app.undecided().1, scene.mix.limits.append_bytes);
        scene.witness.held = self.engine.app.held().unwrap_or_default().min(scene.mix.limits.max_message);
        let net = &self.engine.net;
        // A wait is believed while it is not over, and if it is no longer than one request may have to wait: for the
        // connection's own rate, or until each other connection of its address has had a turn.
        let waits: Vec<(ConnId, IpAddr, Millis)> = net.ids().into_iter().filter_map(|conn| slowed(net, conn)).collect();
        let mut sharers: BTreeMap<IpAddr, u64> = waits.iter().map(|(_, address, _)| (*address, 1)).collect();
        if !sharers.is_empty() {
            for address in net.ids().into_iter().filter_map(|conn| Some(net.get(conn)?.peer.asker())) {
                sharers.entry(address).and_modify(|count| *count += 1);
            }
        }
        // Also by the settings before the last reload.
        let own = scene.limits.most(0, |limits| limits.request_interval());
        let each = scene.limits.most(0, |limits| limits.address_interval());
        let longest = |address| own.max(each * sharers[address]).div_ceil(1000);
        let believed = waits.iter().filter(|(_, address, until)| *until <= now.mono.after(longest(address)));
        let in_line = in_line(net, scene)?;
        scene.tally.in_line += in_line.len() as u64;
        scene.witness.looks_at_waits(believed.map(|(conn, ..)| *conn).chain(in_line));
        let (mut closing, mut for_memory, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        let queues = net.ids().into_iter().filter_map(|conn| {
            let connection = net.get(conn)?;
            if connection.is_closing() {
                closing.push(conn);
                if matches!(connection.ending(), Ending::Closed(_, engine::SHORT_OF_MEMORY)) {
                    for_memory.push(conn);
                }
            }
            if matches!(connection.ending(), Ending::Closed(code::NO_PONG, _)) {
                silent.push(conn);
            }
            let is_too_slow =
                connection.is_closing() && matches!(connection.ending(), Ending::Closed(code::TOO_SLOW, _));
            let waits = || (connection.waiting() > 0).then_some(Queue::Waits);
            Some((conn, if is_too_slow { Queue::TooSlow } else { waits()? }))
        });
        scene.witness.looks_at_queues(queues);
        silent.into_iter().for_each(|conn| self.is_out_of_time(conn, scene));
        closing.into_iter().for_each(|conn| scene.witness.closes(conn, scene.now));
        for_memory.into_iter().for_each(|conn| self.closes_for_memory(conn, scene));
        self.was_short = std::mem::take(&mut self.is_measured) || self.is_short(scene);
        if let Some(fault) = self.unjust.take() {
            return violation(CREDITED, fault);
        }
        if let Some(conn) = self.closed_in_vain.take() {
            return violation("20: nobody is closed for memory that is there", format!("{conn} was"));
        }
        let link_of = |conn| self.link(conn);
        scene.ends.judge(&self.engine, &scene.mix.limits, link_of, &mut scene.tally)?;
        let park_for = scene.limits.least(0, |limits| limits.park_for);
        scene.ends.judge_lives(&self.engine.app.hub, scene.witness.running, park_for, &mut scene.tally)?;
        // Each member costs three deliveries of one fan-out at most: messages, presence, the roster. It has a
        // connection.
        self.most_connections = self.most_connections.max(self.engine.net.count() as u64);
        let rate = scene.limits.least(0, |limits| limits.room_delivery_rate);
        let rest = 3 * self.most_connections * 1000 / rate as u64;
        scene.rests_until = self.engine.app.hub.rests_until();
        if let Some(until) = scene.rests_until.filter(|until| *until > now.mono.after(rest)) {
            let text = format!("a room rests until {until:?} from {:?}", now.mono);
            return violation("a room rests no longer than its last fan-out needed", text);
        }
        scene.is_turn_due = more || !scene.links.ready.is_empty();
        if more || !scene.links.ready.is_empty() {
            return Ok(Some(scene.now));
        }
        Ok(self.engine.deadline().map(|due| scene.clock.when(due, scene.now)))
    }

    /// Notes that the server has given up waiting for a peer. What had come from it was to be read first.
    fn is_out_of_time(&mut self, conn: ConnId, scene: &Scene) {
        let Some(link) = self.link(conn).filter(|_| !scene.witness.is_known_to_close(conn)) else { return };
        if scene.links.get(link).unread() > 0 {
            self.unjust = Some(format!("{conn} was to say something, and what it said is not read"));
        }
    }

    /// Notes that a connection is closed for want of memory.
    fn closes_for_memory(&mut self, conn: ConnId, scene: &mut Scene) {
        if scene.witness.closes_for_memory(conn) {
            scene.tally.no_memory += 1;
            self.closed_in_vain = self.closed_in_vain.or((!self.was_short).then_some(conn));
        }
    }

    /// Returns whether so much memory is held that connections are closed for it.
    fn is_short(&self, scene: &Scene) -> bool {
        let ((own, kernel), budget) = (self.engine.held(), scene.mix.limits.memory);
        own > budget.own / 4 * 3 || kernel > budget.kernel / 4 * 3
    }

    /// Returns the link of a connection that is not freed yet.
    fn link(&self, conn: ConnId) -> Option<usize> {
        match self.slots.get(conn.index as usize)? {
            Some((generation, link)) if *generation == conn.generation => Some(*link),
            _ => None,
        }
    }
}

/// Returns the address of a connection that is not read since its peer was over a rate, and until when. In the very
/// millisecond in which that is over, the turn may have had no time for it; then it is looked at in the next.
fn slowed(net: &Connections, conn: ConnId) -> Option<(ConnId, IpAddr, Millis)> {
    let connection = net.get(conn)?;
    let until = connection.slowed_until().filter(|until| until.after(1) > net.now().mono)?;
    Some((conn, connection.peer.asker(), until))
}

/// Returns the connections that wait for their handshake. The rate of all is so high that each has its turn in time.
fn in_line(net: &Connections, scene: &Scene) -> Checked<Vec<ConnId>> {
    let is_in_line = |conn: &ConnId| matches!(net.get(*conn).and_then(Connection::door), Some(Door::Line(_)));
    let waiting: Vec<ConnId> = net.ids().into_iter().filter(is_in_line).collect();
    let is_limited = scene.limits.most(0, |limits| limits.handshakes) > 0;
    let mut each: BTreeMap<String, usize> = BTreeMap::new();
    for address in waiting.iter().filter_map(|conn| Some(net.get(*conn)?.peer.asker())) {
        for (network, shares) in shares_of(address) {
            let count = each.entry(network.to_string()).or_default();
            *count += 1;
            if *count > engine::MOST_WAITING * shares as usize || !is_limited {
                let fault = format!("{count} of {network} wait, which has {shares} shares");
                return violation("handshakes wait in turn by address", fault);
            }
        }
    }
    Ok(waiting)
}

/// Returns the network of an address, as it counts as one (IPv6: the /64).
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

/// Returns the address of a client.
fn address_of(client: usize, mix: &Mix) -> IpAddr {
    let strangers = mix.clients..mix.clients + mix.crowd.addresses;
    match mix.crowd.is_site && strangers.contains(&client) {
        true => IpAddr::from([0x2001, 0xdb8, 0, 32 * client as u16, 0, 0, 0, 1]),
        false => IpAddr::from([10, 0, 0, client as u8 + 1]),
    }
}

impl Edge for Running<'_> {
    type App = Chat;
    type Failure = Violation;

    fn engine(&mut self) -> &mut Engine<Chat> {
        &mut self.host.engine
    }

    fn reload_if_asked(&mut self) {
        let Some(limits) = self.host.new_limits.take() else { return };
        let Running { host, store, scene, .. } = self;
        scene.tally.reloads += 1;
        scene.trace.line(scene.now, "server", || format!("reads its settings again: {limits:?}"));
        scene.mix.limits = limits;
        scene.limits.change(scene.now, limits);
        scene.witness.reconfigures(&limits);
        let settings = limits.settings(&scene.mix.encryption);
        let mut app = racerd::limits::chat(&settings, Doors::open()).expect("settings that a server can use");
        // Settings allow no rate as low as these.
        app.chat.rooms = limits.making.rates();
        host.engine.set_limits(engine::Limits {
            connections: limits.conn(),
            admission: limits.admission(),
            memory: limits.memory,
            drain_timeout: limits.drain_timeout,
            app,
        });
        store.set_bounds(scene);
    }

    fn accept(&mut self) {
        let Running { host, scene, .. } = self;
        let max = scene.mix.doors.max_connections;
        let mut arrivals = std::mem::take(&mut host.held_back);
        arrivals.append(&mut scene.links.arrivals);
        for link in arrivals {
            let count = host.slots.len() - host.free.len();
            let is_full = max > 0 && count - host.excess.len() >= max;
            let is_excess = is_full || host.engine.net.openings() == 0;
            if is_excess && host.excess.len() >= EXCESS {
                host.held_back.push(link);
                continue;
            }
            host.generation += 1;
            let index = host.free.pop().unwrap_or_else(|| {
                host.slots.push(None);
                host.slots.len() - 1
            });
            host.slots[index] = Some((host.generation, link));
            let conn = ConnId { index: index as u32, generation: host.generation };
            scene.server_accepts(link, conn);
            scene.witness.accepted(conn, link, is_excess);
            let (client, secure) = (scene.links.get(link).client, scene.links.get(link).secure);
            let peer = SocketAddr::new(address_of(client, &scene.mix), (1000 + link % 60_000) as u16);
            scene.trace.line(scene.now, "server", || format!("accepts link {link} of c{client} as {conn}"));
            if is_excess {
                host.excess.insert(index);
                host.engine.handle(Input::Excess { conn, peer, secure });
            } else {
                host.engine.handle(Input::Opened { conn, peer, secure });
            }
            if scene.links.get(link).is_readable() {
                scene.links.ready.push(link);
            }
        }
    }

    fn begin_part(&mut self, _part: Part) {
        self.part = self.scene.mix.limits.part;
    }

    /// A part of a turn ends after so many reads or writes.
    fn has_time(&mut self) -> bool {
        self.part = self.part.saturating_sub(1);
        self.part > 0
    }

    /// The limits draw how much a turn may deliver.
    fn work(&mut self) -> usize {
        usize::MAX
    }

    fn worked(&mut self, _done: usize) {}

    fn take_ready(&mut self, list: &mut Vec<ConnId>) {
        for link in std::mem::take(&mut self.scene.links.ready) {
            if let End::Open(conn) = self.scene.links.get(link).server {
                list.push(conn);
            }
        }
    }

    fn asked_at(&self) -> Option<Millis> {
        Some(self.host.engine.net.now().mono)
    }

    fn is_cheap_to_read(&mut self, _: ConnId) -> bool {
        true
    }

    /// Reads once from a link.
    fn read(&mut self, conn: ConnId) {
        let Some(link) = self.host.link(conn) else { return };
        let Running { host, scene, .. } = self;
        if !host.engine.may_read(conn) {
            if scene.links.get(link).has_hung_up() {
                host.engine.handle(Input::HungUp { conn });
            }
            return;
        }
        match scene.server_reads(link, scene.mix.limits.read_budget) {
            Read::Some { mut bytes, more } => {
                host.engine.handle(Input::Bytes { conn, bytes: &mut bytes });
                if more {
                    scene.links.ready.push(link);
                }
            }
            Read::Nothing => {}
            Read::End => host.engine.handle(Input::Ended { conn }),
            Read::Failed => host.engine.handle(Input::Lost { conn }),
        }
    }

    fn unread(&mut self, conn: ConnId) -> u64 {
        // Asked only when that may be too much, as the next turn may find.
        self.host.is_measured = true;
        self.host.link(conn).map_or(0, |link| self.scene.links.get(link).unread())
    }

    fn close_if_asked(&mut self) -> bool {
        let is_asked = std::mem::take(&mut self.host.stop_wanted);
        if is_asked {
            self.scene.is_listening = false;
            self.scene.witness.is_stopping = true;
        }
        is_asked
    }

    fn submit(&mut self, requests: &mut Vec<StoreRequest>) -> Checked {
        let Scene { witness, now, mix, .. } = &mut *self.scene;
        let all = mix.clients + mix.crowd.addresses + usize::from(mix.crowd.is_there());
        for who in (0..all).map(Some).chain([None]) {
            let pending = self.host.engine.app.pending_rooms(who.map(|who| network_of(address_of(who, mix))));
            witness.makers.look(who, pending, mix.limits.making, witness.mono, *now);
        }
        self.scene.witness.asks(requests);
        self.store.submit(requests, self.scene)
    }

    fn is_inline(&self) -> bool {
        Store::is_inline(self.scene)
    }

    fn take_answers(&mut self, answers: &mut Vec<StoreEvent>) {
        let from = answers.len();
        answers.append(&mut self.store.take());
        let Scene { witness, now, mix, links, .. } = &mut *self.scene;
        answers[from..].iter().for_each(|answer| witness.answer(answer, *now, &mix.limits, links));
    }

    fn take_writable(&mut self, list: &mut Vec<ConnId>) {
        for link in std::mem::take(&mut self.scene.links.writable) {
            if let End::Open(conn) = self.scene.links.get(link).server {
                list.push(conn);
            }
        }
    }

    fn write(&mut self, conn: ConnId) -> Option<Written> {
        let link = self.host.link(conn)?;
        let queue = self.host.engine.queue(conn)?;
        Some(self.scene.server_writes(link, queue.pieces()).map_or(Written::Failed, Written::Some))
    }

    fn shut_down(&mut self, conn: ConnId) {
        if let Some(link) = self.host.link(conn) {
            self.scene.server_shuts(link);
        }
    }

    /// Whoever came in excess stays so here: the server is not told of places.
    fn keep(&mut self, _: ConnId) {}

    fn resume(&mut self, conn: ConnId) {
        if let Some(link) = self.host.link(conn).filter(|link| self.scene.links.get(*link).is_readable()) {
            self.scene.links.ready.push(link);
        }
    }

    fn log(&mut self, fact: Fact) {
        let scene = &mut *self.scene;
        scene.trace.line(scene.now, "server", || format!("{fact:?}"));
        if let Fact::Refused { conn, status: 408, .. } = fact {
            self.host.is_out_of_time(conn, scene);
        }
        if let Fact::Closed { conn, ending, .. } = fact {
            if let (Ending::TooSlow, Some(link)) = (ending, self.host.link(conn))
                && scene.links.get(link).takes_more()
            {
                self.host.unjust = Some(format!("{conn} was to read something, and it was not written"));
            }
            scene.witness.closes(conn, scene.now);
            scene.ends.ended(conn, ending);
            match ending {
                Ending::TooSlow | Ending::Closed(code::TOO_SLOW, _) => scene.tally.too_slow += 1,
                Ending::Closed(code::NO_PONG, _) => scene.tally.no_pong += 1,
                Ending::NoMemory => self.host.closes_for_memory(conn, scene),
                _ => {}
            }
        }
    }

    fn free(&mut self, closed: &mut Vec<ConnId>) {
        let Running { host, scene, .. } = self;
        for conn in closed.drain(..) {
            let Some(link) = host.link(conn) else { continue };
            scene.server_closes(link);
            host.slots[conn.index as usize] = None;
            host.free.push(conn.index as usize);
            host.excess.remove(&(conn.index as usize));
            // Connections that were held back are checked again.
            scene.links.arrivals.append(&mut host.held_back);
        }
    }
}
