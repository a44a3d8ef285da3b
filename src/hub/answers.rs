//! The store's answers. Answers to reads and appends overtake each other, come late and come twice. Once a room's head
//! is known, only a commit moves it, and a page is used up to the head. Therefore no message precedes its ack,
//! whichever answer comes first.

use super::Hub;
use super::clients::{Clients, HubError, Live, Notice};
use super::log::Knowledge;
use crate::store::{Append, Appended, Making, NO_ID, Outcome, Page, Purpose, ReadFailed, Span};
use crate::types::{Epoch, Message, Millis, RoomId, size};

impl Hub {
    /// Takes the store's decision on an append: acknowledges it to its sender, and fans it out at the end of the turn.
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
            Outcome::NotMade => {
                let retry_after_ms = if let Making::Refused { wait } = ticket.making { wait } else { 0 };
                Notice::Refused { id, error: HubError::TooManyNew { retry_after_ms } }
            }
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
            // A seq that is not new is a repeated answer.
            Outcome::Stored(message) if !room.log.is_known() || message.seq > room.log.head => {
                room.log.head = message.seq;
                room.log.knowledge = Knowledge::Known;
                room.say(Live::Message(message), &mut self.dirty);
            }
            // The first try was answered as unavailable, but stored: no member has received it yet. If the head is
            // still to come with a page, that page may be older than this.
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

    /// Takes a page that the store read.
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

    /// Handles a read that failed.
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

    /// Queues an append for the store.
    pub(super) fn append(&mut self, append: Append) {
        if append.ticket.purpose == Purpose::Send {
            *self.appending.entry(append.room.clone()).or_default() += 1;
        }
        self.appends.push(append);
    }

    /// Counts an append of a session as decided.
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

/// Cuts a page to `page_bytes` as sent, at the end that is farther from where the read began. At least one message
/// stays.
fn trim(page: &mut Page, page_bytes: usize) {
    let mut bytes = 0;
    let mut fits = |m: &Message| {
        bytes += size::on_wire(&m.author, &m.body);
        bytes <= page_bytes
    };
    let keep = match page.span {
        Span::After(_) => page.messages.iter().take_while(|m| fits(m)).count(),
        Span::Before(_) | Span::Newest => page.messages.iter().rev().take_while(|m| fits(m)).count(),
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
