//! The chat's state, and the application that the engine drives: it hands events to the hub, and answers back.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};

use super::claims::Claims;
use super::encoding::{named, object};
use super::entering::Entering;
use super::first_rooms::FirstRooms;
use super::outbox::Outbox;
use super::pages::Pages;
use super::postponed::Queue;
use super::sealed::Sealed;
use super::sessions::Resuming;
use super::shares::RoomRates;
use crate::access::Doors;
use crate::api::{self, HostRules};
use crate::conn::{Connection, Encoding, Ending, Rate, Waits};
use crate::crypto::{Nonces, TokenSealer};
use crate::engine::{App, Connections, Fact};
use crate::http::headers::Headers;
use crate::http::hosts::Hosts;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::hub::{Hub, HubLimits};
use crate::protocol;
use crate::protocol::encrypted::EncryptedRooms;
use crate::protocol::reasons::StoreFault;
use crate::random::SplitMix64;
use crate::store::{About, Outcome, Purpose, StoreEvent, StoreRequest, Ticket, Why};
use crate::types::{ConnId, Epoch, Millis, RoomId, Seq, SessionSlot};
use crate::ws::code;

/// The chat's own limits, beside those of connections and hub.
#[derive(Clone, Debug)]
pub struct ChatLimits {
    /// Bytes of message bodies that may wait for the store, shared out among their senders.
    pub append_bytes: usize,
    /// The deepest nesting of a message body.
    pub body_depth: usize,
    /// Milliseconds that a socket's client has to say who it is, where nothing may be done without that.
    pub auth_wait: u64,
    /// The rooms that accept only encrypted messages.
    pub encrypted_rooms: EncryptedRooms,
    /// The request rate of one connection.
    pub requests: Rate,
    /// The rate of faulty requests of one connection: its error budget.
    pub errors: Rate,
    /// The rates of rooms that are made.
    pub rooms: RoomRates,
    /// The limits that `welcome` announces.
    pub welcome: protocol::server::Limits,
    /// Milliseconds for which a dropped session waits for its client. `welcome` announces them.
    pub resume_within: u64,
    /// Seconds for which a token is valid, counted while servers run.
    pub park_for: u64,
}

/// The limits of the chat and of the hub behind it, the hosts and origins that are accepted, and who is known.
#[derive(Clone, Debug)]
pub struct Limits {
    pub hub: HubLimits,
    pub chat: ChatLimits,
    pub hosts: HostRules,
    pub doors: Doors,
}

/// The secrets of sessions and tokens: random numbers, and the key that the database keeps.
pub struct Secrets {
    pub token_key: [u8; 32],
    pub nonces: Nonces,
    /// Random, new at each start: the seed of ids and guest names.
    pub seed: u64,
    /// Seconds that servers have run on this database so far.
    pub running: u64,
}

/// The note that `/readyz` adds after a read of the store has failed.
const DAMAGED: &str = "some stored data cannot be read; new messages are accepted; see the server's log";

/// The chat: sessions and rooms behind the connections.
pub struct Chat {
    pub hub: Hub,
    pub(super) epoch: Epoch,
    pub(super) limits: ChatLimits,
    pub(super) hosts: HostRules,
    pub(super) doors: Doors,
    pub(super) entering: Entering,
    pub(super) random: SplitMix64,
    pub(super) tokens: TokenSealer,
    /// The running seconds of the database at monotonic time 0.
    pub(super) running: u64,
    pub(super) first_rooms: FirstRooms,
    pub(super) pages: Pages,
    /// Clients whose resume waits for the store's record of the session.
    pub(super) resuming: HashMap<ConnId, Box<Resuming>>,
    pub(super) claims: Claims,
    /// Requests to the store about sessions and signals.
    pub(super) requests: Vec<StoreRequest>,
    /// Appends and signals that the store has not decided, and those that wait for a place there.
    pub(super) queue: Queue,
    /// Why the store accepts no messages; `None` while it does.
    pub(super) unavailable: Option<Why>,
    pub(super) is_stopping: bool,
    /// The state of sealed sockets; `None` if they are off.
    pub(super) sealed: Option<Sealed>,
    /// Messages may go out only encrypted: over sealed sockets or TLS.
    pub sealed_only: bool,
    /// The notes that `/readyz` adds while the server is ready.
    pub(super) notes: BTreeMap<About, String>,
}

