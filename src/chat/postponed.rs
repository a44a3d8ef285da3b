//! Messages that wait for a place at the store, or for a room that has more to tell than one turn may. Their
//! connections are not read meanwhile; all others are.

use std::collections::{HashMap, VecDeque};

use super::Chat;
use super::shares::Shares;
use crate::access::{Operation, Who};
use crate::api::answers;
use crate::conn::Waits;
use crate::engine::Connections;
use crate::protocol::{Command, Request};
use crate::store::{Append, Making};
use crate::types::{ConnId, Millis, RoomId};

/// A postponed message. A connection has one at most, since it is not read meanwhile.
#[derive(Debug)]
pub(super) enum Wish {
    /// A request over a socket.
    Request(Request),
    /// A POST, and whose.
    Publish(Append, Who),
}

/// The reason why a message is postponed.
#[derive(Debug)]
enum Obstacle {
    /// Its payer's share of the store has no place for this many bytes.
    Store(usize),
    /// The room has more to tell than it could in the last turn.
    Room(RoomId),
}

/// The line in which a wish waits.
#[derive(Debug)]
enum Line {
    /// In the line of a share of the store.
    Share(u32),
    /// In the line of those whose room is behind.
    Room,
}

/// A message's place at the store.
pub(super) struct Place {
    /// The number of its payer.
    pub payer: u32,
    /// Whether it may make its room.
    pub making: Making,
    /// Bytes that must be left in the database for it to be within its payer's share.
    pub needs: u64,
}

/// The messages at the store, and the postponed ones.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub shares: Shares,
    wishes: HashMap<ConnId, (Line, Wish)>,
    /// Connections whose wish waits for its room, and that room. Some may be gone.
    behind: VecDeque<(RoomId, ConnId)>,
}

impl Wish {
    /// Returns the bytes of memory that it takes.
    fn memory(&self) -> i64 {
        let (outside, body) = match self {
            Wish::Request(Request { command: Command::Send { body, .. } | Command::Signal { body, .. }, .. }) => {
                (size_of::<Request>(), body.len())
            }
            Wish::Request(_) => (size_of::<Request>(), 0),
            Wish::Publish(append, _) => (size_of::<Append>(), append.body.len()),
        };
        (outside + body) as i64
    }
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.shares.total().0 == 0 && self.wishes.is_empty()
    }

    /// Returns the number of messages that wait for a place or for their room.
    pub fn waiting(&self) -> usize {
        self.wishes.len()
    }

    /// Returns whether something waits for a room: it goes on with the next turn.
    pub fn waits_for_rooms(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Forgets the wish of a connection that is gone.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some((Line::Share(number), _)) = self.wishes.remove(&conn) {
            self.shares.leave(number, conn);
        }
    }
}

impl Chat {
    /// Returns the request, if it may be carried out now. Otherwise it waits here, and its connection is not read.
    pub(super) fn now_or_later(&mut self, net: &mut Connections, conn: ConnId, request: Request) -> Option<Request> {
        let (room, bytes) = match &request.command {
            Command::Send { room, body, .. } | Command::Signal { room, body, sealed: Some(_), .. } => {
                (room, Some(body.len()))
            }
            Command::Signal { room, .. } => (room, None),
            _ => return Some(request),
        };
        let obstacle = self.obstacle(net, conn, self.room_of(conn, room.clone()), bytes);
        let Some(obstacle) = obstacle else { return Some(request) };
        self.postpone(net, conn, obstacle, Wish::Request(request));
        None
    }

    /// Hands a POST's message in, as soon as it may go to the store.
    pub(super) fn hand_in_or_wait(&mut self, net: &mut Connections, append: Append, who: Who) {
        let conn = append.ticket.conn;
        match self.obstacle(net, conn, Some(append.room.clone()), Some(append.body.len())) {
            None => self.hand_in(net, append),
            Some(obstacle) => self.postpone(net, conn, obstacle, Wish::Publish(append, who)),
        }
    }

    fn obstacle(
        &self,
        net: &Connections,
        conn: ConnId,
        room: Option<RoomId>,
        bytes: Option<usize>,
    ) -> Option<Obstacle> {
        if let Some(room) = room.filter(|room| self.hub.is_behind(room)) {
            return Some(Obstacle::Room(room));
        }
        let fits = |bytes: &usize| self.queue.shares.may_take(net.payer(conn), *bytes, self.limits.append_bytes);
        bytes.filter(|bytes| !fits(bytes)).map(Obstacle::Store)
    }

