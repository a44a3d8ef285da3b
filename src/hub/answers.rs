//! What the store answered, and who goes on because of it. Answers to reads and appends overtake each other, come late
//! and come twice: a commit alone moves a room's head once that is known, and a page is taken as far as the head goes.
//! So no message is seen before the ack that precedes it, whichever answer is first.

use std::collections::HashMap;

use super::clients::{Clients, HubError, Live, Notice};
use super::room::{Joining, Member, Room, State};
use super::{Hub, Presence, Session, SessionKey, Start};
use crate::store::{Append, Appended, NO_ID, Outcome, Page, Purpose, ReadFailed, Span, Ticket};
use crate::types::{Epoch, Message, Millis, RoomId, Seq};

/// Milliseconds until a failed read of the log is tried again.
const RETRY: u64 = 1000;

/// About what a message takes on the wire beside body and name, in bytes.
const ENVELOPE: usize = 140;

impl Hub {
    /// The store decided an append: it is acknowledged to its sender, and fanned out at the end of the turn.
    pub fn handle_appended(&mut self, appended: Appended, clients: &mut impl Clients) {
        let Appended { ticket, room, outcome, .. } = appended;
        let id = (ticket.tag != NO_ID).then_some(ticket.tag);
        let notice = match &outcome {
            Outcome::Stored(m) => Notice::Ack { id, room: &room, seq: m.seq, at: m.at, duplicate: false },
            Outcome::Duplicate { seq, at } => Notice::Ack { id, room: &room, seq: *seq, at: *at, duplicate: true },
            Outcome::KeyReused => Notice::Refused { id, error: HubError::KeyReused },
            Outcome::Unavailable => Notice::Refused { id, error: HubError::StorageUnavailable },
        };
        clients.tell(ticket.conn, notice);
        let is_settled = ticket.purpose == Purpose::Send && self.settle_append(&room);
        let room_id = room;
        let Some(room) = self.rooms.get_mut(&room_id) else { return };
        match outcome {
            // Of a seq that was here before, the store repeated itself.
            Outcome::Stored(message) if !room.head_known || message.seq > room.head => {
                room.head = message.seq;
                room.head_known = true;
                room.live.push(Live::Message(message));
                room.mark_dirty(&mut self.dirty);
            }
            // The first try was called unavailable, and stored after all: nobody has heard it yet.
            Outcome::Duplicate { seq, .. } if room.head_known && seq > room.head => {
                room.head = seq;
                room.unheard = true;
                room.mark_dirty(&mut self.dirty);
            }
            _ => {}
        }
        if room.awaits_commit && (room.head_known || is_settled) {
            room.awaits_commit = false;
            for slot in 0..room.members.len() {
                self.start_reading(&room_id, slot);
            }
        }
    }

    /// The store read a page.
    pub fn handle_page(&mut self, mut page: Page, clients: &mut impl Clients) {
        if !self.reads.answered(&page.ticket, &page.room, Some(page.span)) {
            return;
        }
        trim(&mut page, self.limits.page_bytes);
        if page.ticket.purpose != Purpose::Deliver {
            return clients.tell(page.ticket.conn, Notice::Page { page: &page });
        }
        let Some((room, slot)) = self.find_visit(&page.ticket, &page.room) else { return };
        // Only a read that was asked since the room is here tells its head: no commit before that is missing in it.
        if !room.head_known {
            room.head = page.head;
            room.head_known = true;
        }
        room.members[slot].reading = false;
        let is_joining = room.members[slot].state == State::Joining;
        if is_joining {
            self.start_member(slot, &page, clients);
        }
        let Some(room) = self.rooms.get_mut(&page.room) else { return };
        let head = room.head;
        let member = &mut room.members[slot];
        let (key, begun) = (member.session, member.cursor);
        if page.oldest > member.cursor.next() && page.head > member.cursor {
            let (after, from) = (member.cursor, page.oldest);
            clients.tell(member.client, Notice::Gap { room: &page.room, after, from });
            member.cursor = before(from);
        }
        let fresh = fresh(&page.messages, member.cursor, head);
        // The room in the queue may have gone since the read was asked for: it is asked for again when there is some.
        if let Some(last) = fresh.last()
            && clients.has_room(member.client)
        {
            clients.tell(member.client, Notice::CatchUp { messages: fresh });
            member.cursor = last.seq;
        }
        if fresh.is_empty() && member.cursor == begun && begun < head && !is_joining {
            // The log lacks what was committed. That is the store's trouble; it must not become a spin of reads.
            return self.stall(key, page.room);
        }
        self.advance(&page.room, slot, clients);
    }

