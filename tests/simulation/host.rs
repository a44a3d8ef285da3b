//! The edge of the simulated server: the real engine, and around it what `server/` is in a process. A turn is the same,
//! step by step.

use racerd::api::Access;
use racerd::conn::Ending;
use racerd::engine::chat::{Chat, Secrets};
use racerd::engine::{Connections, Engine, Fact, Input, Output};
use racerd::store::StoreRequest;
use racerd::types::{ConnId, Epoch};
use racerd::ws::code;

use super::agenda::Micros;
use super::clock::Clock;
use super::network::{End, Read};
use super::random::Random;
use super::scene::{Checked, Scene};
use super::store::Store;

pub struct Host {
    pub engine: Engine<Chat>,
    pub slots: Vec<Option<(u32, usize)>>,
    free: Vec<usize>,
    generation: u32,
    closed: Vec<ConnId>,
    requests: Vec<StoreRequest>,
    dirty: Vec<ConnId>,
    stop_wanted: bool,
}

impl Host {
    /// A server that begins on what the store has.
    pub fn start(store: &Store, scene: &mut Scene) -> Host {
        let limits = &scene.mix.limits;
        let secrets = Secrets {
            token_key: store.disk.token_key,
            salt: scene.random.bytes(),
            seed: scene.random.next(),
            running: store.disk.running,
        };
        let epoch = Epoch(store.disk.epoch.as_str().into());
        let mut chat = Chat::new(limits.hub(), epoch, limits.chat(), Access::default(), &secrets);
        let mut random = Random::new(scene.random.next());
        chat.seal(scene.key.clone(), move || Some(random.bytes()));
        let net = Connections::new(limits.conn(), limits.admission());
        Host {
            engine: Engine::new(net, chat, limits.drain_timeout),
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            closed: Vec::new(),
            requests: Vec::new(),
            dirty: Vec::new(),
            stop_wanted: false,
        }
    }

    /// To stop in order, with the next turn.
    pub fn stop(&mut self) {
        self.stop_wanted = true;
    }

    /// One turn of the loop. When the next is due at the latest, in virtual time.
    pub fn turn(&mut self, clock: &Clock, store: &mut Store, scene: &mut Scene) -> Checked<Option<Micros>> {
        scene.tally.turns += 1;
        self.engine.handle(Input::Time(clock.read(scene.now)));
        self.accept(scene);
        let mut more = self.read(scene);
        if std::mem::take(&mut self.stop_wanted) {
            scene.is_listening = false;
            self.engine.handle(Input::Stop);
        }
        self.engine.take_requests(&mut self.requests);
        store.submit(&mut self.requests, scene)?;
        for event in store.take() {
            self.engine.handle(Input::Store(event));
        }
        self.engine.end_turn();
        self.flush(scene);
        more |= self.carry_out(scene);
        for conn in std::mem::take(&mut self.closed) {
            self.free(conn, scene);
        }
        self.engine.take_requests(&mut self.requests);
        if !self.requests.is_empty() {
            more |= Store::is_inline(scene);
            store.submit(&mut self.requests, scene)?;
        }
        more |= self.engine.has_dirty();
        let due = self.engine.deadline().map(|due| clock.when(due, scene.now));
        Ok(if more { Some(scene.now) } else { due })
    }

    fn accept(&mut self, scene: &mut Scene) {
        for link in std::mem::take(&mut scene.links.arrivals) {
            self.generation += 1;
            let index = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            self.slots[index] = Some((self.generation, link));
            let conn = ConnId { index: index as u32, generation: self.generation };
            scene.server_accepts(link, conn);
            let client = scene.links.get(link).client;
            let peer = format!("10.0.0.{}:{}", client + 1, 1000 + link % 60_000).parse().expect("an address");
            scene.trace.line(scene.now, "server", || format!("accepts link {link} of c{client} as {conn}"));
            self.engine.handle(Input::Opened { conn, peer, loopback: false, secure: false });
            if scene.links.get(link).is_readable() {
                scene.links.ready.push(link);
            }
        }
    }

    /// One read for each link that has something. True if one of them has more.
    fn read(&mut self, scene: &mut Scene) -> bool {
        let budget = scene.mix.limits.read_budget;
        let mut again = Vec::new();
        for link in std::mem::take(&mut scene.links.ready) {
            let End::Open(conn) = scene.links.get(link).server else { continue };
            if !self.engine.may_read(conn) {
                continue;
            }
            match scene.server_reads(link, budget) {
                Read::Some { mut bytes, more } => {
                    self.engine.handle(Input::Bytes { conn, bytes: &mut bytes });
                    if more {
                        again.push(link);
                    }
                }
                Read::Nothing => {}
                Read::End => self.engine.handle(Input::Ended { conn }),
                Read::Failed => self.engine.handle(Input::Lost { conn }),
            }
        }
        let more = !again.is_empty();
        scene.links.ready.append(&mut again);
        more
    }

    fn flush(&mut self, scene: &mut Scene) {
        let mut list = std::mem::take(&mut self.dirty);
        list.clear();
        self.engine.take_dirty(&mut list);
        for link in std::mem::take(&mut scene.links.writable) {
            if let End::Open(conn) = scene.links.get(link).server {
                list.push(conn);
            }
        }
        for &conn in &list {
            let Some(link) = self.link(conn) else { continue };
            let Some(queue) = self.engine.queue(conn) else { continue };
            match scene.server_writes(link, queue.pieces()) {
                Some(taken) => self.engine.handle(Input::Wrote { conn, taken }),
                None => self.engine.handle(Input::Lost { conn }),
            }
        }
        self.dirty = list;
    }

    fn carry_out(&mut self, scene: &mut Scene) -> bool {
        let mut more = false;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Shutdown(conn) => {
                    if let Some(link) = self.link(conn) {
                        scene.server_shuts(link);
                    }
                }
                Output::Close(conn) => self.closed.push(conn),
                Output::Resume(conn) => {
                    if let Some(link) = self.link(conn).filter(|link| scene.links.get(*link).is_readable()) {
                        scene.links.ready.push(link);
                        more = true;
                    }
                }
                Output::Log(fact) => {
                    scene.trace.line(scene.now, "server", || format!("{fact:?}"));
                    if let Fact::Closed { ending, .. } = fact {
                        match ending {
                            Ending::TooSlow | Ending::Closed(code::TOO_SLOW, _) => scene.tally.too_slow += 1,
                            Ending::Closed(code::NO_PONG, _) => scene.tally.no_pong += 1,
                            _ => {}
                        }
                    }
                }
            }
        }
        more
    }

    fn free(&mut self, conn: ConnId, scene: &mut Scene) {
        let Some(link) = self.link(conn) else { return };
        scene.server_closes(link);
        self.slots[conn.index as usize] = None;
        self.free.push(conn.index as usize);
    }

    /// The link of a connection that is not freed yet.
    fn link(&self, conn: ConnId) -> Option<usize> {
        match self.slots.get(conn.index as usize)? {
            Some((generation, link)) if *generation == conn.generation => Some(*link),
            _ => None,
        }
    }
}
