//! Joining, resuming and catching up are the same process: reading the log after a cursor until live, from memory where
//! the room has the messages, otherwise from the store. A room has one read in flight, and its answer serves every
//! waiting member.

use std::iter;

use super::answers::{may_be_of, same_epoch};
use super::clients::{Clients, HubError, Notice};
use super::log::ReadState;
use super::member::{Joining, Member, RosterState, State, Wait};
use super::room::Room;
use super::turns::NOTICE;
use super::{Hub, Presence, Start};
use crate::store::{Page, Purpose, Read, ReadFailed, Span};
use crate::types::{Millis, RoomId, Seq, SessionSlot};

/// Milliseconds until a failed read of the log is retried.
const RETRY: u64 = 1000;

/// The seq before this one.
fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}

impl Hub {
    /// Advances a member from its current state: to its `joined`, to the next pages, or to live. It gets as many pages
    /// as are `due` to it, and more only while nobody waits for a turn.
    pub(super) fn proceed(&mut self, room_id: &RoomId, seat: usize, due: usize, clients: &mut impl Clients) {
        let Some(room) = self.rooms.get(room_id) else { return };
        match room.members.get(seat).map(|member| &member.state) {
            Some(State::Joining(joining)) if joining.wait == Wait::Nothing => {
                if self.knows_where(room, &joining.start) {
                    self.begin(room_id, seat, clients);
                    self.advance(room_id, seat, due, clients);
                } else {
                    self.ask(room_id, seat);
                }
            }
            Some(State::Lagging { wait: Wait::Nothing, .. }) => self.advance(room_id, seat, due, clients),
            _ => {}
        }
    }

    /// Returns whether the room knows enough of its log to place a member that joins with `start`.
    fn knows_where(&self, room: &Room, start: &Start) -> bool {
        room.log.is_known()
            && match start {
                Start::Now => true,
                Start::After { seq, epoch }
                    if *seq == room.log.head && same_epoch(&room.log.incarnation.epoch, epoch) =>
                {
                    true
                }
                Start::After { .. } | Start::Last(_) => room.log.oldest.is_some(),
            }
    }

    /// Determines the cursor of a joining member, in a room that knows both ends of its log, and completes the join.
    fn begin(&mut self, room_id: &RoomId, seat: usize, clients: &mut impl Clients) {
        let Some(room) = self.rooms.get(room_id) else { return };
        let Some(joining) = room.members.get(seat).and_then(Member::joining) else { return };
        let head = room.log.head;
        // Messages still in memory may have been pruned from the log.
        let pruned = room.log.oldest.map_or(Seq::ZERO, before).min(head);
        let reaches = |seq: Seq| seq >= pruned || room.recent(seq, 1, usize::MAX).is_some();
        let (cursor, recovered) = match &joining.start {
            Start::Now => (head, true),
            Start::Last(n) => (Seq(head.0.saturating_sub(u64::from(*n))).max(pruned), true),
            Start::After { epoch, .. } if !same_epoch(&room.log.incarnation.epoch, epoch) => (pruned, false),
            Start::After { seq, .. } if *seq > head => (head, false),
            Start::After { seq, .. } if reaches(*seq) => (*seq, true),
            Start::After { .. } => (pruned, false),
        };
        self.complete_join(room_id, seat, cursor, recovered, clients);
    }