    /// The store could not read. A join is refused; who was catching up is served when the store is well again.
    pub fn handle_read_failed(&mut self, failed: ReadFailed, now: Millis, clients: &mut impl Clients) {
        self.now = now;
        if !self.reads.answered(&failed.ticket, &failed.room, None) {
            return;
        }
        let error = HubError::StorageUnavailable;
        if failed.ticket.purpose != Purpose::Deliver {
            let id = (failed.ticket.tag != NO_ID).then_some(failed.ticket.tag);
            return clients.tell(failed.ticket.conn, Notice::Refused { id, error });
        }
        let Some((room, slot)) = self.find_visit(&failed.ticket, &failed.room) else { return };
        let member = &mut room.members[slot];
        member.reading = false;
        let (key, client) = (member.session, member.client);
        match member.joining.as_deref() {
            // Who comes back has a place here already, and keeps it.
            Some(Joining { id, resumes: false, .. }) => {
                clients.tell(client, Notice::Refused { id: *id, error });
                self.remove_member(key, &failed.room);
            }
            _ => self.stall(key, failed.room),
        }
    }

    /// Asks the store where a joining member begins; not while appends are on their way of which nobody here knows the
    /// seq, since a page could show a message to its sender before the ack.
    pub(super) fn start_reading(&mut self, room_id: &RoomId, slot: usize) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let Some(member) = room.members.get(slot) else { return };
        let Some(joining) = member.joining.as_ref().filter(|_| !member.reading) else { return };
        if !room.head_known && self.appending.contains_key(room_id) {
            room.awaits_commit = true;
            return;
        }
        let most = self.limits.page_messages;
        let (span, messages) = match &joining.start {
            Start::Now => (Span::Newest, 0),
            Start::After { seq, epoch } if same_epoch(&self.epoch, epoch) => (Span::After(*seq), most),
            // Of another log: all that is kept of this one is new to it.
            Start::After { .. } => (Span::After(Seq::ZERO), most),
            Start::Last(n) => (Span::Newest, (*n).min(most)),
        };
        room.read(slot, span, messages, &mut self.reads, &self.limits);
    }

    /// A joining member's first page is here: where does it begin?
    fn start_member(&mut self, slot: usize, page: &Page, clients: &mut impl Clients) {
        let Some(room) = self.rooms.get(&page.room) else { return };
        let Some(joining) = room.members.get(slot).and_then(|m| m.joining.as_ref()) else { return };
        // The page may have been overtaken by commits, or have overtaken them.
        let head = room.head.max(page.head);
        let pruned = before(page.oldest);
        let (cursor, recovered) = match &joining.start {
            Start::Now => (room.head, true),
            Start::Last(n) => (Seq(head.0.saturating_sub(u64::from(*n))).max(pruned), true),
            Start::After { epoch, .. } if !same_epoch(&self.epoch, epoch) => (pruned, false),
            Start::After { seq, .. } if *seq > head => (head, false),
            Start::After { seq, .. } => ((*seq).max(pruned), *seq >= pruned),
        };
        self.complete_join(&page.room, slot, cursor, recovered, head, clients);
    }

    /// Tells a member `joined`, and lets go what it said meanwhile. The caller then lets it advance.
    pub(super) fn complete_join(
        &mut self,
        room_id: &RoomId,
        slot: usize,
        cursor: Seq,
        recovered: bool,
        head: Seq,
        clients: &mut impl Clients,
    ) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let members = room.count();
        let Some(member) = room.members.get_mut(slot) else { return };
        let Some(joining) = member.joining.take() else { return };
        let Joining { id, sends, resumes, start } = *joining;
        let after = match start {
            Start::After { seq, epoch } if same_epoch(&self.epoch, &epoch) => Some(seq),
            _ => None,
        };
        member.cursor = cursor;
        member.state = State::Lagging;
        member.owed_roster = match member.presence {
            Presence::Full => true,
            // It heard a number before, which may be another by now.
            Presence::Count => resumes,
            Presence::Off => false,
        };
        let from = cursor.next();
        let notice = Notice::Joined { id, room: room_id, epoch: &self.epoch, head, from, recovered, after, members };
        clients.tell(member.client, notice);
        for append in sends {
            self.append(append);
        }
    }

    pub(super) fn advance(&mut self, room_id: &RoomId, slot: usize, clients: &mut impl Clients) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        if room.advance(slot, &mut self.reads, &self.limits, clients) {
            room.mark_dirty(&mut self.dirty);
        }
    }

    /// An append is on its way to the store.
    pub(super) fn append(&mut self, append: Append) {
        if append.ticket.purpose == Purpose::Send {
            *self.appending.entry(append.room.clone()).or_default() += 1;
        }
        self.appends.push(append);
    }

    /// An append of a session was decided. True if no other of that room is on its way.
    fn settle_append(&mut self, room: &RoomId) -> bool {
        let Some(count) = self.appending.get_mut(room) else { return true };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.appending.remove(room);
        }
        is_last
    }

    /// Lets a member that waits for it read on.
    pub(super) fn read_on(&mut self, key: SessionKey, room_id: &RoomId, clients: &mut impl Clients) {
        let Some(slot) = self.session(key).and_then(|s| s.slot(room_id)) else { return };
        match self.rooms.get(room_id).and_then(|room| room.members.get(slot)) {
            Some(member) if member.reading => {}
            Some(member) if member.state == State::Lagging => self.advance(room_id, slot, clients),
            Some(member) if member.state == State::Joining => self.start_reading(room_id, slot),
            _ => {}
        }
    }

    /// A member could not take what the turn brought: it hears so, and the log is read for it as soon as its client has
    /// room, which may be now (a large turn does not fit where a page does).
    pub(super) fn left_behind(&mut self, key: SessionKey, room_id: &RoomId, clients: &mut impl Clients) {
        let Some(slot) = self.session(key).and_then(|s| s.slot(room_id)) else { return };
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let Some(Member { client, cursor, .. }) = room.members.get(slot) else { return };
        let behind = room.head.0.saturating_sub(cursor.0);
        clients.tell(*client, Notice::Lagging { room: room_id, behind });
        if *cursor < room.live_from() {
            self.advance(room_id, slot, clients);
        } else if clients.has_room(*client) {
            // Only word of who is here was not taken. Time decides, not the next turn: no client makes the hub spin.
            self.stall(key, room_id.clone());
        }
    }

    /// Tries a member again in a while.
    fn stall(&mut self, key: SessionKey, room: RoomId) {
        self.stalled.push((key, room));
        self.retry_at.get_or_insert(self.now.after(RETRY));
    }

    /// The member that a read was for, if it is still on the same visit.
    fn find_visit(&mut self, ticket: &Ticket, room: &RoomId) -> Option<(&mut Room, usize)> {
        let slot = visit_slot(&self.sessions, &self.rooms, ticket, room)?;
        Some((self.rooms.get_mut(room)?, slot))
    }
}

