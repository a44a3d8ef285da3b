//! The judge of fairness. An honest observer asks one thing at a time on each of its two connections, and is answered
//! within a number of turns of the loop that follows from who else is there ([`Way::turns`]), whatever strangers do.
//! Turns count and times do not, since a turn's length is the machine's.
//!
//! A turn in which the store has the request, or has no room for it, does not count if the record shows so, nor one in
//! which its handshake stands in line, which has to come in time. Nothing else is a reason to wait: the observer stays
//! within its rates and reads everything at once. Being accepted is not judged here: a full server may keep newcomers
//! waiting.
//!
//! Checker: (21) an honest request is answered within a number of turns.

use std::collections::BTreeSet;

use racerd::chat::Chat;
use racerd::conn::{Connection, Door};
use racerd::engine::Engine;
use racerd::testing::Random;
use racerd::types::RoomId;
use serde_json::Value;

use super::network::End;
use super::scene::{Checked, Scene, violation};
use super::wire::{self, Reader, Said};

const CHECKER: &str = "21: an honest request is answered within a number of turns";

/// Up to so many connections are read in any order.
const FEW: u64 = 8;
/// The hub retries a failed read within this time, in milliseconds of the server's clock.
const RETRY: u64 = 1000;
/// Milliseconds until a connection that was refused or closed is opened again.
const PAUSE: u64 = 500;
/// Bytes of a message of the observer at most.
const LONGEST: usize = 64;

/// What an honest request shares the server with.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    connections: u64,
    addresses: u64,
    rooms: u64,
    /// Reads, or writes, for which a part of a turn has time: the fewest.
    part: u64,
    /// Deliveries for which a turn has time: the fewest.
    deliveries: u64,
}

impl Way {
    /// Returns the number of turns within which a request is answered. If the server's turns change, change this alone.
    ///
    /// Reading: addresses take turns. Before a connection is read, each other address is read as often as the
    /// connection's own address has connections, which is twice.
    ///
    /// Telling: a turn makes as many deliveries as it may, and rooms take turns. A request may wait for all rooms
    /// twice: for what was said there before, and for its own. A room's members are connections at most, and each of
    /// them may be told three things: messages, presence, the roster.
    ///
    /// Writing: a connection that a turn had no time to write to waits behind all those that waited before, each of
    /// which is written to once.
    fn turns(self, tells: bool) -> u64 {
        let part = self.part.max(1);
        let reading = (2 * self.addresses).max(FEW).div_ceil(part);
        let told = (3 * self.connections).div_ceil(self.deliveries.max(1));
        let telling = if tells { 2 * (self.rooms + 1) * told } else { 0 };
        let writing = self.connections.div_ceil(part);
        // The turn in which it is answered counts as well.
        reading + telling + writing + 1
    }

    fn widen(&mut self, other: Way) {
        self.connections = self.connections.max(other.connections);
        self.addresses = self.addresses.max(other.addresses);
        self.rooms = self.rooms.max(other.rooms);
        let least = |a: u64, b: u64| if a == 0 { b } else { a.min(b) };
        self.part = least(self.part, other.part);
        self.deliveries = least(self.deliveries, other.deliveries);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Upgrade,
    Ping,
    Join,
    Send,
    Leave,
    /// A GET that nothing is stored for.
    Get,
    /// A page of its room over HTTP.
    Page,
    Post,
}

/// A request that is not answered.
#[derive(Debug)]
struct Question {
    what: What,
    id: u64,
    /// Turns since it came, but for those with a reason to wait.
    turns: u64,
    way: Way,
    /// There was a reason after the last turn.
    had_reason: bool,
}

/// One of its connections.
struct Seat {
    is_socket: bool,
    link: Option<usize>,
    reader: Reader,
    question: Option<Question>,
    is_joined: bool,
    next_id: u64,
    /// By the server's clock: when its requests are paid for, in microseconds; when it may connect, in milliseconds.
    paid: u64,
    connects_at: u64,
}

pub struct Observer {
    client: usize,
    random: Random,
    seats: [Seat; 2],
    room: RoomId,
    run: u32,
    answers: u32,
}

impl Observer {
    /// Returns an observer with the address of this client.
    pub fn new(client: usize, seed: u64) -> Observer {
        let seat = |is_socket| Seat {
            is_socket,
            link: None,
            reader: Reader::default(),
            question: None,
            is_joined: false,
            next_id: 0,
            paid: 0,
            connects_at: 0,
        };
        Observer {
            client,
            random: Random::new(seed),
            seats: [seat(true), seat(false)],
            room: RoomId::parse("xo").expect("a room id"),
            run: 0,
            answers: 0,
        }
    }