    /// Sends a member its `joined`, and releases the messages that it sent meanwhile.
    fn complete_join(
        &mut self,
        room_id: &RoomId,
        seat: usize,
        cursor: Seq,
        recovered: bool,
        clients: &mut impl Clients,
    ) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let (members, head, epoch) = (room.count(), room.log.head, room.log.incarnation.epoch.clone());
        let Some(member) = room.members.get_mut(seat) else { return };
        if member.joining().is_none() {
            return;
        }
        let owed = |is_owed| if is_owed { RosterState::Owed } else { RosterState::Current };
        let roster = owed(match member.presence {
            Presence::Full => true,
            // It was told a count before, which may have changed since.
            Presence::Count => member.cursor().is_some(),
            Presence::Off => false,
        });
        let lagging = State::Lagging { cursor, wait: Wait::Nothing, roster };
        let State::Joining(joining) = std::mem::replace(&mut member.state, lagging) else { return };
        let Joining { id, sends, start, .. } = *joining;
        let after = match start {
            Start::After { seq, epoch: named } if same_epoch(&epoch, &named) => Some(seq),
            _ => None,
        };
        let from = cursor.next();
        let notice = Notice::Joined { id, room: room_id, epoch: &epoch, head, from, recovered, after, members };
        clients.tell(member.client, notice);
        self.turns.spend(NOTICE);
        for append in sends {
            self.append(append);
        }
    }

    /// Makes a lagging member live if its cursor allows. Otherwise sends it pages from memory while its client's queue
    /// has room and the turn has work left, and requests the first page that is not in memory.
    pub(super) fn advance(&mut self, room_id: &RoomId, seat: usize, mut due: usize, clients: &mut impl Clients) {
        let (most, bytes) = (self.limits.page_messages as usize, self.limits.page_bytes);
        loop {
            let Some(room) = self.rooms.get_mut(room_id) else { return };
            let live_from = room.live_from(seat);
            let Some(member) = room.members.get_mut(seat) else { return };
            let State::Lagging { cursor, wait, roster } = member.state else { return };
            if cursor >= live_from {
                member.state = State::Live { cursor, roster };
                if roster == RosterState::Owed {
                    room.agenda.owe_roster(&room.id, &mut self.dirty);
                }
                return;
            }
            let client = member.client;
            if wait != Wait::Nothing || !clients.has_room(client) {
                return;
            }
            if due == 0 && self.turns.must_wait() {
                return self.wait_for_turn(room_id, seat);
            }
            due = due.saturating_sub(1);
            let epoch = &room.log.incarnation.epoch;
            let told = room.recent(cursor, most, bytes).and_then(|(front, back)| {
                let messages = if front.is_empty() { back } else { front };
                let caught_up = clients.catch_up(client, room.stay, epoch, messages);
                self.turns.spend(caught_up.work);
                messages.get(caught_up.messages.checked_sub(1)?).map(|m| m.seq)
            });
            // Never report a gap past the known head; the next commit reveals anything newer.
            let gap =
                room.log.oldest.map(|oldest| oldest.min(room.log.head.next())).filter(|from| *from > cursor.next());
            let reached = match (told, gap) {
                (Some(last), _) => last,
                (None, Some(from)) => {
                    clients.tell(client, Notice::Gap { room: room_id, epoch, after: cursor, from });
                    self.turns.spend(NOTICE);
                    before(from)
                }
                (None, None) => return self.ask(room_id, seat),
            };
            if let Some(State::Lagging { cursor, .. }) = room.members.get_mut(seat).map(|member| &mut member.state) {
                *cursor = reached;
            }
        }
    }

    /// Makes a member wait for the room's next read, and requests one if none is in flight.
    fn ask(&mut self, room_id: &RoomId, seat: usize) {
        if let Some(member) = self.rooms.get_mut(room_id).and_then(|room| room.members.get_mut(seat)) {
            member.set_wait(Wait::Page);
            self.read_room(room_id);
        }
    }

    /// Requests the page that the next waiting member needs, from a position that serves members near it, too.
    pub(super) fn read_room(&mut self, room_id: &RoomId) {
        let (most, log) = (self.limits.page_messages, &self.epoch);
        let Some(room) = self.rooms.get_mut(room_id).filter(|room| room.log.may_read()) else { return };
        let count = room.members.len();
        let waiting = |seat: usize| room.members.get(seat % count).filter(|m| m.waits()).map(|m| (seat % count, m));
        let from = room.log.next_reader as usize;
        let Some((seat, member)) = (from..from + count).find_map(waiting) else {
            return;
        };
        let wish = |member: &Member| match member.joining().map(|joining| &joining.start) {
            None => (Span::After(member.cursor().unwrap_or(Seq::ZERO)), most),
            Some(Start::After { seq, epoch }) if may_be_of(log, Some(room), epoch) => (Span::After(*seq), most),
            // Its cursor is of another log: every message kept in this one is new to it.
            Some(Start::After { .. }) => (Span::After(Seq::ZERO), most),
            Some(Start::Last(n)) => (Span::Newest, (*n).min(most)),
            Some(Start::Now) => (Span::Newest, 0),
        };
        let (mut span, limit) = wish(member);
        if let Span::After(cursor) = span {
            // The same page serves members a little further back.
            let near = |seq: Seq| seq < cursor && cursor.0 - seq.0 <= u64::from(most / 2);
            let others = room.members.iter().filter(|m| m.waits()).filter_map(|m| match wish(m).0 {
                Span::After(seq) if near(seq) => Some(seq),
                _ => None,
            });
            span = Span::After(others.min().unwrap_or(cursor));
        }
        room.log.read = ReadState::InFlight;
        room.log.next_reader = seat as u32 + 1;
        let (ticket, upto) = (room.ticket(), room.log.head);
        let bytes = self.limits.page_bytes as u32;
        self.reads.push(Read { ticket, room: room_id.clone(), span, limit, bytes, upto });
    }

    /// Takes the answer to the room's read: caches it, and wakes every waiting member.
    pub(super) fn handle_room_page(&mut self, page: Page, clients: &mut impl Clients) {
        self.note_page(&page);
        let room_id = page.room;
        let Some(room) = self.rooms.get_mut(&room_id).filter(|room| room.ticket() == page.ticket) else { return };
        room.log.read = ReadState::Idle;
        room.log.oldest = Some(page.oldest);
        // This read was requested since the room was created, so its page misses no commit from before that. It may
        // miss a later one; if a duplicate has brought that one's seq meanwhile, `hold` keeps it as the head.
        if !room.log.is_known() {
            // A repeat that has brought a seq beyond this page has also told which room it is.
            if page.head >= room.log.head {
                room.log.is_of(&self.epoch, page.era);
            }
            // It may hold what the store has not acknowledged yet, at most what was on its way when it came. A sender
            // hears of that first, so those who wait read on when it is decided. It may also lack the first message,
            // which decides the epoch that they are told. What was sent later holds nobody up.
            room.log.hold(page.head, self.appending.get(&room_id).copied().unwrap_or(0));
            if room.log.is_held() {
                return;
            }
        }
        // The log lacks a committed message. That is the store's fault, and must not become a busy loop of reads.
        let missing = match page.span {
            Span::After(cursor) if page.oldest <= cursor.next() && cursor < room.log.head => {
                page.messages.first().is_none_or(|m| m.seq != cursor.next()).then_some(cursor)
            }
            _ => None,
        };
        room.keep_page(page.messages, self.limits.tail_bytes.max(self.limits.page_bytes));
        self.wake(&room_id, clients, |hub, seat, due, clients| {
            let Some(member) = hub.rooms.get(&room_id).and_then(|room| room.members.get(seat)) else { return };
            match member.state {
                State::Lagging { cursor, .. } if missing == Some(cursor) => {
                    let slot = member.session;
                    hub.stall(slot, room_id.clone());
                }
                _ => hub.go_on(&room_id, seat, due, clients),
            }
        });
        let (tail, total) = (self.limits.tail_bytes, self.limits.tail_bytes_total);
        if let Some(room) = self.rooms.get_mut(&room_id) {
            room.trim(tail);
        }
        self.tails.touch(&room_id, &mut self.rooms, total);
    }

    /// Handles a failed read. New joins are refused; members that catch up or resume are retried.
    pub(super) fn handle_room_read_failed(&mut self, failed: ReadFailed, clients: &mut impl Clients) {
        let room_id = failed.room;
        let Some(room) = self.rooms.get_mut(&room_id).filter(|room| room.ticket() == failed.ticket) else { return };
        room.log.read = ReadState::Idle;
        let mut waiting = Vec::new();
        for member in &mut room.members {
            if member.end_wait_for_page() {
                let joining = member.joining().map(|joining| (joining.id, joining.kept.is_some()));
                waiting.push((member.session, member.client, joining));
            }
        }
        for (slot, client, joining) in waiting {
            match joining {
                // A resuming member has a place already, and keeps it.
                Some((id, false)) => {
                    clients.tell(client, Notice::Refused { id, error: HubError::StorageUnavailable });
                    self.remove_member(slot, &room_id);
                }
                _ => self.stall(slot, room_id.clone()),
            }
        }
    }

    /// Wakes all waiting members of the room, beginning with the one at `next_reader`.
    fn wake<C: Clients>(
        &mut self,
        room_id: &RoomId,
        clients: &mut C,
        mut each: impl FnMut(&mut Hub, usize, usize, &mut C),
    ) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        let count = room.members.len();
        let from = room.log.next_reader as usize;
        // Holds back the next read until all of them have proceeded.
        let was_reading = std::mem::replace(&mut room.log.read, ReadState::InFlight);
        let woken: Vec<usize> = (0..count)
            .map(|n| (from + n) % count)
            .filter(|seat| room.members.get_mut(*seat).is_some_and(Member::end_wait_for_page))
            .collect();
        // The first has chosen the page, and gets it at once, so that no page is read in vain.
        for (due, seat) in [1].into_iter().chain(iter::repeat(0)).zip(woken) {
            each(self, seat, due, clients);
        }
        if let Some(room) = self.rooms.get_mut(room_id) {
            room.log.read = was_reading;
            self.read_room(room_id);
        }
    }

    /// Lets a member whose page has come go on: now, or when its turn comes, since many may have waited for it.
    fn go_on(&mut self, room_id: &RoomId, seat: usize, due: usize, clients: &mut impl Clients) {
        match due == 0 && self.turns.must_wait() {
            true => self.wait_for_turn(room_id, seat),
            false => self.proceed(room_id, seat, due, clients),
        }
    }

    /// Wakes the members of a room whose first page was held back: its head is known now.
    pub(super) fn head_found(&mut self, room_id: &RoomId, clients: &mut impl Clients) {
        self.wake(room_id, clients, |hub, seat, due, clients| hub.go_on(room_id, seat, due, clients));
    }

    /// Advances a session's member in a room.
    pub(super) fn read_on(&mut self, slot: SessionSlot, room_id: &RoomId, clients: &mut impl Clients) {
        if let Some(seat) = self.session(slot).and_then(|s| s.seat(room_id)) {
            self.proceed(room_id, seat, 0, clients);
        }
    }

    /// Schedules a retry of a member.
    pub(super) fn stall(&mut self, slot: SessionSlot, room: RoomId) {
        self.stalled.push((slot, room));
        self.retry_at.get_or_insert(self.now.after(RETRY));
    }

    /// Retries the stalled members if their time has come.
    pub(super) fn retry(&mut self, now: Millis, clients: &mut impl Clients) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for (slot, room) in std::mem::take(&mut self.stalled) {
                self.read_on(slot, &room, clients);
            }
        }
    }

    /// Returns whether a read is still wanted: its room is still the one that asked.
    pub(super) fn is_wanted(rooms: &std::collections::HashMap<RoomId, Room>, read: &Read) -> bool {
        read.ticket.purpose != Purpose::Deliver
            || rooms.get(&read.room).is_some_and(|room| room.ticket() == read.ticket)
    }
}