/// Where the member stands that a read is for, if it is still on the same visit.
pub(super) fn visit_slot(
    sessions: &slab::Slab<Session>,
    rooms: &HashMap<RoomId, Room>,
    ticket: &Ticket,
    room: &RoomId,
) -> Option<usize> {
    let slot = sessions.get((ticket.tag >> 32) as usize)?.slot(room)?;
    let member = rooms.get(room)?.members.get(slot)?;
    (member.ticket() == *ticket).then_some(slot)
}

pub(super) fn same_epoch(epoch: &Epoch, named: &Option<Box<str>>) -> bool {
    named.as_deref().is_none_or(|named| *named == *epoch.0)
}

/// The seq before this one.
fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}

/// What of a page follows a cursor without a hole, up to the head. A page that begins further on (the newest so many did
/// not fit) brings nothing; it is read again from the cursor.
fn fresh(messages: &[Message], cursor: Seq, head: Seq) -> &[Message] {
    let from = messages.partition_point(|m| m.seq <= cursor);
    let upto = messages.partition_point(|m| m.seq <= head);
    let fresh = messages.get(from..upto).unwrap_or_default();
    if fresh.first().is_some_and(|m| m.seq == cursor.next()) { fresh } else { &[] }
}

/// Cuts a page at so many bytes as it will be sent: at its far end, seen from where the reading began. One message stays.
fn trim(page: &mut Page, page_bytes: usize) {
    let cost = |m: &Message| m.body.len() + m.author.name.as_str().len() + ENVELOPE;
    let mut bytes = 0;
    let mut fits = |m| {
        bytes += cost(m);
        bytes <= page_bytes
    };
    let keep = match page.span {
        Span::After(_) => page.messages.iter().take_while(|m| fits(*m)).count(),
        Span::Before(_) | Span::Newest => page.messages.iter().rev().take_while(|m| fits(*m)).count(),
    };
    let keep = keep.max(1);
    if keep < page.messages.len() {
        page.more = true;
        match page.span {
            Span::After(_) => page.messages.truncate(keep),
            Span::Before(_) | Span::Newest => drop(page.messages.drain(..page.messages.len() - keep)),
        }
    }
}