impl Chat {
    /// Returns a chat without sessions. `secrets` come from the system in production, and from the test in tests.
    pub fn new(Limits { hub, chat, hosts, doors }: Limits, epoch: Epoch, secrets: Secrets) -> Chat {
        Chat {
            hub: Hub::new(hub, epoch.clone()),
            epoch,
            limits: chat,
            hosts,
            doors,
            entering: Entering::default(),
            random: SplitMix64::new(secrets.seed),
            tokens: TokenSealer::new(&secrets.token_key, secrets.nonces),
            running: secrets.running,
            first_rooms: FirstRooms::default(),
            pages: Pages::default(),
            resuming: HashMap::new(),
            claims: Claims::default(),
            requests: Vec::new(),
            queue: Queue::default(),
            unavailable: None,
            is_stopping: false,
            sealed: None,
            sealed_only: false,
            notes: BTreeMap::new(),
        }
    }

    /// Returns the number of appends and signals that the store has not decided, and the bytes of their bodies.
    pub fn undecided(&self) -> (usize, usize) {
        self.queue.shares.total()
    }

    /// Returns the bytes of the message that is first of all those that wait for the store, if it waits until there is
    /// room for it: until then nobody's goes past it.
    pub fn held(&self) -> Option<usize> {
        self.queue.shares.held()
    }

    /// Returns the chat's own limits, which hosts and origins are accepted, and who is known.
    pub fn limits(&self) -> (&ChatLimits, &HostRules, &Doors) {
        (&self.limits, &self.hosts, &self.doors)
    }

    /// Sets the note about one matter that `/readyz` adds while the server is ready; `None` removes it.
    pub fn note(&mut self, about: About, text: Option<String>) {
        match text {
            Some(text) => drop(self.notes.insert(about, text)),
            None => drop(self.notes.remove(&about)),
        }
    }

    /// Returns why `/readyz` answers 503, if it does.
    pub(super) fn not_ready(&self) -> Option<Problem> {
        if self.is_stopping {
            return Some(Problem::stopping());
        }
        // The path and the remedy are in the log only: anybody may ask here.
        Some(Problem::unavailable(format!("store unavailable: {}", self.unavailable?.text()), 5))
    }

    /// Returns how many undecided messages may make rooms: of this network, or of all.
    pub fn pending_rooms(&self, network: Option<IpAddr>) -> usize {
        self.queue.shares.pending_rooms(network)
    }

    /// Returns the number of messages that wait for a place at the store.
    pub fn postponed(&self) -> usize {
        self.queue.waiting()
    }
}

impl App for Chat {
    type Limits = Limits;

    fn set_limits(&mut self, net: &mut Connections, Limits { hub, chat, hosts, doors }: Limits) {
        self.hub.set_limits(hub);
        self.limits = chat;
        // The machine's own names are not a setting.
        self.hosts = HostRules { own: std::mem::take(&mut self.hosts.own), ..hosts };
        if self.doors != doors {
            self.doors = doors;
            self.review(net);
            self.note_became(net);
        }
    }

    fn known_by(&mut self, names: &[String]) {
        self.hosts.own = Hosts::new(names);
    }

    fn is_light(&self, request: &Request) -> bool {
        api::action(request, &self.hosts).is_ok_and(|action| action.is_light())
    }

    fn request(&mut self, net: &mut Connections, conn: ConnId, request: Request, body: Vec<u8>) {
        self.http_request(net, conn, request, &body);
        self.note_became(net);
    }

    fn refused(&mut self, net: &mut Connections, conn: ConnId, headers: &Headers, problem: Problem) {
        self.allow_reading(net, conn, headers);
        net.refuse(conn, problem.closing(), None);
    }

    fn text(&mut self, net: &mut Connections, conn: ConnId, text: &str) {
        self.socket_request(net, conn, text);
        self.note_became(net);
    }