    fn postpone(&mut self, net: &mut Connections, conn: ConnId, obstacle: Obstacle, wish: Wish) {
        let place = match obstacle {
            Obstacle::Store(bytes) => {
                let (payer, now) = (net.payer(conn), net.now().mono);
                Line::Share(self.queue.shares.wait(payer, conn, bytes, now))
            }
            Obstacle::Room(room) => {
                self.queue.behind.push_back((room, conn));
                Line::Room
            }
        };
        net.grows_beside(conn, wish.memory());
        let before = self.queue.wishes.insert(conn, (place, wish));
        debug_assert!(before.is_none(), "a connection that waits is not read");
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.waits = Waits::Place;
            open.in_flight += 1;
        }
    }

    /// Carries out what waited for a place at the store that is free now.
    pub(super) fn grant(&mut self, net: &mut Connections) {
        while let Some(conn) = self.queue.shares.next(self.limits.append_bytes) {
            // A connection that is gone has left its line.
            let Some(wish) = self.take_wish(net, conn) else { continue };
            match wish {
                Wish::Publish(append, who) => {
                    if self.may_still_publish(net, &append, &who) {
                        self.hand_in(net, append);
                    }
                }
                Wish::Request(request) => {
                    Chat::waits_no_more(net, conn);
                    self.carry_out_or_refuse(net, conn, request);
                }
            }
            net.release(conn);
        }
    }

    /// Carries out what waited for rooms that have told by now what they had to tell.
    pub(super) fn catch_up(&mut self, net: &mut Connections) {
        for _ in 0..self.queue.behind.len() {
            let Some((room, conn)) = self.queue.behind.pop_front() else { return };
            if self.hub.is_behind(&room) && self.queue.wishes.contains_key(&conn) {
                self.queue.behind.push_back((room, conn));
                continue;
            }
            let Some(wish) = self.take_wish(net, conn) else { continue };
            match wish {
                Wish::Publish(append, who) => {
                    if self.may_still_publish(net, &append, &who) {
                        self.hand_in_or_wait(net, append, who);
                    }
                }
                Wish::Request(request) => {
                    Chat::waits_no_more(net, conn);
                    if let Some(request) = self.now_or_later(net, conn, request) {
                        self.carry_out_or_refuse(net, conn, request);
                    }
                }
            }
            net.release(conn);
        }
    }

    /// Returns whether whoever sent a POST may do so by now: it may have waited while that changed. If not, it is
    /// refused.
    fn may_still_publish(&self, net: &mut Connections, append: &Append, who: &Who) -> bool {
        let known = self.doors.now(who).ok_or_else(answers::unknown_token);
        let allowed = known.and_then(|who| self.may(&who, Operation::Publish, &append.room).map_err(answers::denied));
        match allowed {
            Ok(()) => true,
            Err(problem) => {
                net.refuse(append.ticket.conn, problem, None);
                false
            }
        }
    }

    /// Takes out what a connection postponed; `None` if it is gone.
    fn take_wish(&mut self, net: &mut Connections, conn: ConnId) -> Option<Wish> {
        let (_, wish) = self.queue.wishes.remove(&conn)?;
        net.grows_beside(conn, -wish.memory());
        Some(wish)
    }

    /// Lets a socket be read again. Its request is counted once more when it is carried out.
    fn waits_no_more(net: &mut Connections, conn: ConnId) {
        if let Some(open) = net.get_mut(conn).and_then(|c| c.open_mut()) {
            open.waits = Waits::Not;
            open.in_flight = open.in_flight.saturating_sub(1);
        }
    }

    fn carry_out_or_refuse(&mut self, net: &mut Connections, conn: ConnId, request: Request) {
        if let Err(refusal) = self.carry_out(net, conn, request) {
            self.refuse(net, conn, &refusal);
        }
    }

    fn hand_in(&mut self, net: &Connections, append: Append) {
        let place = self.take_place(net, append.ticket.conn, &append.room, append.body.len());
        let ticket = append.ticket.paid_by(place.payer).making(place.making).needing(place.needs);
        self.hub.handle_publish(Append { ticket, ..append });
    }

    /// Takes a place at the store for a message. Whether it may make its room matters only if that does not exist:
    /// where the hub does not know, the store finds out.
    pub(super) fn take_place(&mut self, net: &Connections, conn: ConnId, room: &RoomId, bytes: usize) -> Place {
        let now = net.now().mono;
        let payer = self.queue.shares.take(net.payer(conn), bytes, now);
        let making = match self.hub.has_messages(room) {
            true => Making::Free,
            false => self.queue.shares.may_make(payer, self.limits.rooms, now),
        };
        Place { payer, making, needs: self.queue.shares.needs(payer, now) }
    }

    /// Gives back a message's place; `has_made`: the message is the first of its room.
    pub(super) fn give_place_back(
        &mut self,
        (payer, making): (u32, Making),
        bytes: usize,
        has_made: bool,
        now: Millis,
    ) {
        self.queue.shares.give_back(payer, bytes);
        if making == Making::Counted {
            self.queue.shares.decided(payer, has_made, self.limits.rooms, now);
        }
    }
}
