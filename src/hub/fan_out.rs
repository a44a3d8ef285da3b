//! The end of a turn in one room: the turn's messages are encoded once, and queued once to each member whose cursor is
//! directly before them. A member that cannot take them, or has another cursor, lags.

use super::clients::{Clients, Delivery, Live};
use super::member::{Member, State};
use super::room::Room;
use super::session::Sessions;
use super::{Broadcast, HubLimits};
use crate::types::{ConnId, MemberId, Millis, Seq, SessionSlot};

/// The result of fanning out one room.
#[derive(Default)]
pub struct FannedOut {
    pub deliveries: usize,
    /// Members that were live and lag now.
    pub lagging: Vec<SessionSlot>,
    /// Whether the room has items left for the next turn.
    pub more: bool,
}

impl FannedOut {
    pub fn lag(&mut self, member: &mut Member) {
        member.lag();
        self.lagging.push(member.session);
    }
}

impl Room {
    /// Fans out what this turn brought: messages and signals, then presence, then rosters.
    pub fn fan_out(
        &mut self,
        now: Millis,
        limits: &HubLimits,
        sessions: &Sessions,
        clients: &mut impl Clients,
    ) -> FannedOut {
        let mut done = FannedOut::default();
        let later = self.agenda.split_live(fitting(self.agenda.live(), limits.batch_bytes));
        self.fan_out_live(&mut done, clients);
        for live in self.agenda.take_live(later) {
            if let Live::Message(message) = live {
                self.keep(message, limits.tail_bytes);
            }
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
        self.send_rosters(limits, sessions, &mut done, clients);
        done
    }

    fn fan_out_live(&mut self, done: &mut FannedOut, clients: &mut impl Clients) {
        let live = self.agenda.live();
        if live.is_empty() || !self.members.iter().any(Member::is_live) {
            return;
        }
        let frames = clients.encode(&self.id, &self.log.incarnation.epoch, Broadcast::Live(live));
        let seqs = || live.iter().filter_map(|l| if let Live::Message(m) = l { Some(m.seq) } else { None });
        let ends = seqs().next().zip(seqs().next_back());
        let is_whole = ends.is_none_or(|(first, last)| last.0 - first.0 + 1 == seqs().count() as u64);
        let has_signals = live.iter().any(|l| matches!(l, Live::Signal { .. }));
        for member in &mut self.members {
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

/// Returns how many of these one turn may fan out: at least one.
fn fitting(live: &[Live], batch_bytes: usize) -> usize {
    let mut bytes = 0;
    let within = |item: &&Live| {
        bytes += item.size();
        bytes <= batch_bytes
    };
    live.iter().take_while(within).count().max(1).min(live.len())
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