    fn binary(&mut self, net: &mut Connections, conn: ConnId, payload: &[u8]) {
        if net.get(conn).is_some_and(Connection::is_sealed) {
            return self.sealed_handshake(net, conn, payload);
        }
        // The codec refuses these at their header. Should one arrive here, the answer is the same.
        net.schedule_close(conn, code::UNSUPPORTED, "binary message where text is spoken");
    }

    fn gone(&mut self, net: &mut Connections, conn: ConnId, session: SessionSlot, ending: Ending) {
        self.forget_claim(conn);
        self.entering.remove(conn);
        self.first_rooms.remove(conn);
        match ending {
            // The client is done: it said so, or closed (RFC 6455 §7.4.1), perhaps without a code, as `close()` in a
            // browser does. An unsealed close on a sealed socket says nothing of the client.
            Ending::PeerEnded | Ending::PeerClosed(Some(code::NORMAL) | None) => self.hub.handle_gone(session, conn),
            _ => self.hub.handle_dropped(session, conn, net.now().mono),
        }
        self.note_became(net);
    }

    fn memory(&self) -> u64 {
        // What is at the store comes back as frames for the rooms.
        (self.hub.memory() + 2 * self.queue.shares.total().1) as u64
    }

    fn freed(&mut self, conn: ConnId) {
        self.queue.forget(conn);
    }

    fn drained(&mut self, net: &mut Connections, session: SessionSlot) {
        self.hub.handle_drained(
            session,
            &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage(self.unavailable)),
        );
    }

    fn store(&mut self, net: &mut Connections, event: StoreEvent) {
        match event {
            StoreEvent::Appended(list) => {
                let outage = outage(self.unavailable);
                for appended in list {
                    let ticket = appended.ticket;
                    let has_made = matches!(&appended.outcome, Outcome::Stored(message) if message.seq == Seq(1));
                    let place = (ticket.payer, ticket.making);
                    if let Outcome::Stored(_) = &appended.outcome {
                        self.queue.shares.stored(ticket.payer, appended.bytes, has_made);
                    }
                    self.give_place_back(place, appended.bytes, has_made, net.now().mono);
                    self.hub.handle_appended(
                        appended,
                        &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage),
                    );
                    // After the acknowledgement: the last one lets the answer to a client's close go out.
                    answered(net, &ticket);
                }
            }
            StoreEvent::Page(page) => {
                answered(net, &page.ticket);
                self.hub.handle_page(
                    page,
                    &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage(self.unavailable)),
                );
            }
            StoreEvent::ReadFailed(failed) => {
                answered(net, &failed.ticket);
                let (now, outage) = (net.now().mono, StoreFault::Read(failed.why));
                self.hub.handle_read_failed(
                    failed,
                    now,
                    &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage),
                );
            }
            StoreEvent::Unreadable(reason) => net.log(Fact::StoreUnreadable { reason }),
            StoreEvent::Remark(line) => net.log(Fact::StoreRemark { line }),
            StoreEvent::Note { about, text } => {
                self.note(about, text.clone());
                net.log(Fact::StoreNote { about, text });
            }
            StoreEvent::Damaged => self.note(About::Unreadable, Some(DAMAGED.to_owned())),
            StoreEvent::Claimed(claimed) => self.claimed(net, claimed),
            StoreEvent::Sought(sought) => self.sought(net, sought),
            StoreEvent::Unused(rooms) => self.hub.handle_unused(rooms),
            StoreEvent::Removed(removed) => self.hub.handle_removed(&removed),
            StoreEvent::ClaimFailed { ticket, session, standing } => self.claim_failed(net, &ticket, session, standing),
            // The closing frame waits for this.
            StoreEvent::Marked(ticket) => answered(net, &ticket),
            StoreEvent::Available(Ok(())) => {
                self.unavailable = None;
                net.log(Fact::StoreRecovered);
            }
            StoreEvent::Available(Err(outage)) => {
                net.log(Fact::StoreFailed { reason: outage.detail });
                self.unavailable = Some(outage.why);
            }
            StoreEvent::Died(reason) => {
                net.log(Fact::StoreFailed { reason });
                self.unavailable = Some(Why::Ended);
                // Nothing that waits will be answered any more.
                self.queue.shares.give_back_all();
            }
        }
        self.grant(net);
        self.note_became(net);
    }

    fn time(&mut self, net: &mut Connections) {
        if self.queue.shares.is_loose() {
            self.grant(net);
        }
        self.catch_up(net);
        self.note_became(net);
        self.tell_of_earlier_key(net);
        self.end_late_entries(net);
        let now = net.now().mono;
        self.hub.handle_time(
            now,
            &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage(self.unavailable)),
        );
    }

    fn expire(&mut self, until: Millis) {
        self.hub.handle_absences(until);
    }

    fn deadline(&self) -> Option<Millis> {
        [self.hub.deadline(), self.earlier_key_deadline(), self.entering.deadline()].into_iter().flatten().min()
    }

    fn end_turn(&mut self, net: &mut Connections, work: usize) -> usize {
        self.pages.forget();
        let now = net.now().mono;
        self.hub.end_turn(
            now,
            work,
            &mut Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage(self.unavailable)),
        )
    }

    fn is_unfinished(&self) -> bool {
        self.hub.is_unfinished() || self.queue.waits_for_rooms() || self.queue.shares.is_loose()
    }

    fn take_requests(&mut self, requests: &mut Vec<StoreRequest>) {
        requests.extend(self.hub.poll_appends().map(StoreRequest::Append));
        requests.extend(self.hub.poll_parks().map(StoreRequest::Park));
        requests.extend(self.hub.poll_removals());
        requests.append(&mut self.requests);
        requests.extend(std::iter::from_fn(|| self.hub.poll_request()));
    }

    fn stopping(&mut self) {
        self.is_stopping = true;
    }

    fn leaving(&mut self) {
        self.hub.handle_stop();
    }

    fn is_settled(&self) -> bool {
        self.queue.is_empty()
    }

    fn farewell(&mut self, net: &mut Connections, conn: ConnId) {
        // Jitter, so that the clients' return is no stampede: over the time in which the handshake rate admits all of
        // them, and over a second at least. No client returns before the next server can be ready.
        let reconnect = 250 + self.random.next_u64() % (1000 + net.return_time());
        if net.get(conn).and_then(Connection::encoding) == Some(Encoding::Events) {
            super::streams::retry_after(net, conn, reconnect);
        }
        self.send_object(net, conn, "bye", |out| protocol::server::bye(out, "shutdown", None, Some(reconnect)));
    }
}