    /// Returns the number of requests that were answered in time.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Asks something on each connection that has its answer, within the rates.
    pub fn ask(&mut self, scene: &mut Scene) {
        if std::mem::replace(&mut self.run, scene.run) != scene.run {
            // The clock of this server is another one.
            self.seats.iter_mut().for_each(|seat| (seat.paid, seat.connects_at) = (0, 0));
        }
        let mono = scene.witness.mono;
        for seat in &mut self.seats {
            if seat.question.is_some() || seat.link.is_none() && mono < seat.connects_at {
                continue;
            }
            let limits = &scene.mix.limits;
            // Half of what may come at once, and half of what may come in the long run.
            let (interval, burst) = (limits.request_interval().max(limits.address_interval()), 2_500_000);
            let paid = seat.paid.max(mono * 1000);
            if interval > 0 && paid - mono * 1000 > burst {
                continue;
            }
            seat.paid = paid + 2 * interval;
            seat.ask(self.client, &self.room, &mut self.random, scene);
        }
    }

    /// Takes the answers of a turn, and judges what has none.
    pub fn judge(&mut self, engine: &Engine<Chat>, scene: &mut Scene) -> Checked {
        if self.seats.iter().all(|seat| seat.link.is_none()) {
            return Ok(());
        }
        let asks = self.seats.iter().any(|seat| seat.question.is_some());
        let way = if asks { way(engine, scene) } else { Way::default() };
        for seat in &mut self.seats {
            let Some(link) = seat.link else { continue };
            self.answers += seat.hear(link, &mut self.random, scene)?;
            if scene.links.get(link).is_over() {
                seat.drop_link(scene);
            } else if let Some(question) = &mut seat.question {
                question.way.widen(way);
                question.judge(link, self.client, &self.room, engine, scene)?;
            }
        }
        Ok(())
    }

    pub fn leave(&mut self, scene: &mut Scene) {
        self.seats.iter_mut().for_each(|seat| seat.drop_link(scene));
    }
}

/// Returns who is here now.
fn way(engine: &Engine<Chat>, scene: &Scene) -> Way {
    let ids = engine.net.ids();
    let addresses: BTreeSet<_> = ids.iter().filter_map(|conn| Some(engine.net.get(*conn)?.peer.asker())).collect();
    Way {
        connections: ids.len() as u64,
        addresses: addresses.len() as u64,
        rooms: engine.app.hub.room_count() as u64,
        part: scene.mix.limits.part as u64,
        deliveries: scene.mix.limits.delivery_budget as u64,
    }
}

impl Seat {
    fn ask(&mut self, client: usize, room: &RoomId, random: &mut Random, scene: &mut Scene) {
        self.next_id += 1;
        let id = self.next_id;
        let Some(link) = self.link else {
            self.link = scene.open_near_link(client, scene.mix.doors.private_only || random.coin());
            self.reader = Reader::default();
            self.is_joined = false;
            let Some(link) = self.link else { return };
            let (what, bytes) = match self.is_socket {
                true => (What::Upgrade, wire::upgrade("/ws", None)),
                false => (What::Get, wire::request("GET", "/healthz", None, "")),
            };
            return self.put(link, (what, id), &bytes, scene);
        };
        let path = format!("/rooms/{room}/messages");
        let (what, bytes) = match (self.is_socket, random.below(4)) {
            (false, 0) => (What::Page, wire::request("GET", &format!("{path}?limit=2"), None, "")),
            (false, 1) => (What::Post, wire::request("POST", &path, None, "\"honest\"")),
            (false, _) => (What::Get, wire::request("GET", "/healthz", None, "")),
            (true, kind) => {
                let (what, name, more) = match (kind, self.is_joined) {
                    (0 | 1, _) => (What::Ping, "ping", String::new()),
                    (_, false) => (What::Join, "join", format!(",\"room\":\"{room}\",\"last\":1")),
                    (2, true) => (What::Send, "send", format!(",\"room\":\"{room}\",\"body\":\"honest\"")),
                    (_, true) => (What::Leave, "leave", format!(",\"room\":\"{room}\"")),
                };
                (what, wire::text(&format!("{{\"type\":\"{name}\",\"id\":{id}{more}}}"), false, random))
            }
        };
        self.put(link, (what, id), &bytes, scene);
    }

    fn put(&mut self, link: usize, (what, id): (What, u64), bytes: &[u8], scene: &mut Scene) {
        scene.near_writes(link, bytes);
        let way = Way::default();
        self.question = Some(Question { what, id, turns: 0, way, had_reason: false });
    }

