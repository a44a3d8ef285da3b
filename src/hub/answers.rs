//! What the store answered, and who goes on because of it. Answers to reads and appends overtake each other, come late
//! and come twice: a commit alone moves a room's head once that is known, and a page is taken as far as the head goes.
//! So no message is seen before the ack that precedes it, whichever answer is first.

use super::Hub;
use super::clients::{Clients, HubError, Live, Notice};
use super::log::Knowledge;
use crate::store::{Append, Appended, NO_ID, Outcome, Page, Purpose, ReadFailed, Span};
use crate::types::{Epoch, Message, Millis, RoomId};

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
            Outcome::BodyReused => Notice::Refused { id, error: HubError::BodyReused },
            Outcome::Full => Notice::Refused { id, error: HubError::StorageFull },
            Outcome::RoomsFull { limit } => Notice::Refused { id, error: HubError::RoomsFull { limit: *limit } },
            Outcome::Unavailable => Notice::Refused { id, error: HubError::StorageUnavailable },
        };
        clients.tell(ticket.conn, notice);
        let is_send = ticket.purpose == Purpose::Send;
        if is_send {
            self.settle_append(&room);
        }
        let room_id = room;
        let Some(room) = self.rooms.get_mut(&room_id) else { return };
        let was_held = room.log.is_held();
        match outcome {
            // Of a seq that was here before, the store repeated itself.
            Outcome::Stored(message) if !room.log.is_known() || message.seq > room.log.head => {
                room.log.head = message.seq;
                room.log.knowledge = Knowledge::Known;
                room.say(Live::Message(message), &mut self.dirty);
            }
            // The first try was called unavailable, and stored after all: nobody has heard it yet. Where a page is still to
            // tell the head, that page may be older than this.
            Outcome::Duplicate { seq, .. } if seq > room.log.head => {
                room.log.head = seq;
                if room.log.is_known() {
                    room.agenda.miss_commits(&room.id, &mut self.dirty);
                }
            }
            _ => {}
        }
        if is_send {
            room.log.settle();
        }
        if was_held && room.log.is_known() {
            self.head_found(&room_id, clients);
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
        self.handle_room_page(page, clients);
    }

    /// The store could not read.
    pub fn handle_read_failed(&mut self, failed: ReadFailed, now: Millis, clients: &mut impl Clients) {
        self.now = now;
        if !self.reads.answered(&failed.ticket, &failed.room, None) {
            return;
        }
        if failed.ticket.purpose == Purpose::Deliver {
            return self.handle_room_read_failed(failed, clients);
        }
        let id = (failed.ticket.tag != NO_ID).then_some(failed.ticket.tag);
        clients.tell(failed.ticket.conn, Notice::Refused { id, error: HubError::StorageUnavailable });
    }

    /// An append is on its way to the store.
    pub(super) fn append(&mut self, append: Append) {
        if append.ticket.purpose == Purpose::Send {
            *self.appending.entry(append.room.clone()).or_default() += 1;
        }
        self.appends.push(append);
    }

    /// An append of a session was decided.
    fn settle_append(&mut self, room: &RoomId) {
        let Some(count) = self.appending.get_mut(room) else { return };
        *count -= 1;
        if *count == 0 {
            self.appending.remove(room);
        }
    }
}

pub(super) fn same_epoch(epoch: &Epoch, named: &Option<Box<str>>) -> bool {
    named.as_deref().is_none_or(|named| *named == *epoch.0)
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