impl Chat {
    /// Queues one JSON object of this type for one client.
    pub(super) fn send_object(
        &self,
        net: &mut Connections,
        conn: ConnId,
        kind: &'static str,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        net.push_own(conn, |encoding, out| object(encoding, named(kind), out, write));
    }

    /// Returns the room that a request means: the one that it names, or the one on which its socket was opened.
    pub(super) fn room_of(&self, conn: ConnId, room: Option<RoomId>) -> Option<RoomId> {
        room.or_else(|| self.first_rooms.get(conn).cloned())
    }
}

/// Returns why appends are refused, as far as the store has said.
pub(super) fn outage(unavailable: Option<Why>) -> StoreFault {
    StoreFault::Append(unavailable.unwrap_or_default())
}

/// Records that the store has answered a socket's request, and resumes reading if the request had paused it.
pub(super) fn answered(net: &mut Connections, ticket: &Ticket) {
    match ticket.purpose {
        Purpose::Send | Purpose::Signal | Purpose::End => net.answered(ticket.conn),
        Purpose::History | Purpose::Resume => {
            if let Some(open) = net.get_mut(ticket.conn).and_then(|c| c.open_mut())
                // An answer may come twice.
                && open.waits == Waits::Page
            {
                open.waits = Waits::Not;
            }
        }
        Purpose::Publish | Purpose::Deliver | Purpose::Browse => {}
    }
    net.release(ticket.conn);
}
