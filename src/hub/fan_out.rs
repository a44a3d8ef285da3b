//! The end of a turn in one room: the turn's messages are encoded once, and queued once to each member whose cursor is
//! directly before them. A member that cannot take them, or has another cursor, lags. In a large room this may take
//! several turns, and the room rests afterwards.

use core::ops::Range;

use super::agenda::Round;
use super::clients::{Clients, Delivery, Live};
use super::member::{Member, State};
use super::room::Room;
use super::session::Sessions;
use super::{Broadcast, HubLimits};
use crate::types::{ConnId, MemberId, Millis, Seq};

/// Milliseconds below which a rest is left out, so that only large rooms rest.
const MIN_REST: u64 = 2;

/// The result of fanning out one room.
#[derive(Default)]
pub struct FannedOut {
    /// The number of the turn.
    turn: u8,
    pub deliveries: usize,
    /// Whether members that were live lag now, and wait for a turn.
    pub lagging: bool,
    /// Whether the room has something left for the next turn.
    pub more: bool,
}

impl FannedOut {
    pub fn lag(&mut self, member: &mut Member) {
        member.lag(self.turn);
        self.lagging = true;
    }
}

impl Room {
    /// Fans out what the turn with this number brought: messages and signals, then presence, then rosters. Visits at
    /// most as many members as there is `work`; where those are not all, the next call goes on with the others.
    pub fn fan_out(
        &mut self,
        now: Millis,
        limits: &HubLimits,
        sessions: &Sessions,
        (turn, work): (u8, usize),
        clients: &mut impl Clients,
    ) -> FannedOut {
        let mut done = FannedOut { turn, ..FannedOut::default() };
        let (round, is_new) = match self.agenda.take_round() {
            Some(round) => (round, false),
            None => {
                let items = self.agenda.take_live(limits.batch_bytes);
                (Round { items, told: 0, deliveries: 0 }, true)
            }
        };
        let upto = self.members.len().min(round.told.saturating_add(work));
        self.fan_out_live(&round.items, round.told..upto, &mut done, clients);
        let before = round.deliveries;
        if upto < self.members.len() && !round.items.is_empty() {
            if is_new {
                round.items.iter().cloned().for_each(|live| self.keep_live(live, limits.tail_bytes));
            }
            self.agenda.suspend(Round { told: upto, deliveries: before + done.deliveries, ..round });
            done.more = true;
            return done;
        }
        if is_new {
            round.items.into_iter().for_each(|live| self.keep_live(live, limits.tail_bytes));
        }
        // The limit may have been lowered since pages were read.
        self.trim(limits.tail_bytes);
        done.more = !self.agenda.live().is_empty();
        if self.agenda.take_missing() {
            for member in &mut self.members {
                if member.is_live() && member.cursor().is_some_and(|cursor| cursor < self.log.head) {
                    done.lag(member);
                }
            }
        }
        self.announce_presence(now, limits, &mut done, clients);
        self.send_rosters(limits, sessions, work, &mut done, clients);
        let all = (before + done.deliveries) as u64;
        let rest = all.saturating_mul(1000) / (limits.room_delivery_rate as u64).max(1);
        self.agenda.rest(now, if rest < MIN_REST { 0 } else { rest });
        done
    }

    fn keep_live(&mut self, live: Live, tail_bytes: usize) {
        if let Live::Message(message) = live {
            self.keep(message, tail_bytes);
        }
    }

    fn fan_out_live(&mut self, live: &[Live], seats: Range<usize>, done: &mut FannedOut, clients: &mut impl Clients) {
        let Some(members) = self.members.get_mut(seats) else { return };
        if live.is_empty() || !members.iter().any(Member::is_live) {
            return;
        }
        let frames = clients.encode(&self.id, &self.log.incarnation.epoch, Broadcast::Live(live));
        let seqs = || live.iter().filter_map(|l| if let Live::Message(m) = l { Some(m.seq) } else { None });
        let ends = seqs().next().zip(seqs().next_back());
        let is_whole = ends.is_none_or(|(first, last)| last.0 - first.0 + 1 == seqs().count() as u64);
        let has_signals = live.iter().any(|l| matches!(l, Live::Signal { .. }));
        for member in members {
            let State::Live { cursor, .. } = &mut member.state else { continue };
            done.deliveries += 1;
            let in_step = is_whole && ends.is_none_or(|(first, _)| cursor.next() == first);
            let own_signals = has_signals && live.iter().any(|l| is_own_signal(l, member.member));
            if !in_step || own_signals {
                if deliver_piecewise((member.member, member.client), cursor, live, &frames, clients) == Delivery::Full {
                    done.lag(member);
                }
                continue;
            }
            match (clients.deliver(member.client, &frames, 0..live.len()), ends) {
                (Delivery::Taken, Some((_, last))) => *cursor = last,
                (Delivery::Full, Some(_)) => done.lag(member),
                // Signals alone may be dropped for a slow member; a message may not.
                (_, None) => {}
            }
        }
    }
}

fn is_own_signal(live: &Live, member: MemberId) -> bool {
    matches!(live, Live::Signal { from, .. } if from.member == Some(member))
}

/// Delivers to a member that must not get everything of this turn: its own signals, or messages that a page brought
/// already. Queues run by run, and moves the cursor with each. Returns `Full` if a message was not taken, or one before
/// it is missing.
fn deliver_piecewise<C: Clients>(
    (member, client): (MemberId, ConnId),
    position: &mut Seq,
    live: &[Live],
    frames: &C::Frames<'_>,
    clients: &mut C,
) -> Delivery {
    let wants = |cursor: Seq, item: &Live| match item {
        Live::Signal { .. } => !is_own_signal(item, member),
        Live::Message(message) => message.seq == cursor.next(),
    };
    let mut from = 0;
    while let Some(first) = live.get(from) {
        if !wants(*position, first) {
            // The log has the messages that are missing before this one.
            if matches!(first, Live::Message(message) if message.seq > *position) {
                return Delivery::Full;
            }
            from += 1;
            continue;
        }
        let (mut end, mut last) = (from, *position);
        while let Some(item) = live.get(end).filter(|item| wants(last, item)) {
            if let Live::Message(message) = item {
                last = message.seq;
            }
            end += 1;
        }
        match clients.deliver(client, frames, from..end) {
            Delivery::Taken => *position = last,
            Delivery::Full if last > *position => return Delivery::Full,
            Delivery::Full => {}
        }
        from = end;
    }
    Delivery::Taken
}