    /// Reads what has come. Returns how many answers are in it.
    fn hear(&mut self, link: usize, random: &mut Random, scene: &mut Scene) -> Checked<u32> {
        let bytes = scene.near_reads(link);
        if bytes.is_empty() {
            return Ok(0);
        }
        self.reader.push(&bytes);
        let mut answers = 0;
        loop {
            let said = match self.reader.next() {
                Ok(Some(said)) => said,
                Ok(None) => return Ok(answers),
                Err(fault) => return violation("wire", fault),
            };
            if let Said::Ping(payload) = &said {
                let bytes = wire::pong(payload, random);
                scene.near_writes(link, &bytes);
            }
            let Some(question) = self.question.take_if(|question| question.is_answered(&said)) else { continue };
            question.judge_handshake(&said, scene)?;
            self.is_joined = match question.what {
                What::Join => matches!(&said, Said::Text(text) if text.contains("\"joined\"")),
                What::Leave => false,
                _ => self.is_joined,
            };
            answers += 1;
            question.count(scene);
        }
    }

    fn drop_link(&mut self, scene: &mut Scene) {
        let Some(link) = self.link.take() else { return };
        scene.near_ends(link, false);
        (self.question, self.connects_at) = (None, scene.witness.mono + PAUSE);
    }
}

impl Question {
    fn is_answered(&self, said: &Said) -> bool {
        match said {
            Said::Response { .. } => matches!(self.what, What::Upgrade | What::Get | What::Page | What::Post),
            Said::Text(text) => serde_json::from_str(text).is_ok_and(|told: Value| told["id"] == self.id),
            _ => false,
        }
    }

    /// Judges that its handshake came in its turn, if it had to stand in line for it.
    fn judge_handshake(&self, said: &Said, scene: &Scene) -> Checked {
        let rate = scene.limits.least(0, |limits| limits.handshakes);
        let Said::Response { status, body, .. } = said else { return Ok(()) };
        if self.what != What::Upgrade || rate == 0 {
            return Ok(());
        }
        if *status == 503 && body.contains("too many handshakes") {
            return violation(CHECKER, format!("its handshake waited in vain: {:?}", self.way));
        }
        Ok(())
    }

    /// Returns whether its answer depends on what a room says.
    fn tells(&self) -> bool {
        matches!(self.what, What::Join | What::Send | What::Post)
    }

    fn count(&self, scene: &mut Scene) {
        let tally = &mut scene.tally;
        *match self.what {
            What::Upgrade => &mut tally.observed_handshakes,
            What::Ping => &mut tally.observed_pings,
            What::Join | What::Leave => &mut tally.observed_joins,
            What::Send | What::Post => &mut tally.observed_sends,
            What::Get => &mut tally.observed_gets,
            What::Page => &mut tally.observed_pages,
        } += 1;
    }

    /// Judges that it is not answered yet.
    fn judge(&mut self, link: usize, client: usize, room: &RoomId, engine: &Engine<Chat>, scene: &Scene) -> Checked {
        // Where the server is full, it waits for a place first.
        let End::Open(conn) = scene.links.get(link).server else { return Ok(()) };
        let has_reason = scene.witness.is_stopping
            || engine.app.hub.is_being_removed(room)
            || matches!(engine.net.get(conn).and_then(Connection::door), Some(Door::Line(_)))
            || self.waits_for_store(link, client, room, scene);
        if !std::mem::replace(&mut self.had_reason, has_reason) && !has_reason {
            self.turns += 1;
        }
        let most = self.way.turns(self.tells());
        let fault = |what: String| violation(CHECKER, format!("{:?} of link {link} {what}", self.what));
        if self.turns >= most {
            return fault(format!("has waited for {} turns, of at most {most}: {:?}", self.turns, self.way));
        }
        let now = engine.net.now().mono;
        match engine.net.get(conn).and_then(Connection::slowed_until).filter(|until| *until > now) {
            Some(until) => fault(format!("is within its rates, and is not read at {now:?} until {until:?}")),
            None => Ok(()),
        }
    }

    /// Returns whether the record shows that the store has it, or has no room for it.
    fn waits_for_store(&self, link: usize, client: usize, room: &RoomId, scene: &Scene) -> bool {
        let Scene { witness, links, .. } = scene;
        // The record of reads is whole only where the store answers once.
        let reads = || {
            !witness.answers_once
                || witness.reads_are_full()
                || witness.is_room_at_store(room)
                || witness.failed_within(room, RETRY)
        };
        let has_no_place = || witness.may_have_no_place(client, LONGEST, links);
        witness.at_store(link) > 0
            || match self.what {
                What::Join | What::Page => reads(),
                // Before it is in the room, a message waits for that.
                What::Send => reads() || has_no_place(),
                What::Post => has_no_place(),
                What::Upgrade | What::Ping | What::Leave | What::Get => false,
            }
    }
}
