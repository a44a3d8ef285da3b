//! The store's answers. Answers to reads and appends overtake each other, come late and come twice. Once a room's head
//! is known, only a commit moves it, and a page is used up to the head. Therefore no message precedes its ack,
//! whichever answer comes first.

use super::Hub;
use super::clients::{Clients, HubError, Live, Notice};
use super::log::Knowledge;
use super::room::Room;
use crate::store::{Append, Appended, Making, NO_ID, Outcome, Page, Purpose, ReadFailed, Span};
use crate::types::{Epoch, Message, Millis, RoomId, size};

impl Hub {
    /// Takes the store's decision on an append: acknowledges it to its sender, and fans it out at the end of the turn.
    pub fn handle_appended(&mut self, appended: Appended, clients: &mut impl Clients) {
        let Appended { ticket, room, outcome, era, .. } = appended;
        let id = (ticket.tag != NO_ID).then_some(ticket.tag);
        let notice = match &outcome {
            Outcome::Stored(m) => Notice::Ack { id, room: &room, seq: m.seq, at: m.at, duplicate: false },
            Outcome::Duplicate { seq, at } => Notice::Ack { id, room: &room, seq: *seq, at: *at, duplicate: true },
            Outcome::KeyReused => Notice::Refused { id, error: HubError::KeyReused },
            Outcome::BodyReused => Notice::Refused { id, error: HubError::BodyReused },
            Outcome::Full => Notice::Refused { id, error: HubError::StorageFull },
            Outcome::OverShare => Notice::Refused { id, error: HubError::OverShare },
            Outcome::RoomsFull { limit } => Notice::Refused { id, error: HubError::RoomsFull { limit: *limit } },
            Outcome::NotMade => {
                let retry_after_ms = if let Making::Refused { wait } = ticket.making { wait } else { 0 };
                Notice::Refused { id, error: HubError::TooManyNew { retry_after_ms } }
            }
            Outcome::Unavailable => Notice::Refused { id, error: HubError::StorageUnavailable },
        };
        clients.tell(ticket.conn, notice);
        self.settle_append(&room);
        let room_id = room;
        let Some(room) = self.rooms.get_mut(&room_id) else { return };
        let was_held = room.log.is_held();
        if let Some(era) = era.filter(|_| !room.log.is_known()) {
            // The first page may have shown a room without a message: that no longer holds.
            room.log.is_of(&self.epoch, era);
        }
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
        room.log.settle();
        if was_held && room.log.is_known() {
            self.head_found(&room_id, clients);
        }
        self.watch_use();
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
    pub(super) fn append(&mut self, mut append: Append) {
        *self.appending.entry(append.room.clone()).or_default() += 1;
        // Those who wait until another append is decided are told the same, unless that one makes the room.
        let room = self.rooms.get(&append.room).filter(|room| room.log.knowledge != Knowledge::Unread);
        append.era = room.map(|room| room.log.incarnation.era);
        self.appends.push(append);
    }

    /// Counts an append as decided.
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

/// Returns whether a cursor of this epoch may be one of this room, as far as is known of it.
pub(super) fn may_be_of(log: &Epoch, room: Option<&Room>, named: &Option<Box<str>>) -> bool {
    match room.filter(|room| room.log.is_known()) {
        Some(room) => same_epoch(&room.log.incarnation.epoch, named),
        None => named.as_deref().is_none_or(|named| log.is_of_log(named)),
    }
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
