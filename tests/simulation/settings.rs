//! Reloads of the server's settings in mid-run. The times at which limits held are recorded, so that a refusal and a
//! close are judged by the limits of that moment. A random source of its own decides whether a run has reloads, so that
//! the rest of a seed's run stays the same without them.

use racerd::config::Settings;
use racerd::testing::Random;

use super::agenda::{Micros, SECOND};
use super::encryption::Encryption;
use super::limits::{ENVELOPE, Limits};

/// One in this many runs has settings that change.
const RUNS: usize = 3;

/// Draws the approximate time between two changes; 0 for never.
pub fn draw_interval(random: &mut Random) -> Micros {
    if random.below(RUNS) > 0 { 0 } else { random.magnitude((SECOND, 60 * SECOND)) }
}

impl Limits {
    /// Draws other limits, as a reload may bring them. Some groups stay the same. So do those that need a restart, and
    /// the longest message: clients would have to give up messages that they have already written.
    pub fn redraw(&self, random: &mut Random) -> Limits {
        let new = Limits::draw(random);
        let mut one = |old: Limits| if random.below(3) == 0 { old } else { new };
        let (sizes, counts, times, rates) = (one(*self), one(*self), one(*self), one(*self));
        let least = self.max_message.max(sizes.page_bytes) + ENVELOPE;
        Limits {
            page_bytes: sizes.page_bytes,
            queue_bytes: sizes.queue_bytes.max(least),
            reply_bytes: sizes.reply_bytes.max(least),
            append_bytes: sizes.append_bytes.max(self.max_message + ENVELOPE),
            read_budget: sizes.read_budget,
            tail_bytes: sizes.tail_bytes,
            tail_bytes_total: sizes.tail_bytes_total,
            in_flight: counts.in_flight,
            rooms_per_session: counts.rooms_per_session,
            presence_max: counts.presence_max,
            reads_in_flight: counts.reads_in_flight,
            delivery_budget: counts.delivery_budget,
            room_delivery_rate: counts.room_delivery_rate,
            detached_max: counts.detached_max,
            parked_max: counts.parked_max,
            resume_within: times.resume_within,
            write_wait: times.write_wait,
            ping_period: times.ping_period,
            pong_wait: times.pong_wait,
            drain_timeout: times.drain_timeout,
            park_for: if random.below(4) == 0 { times.park_for } else { self.park_for },
            request_rate: rates.request_rate,
            error_budget: rates.error_budget,
            handshake_rate: rates.handshake_rate,
            connections_per_address: rates.connections_per_address,
            ..*self
        }
    }

    /// Returns the settings that correspond to these limits.
    pub fn settings(&self, encryption: &Encryption) -> Settings {
        let mut settings = Settings::default();
        let limits = &mut settings.limits;
        limits.max_message_size = self.max_message;
        limits.body_depth = 8;
        limits.queue_bytes = self.queue_bytes;
        limits.reply_bytes = self.reply_bytes;
        limits.in_flight = u32::from(self.in_flight);
        limits.append_bytes = self.append_bytes;
        limits.rooms_per_session = self.rooms_per_session as u32;
        limits.detached_max = self.detached_max;
        limits.tail_bytes = self.tail_bytes;
        limits.tail_bytes_total = self.tail_bytes_total;
        limits.presence_max = self.presence_max as u32;
        limits.page_bytes = self.page_bytes;
        limits.read_budget = self.read_budget;
        limits.delivery_budget = self.delivery_budget as u32;
        limits.room_delivery_rate = self.room_delivery_rate as u32;
        limits.reads_in_flight = self.reads_in_flight as u32;
        (limits.request_rate, limits.request_burst) = (self.request_rate, self.burst());
        limits.error_budget = self.error_budget;
        settings.time.resume_within = self.resume_within;
        settings.time.ping_period = self.ping_period;
        settings.time.drain_timeout = self.drain_timeout;
        settings.storage.durability = self.durability;
        settings.storage.park_for = self.park_for * 1000;
        settings.listening.encrypted_rooms = encryption.only.then(|| "r0".to_owned()).into_iter().collect();
        settings
    }
}

/// The limits that the present server has had, each with the time since when.
#[derive(Default)]
pub struct History(Vec<(Micros, Limits)>);

impl History {
    /// Begins the history of a server that starts now.
    pub fn begin(&mut self, now: Micros, limits: Limits) {
        self.0 = vec![(now, limits)];
    }

    /// Adds limits that hold from now on.
    pub fn change(&mut self, now: Micros, limits: Limits) {
        self.0.push((now, limits));
    }

    /// Returns the limits that hold now.
    pub fn last(&self) -> Option<&Limits> {
        self.0.last().map(|(_, limits)| limits)
    }

    /// Returns the limits that held at some moment from `first` to `last`, both included.
    pub fn between(&self, first: Micros, last: Micros) -> impl Iterator<Item = &Limits> + Clone {
        let ends = self.0.iter().skip(1).map(|(since, _)| *since).chain([Micros::MAX]);
        let spans = self.0.iter().zip(ends);
        spans.filter(move |((since, _), end)| *since <= last && first <= *end).map(|((_, limits), _)| limits)
    }

    /// Returns the limits that held at some moment from `first` on.
    pub fn since(&self, first: Micros) -> impl Iterator<Item = &Limits> + Clone {
        self.between(first, Micros::MAX)
    }

    /// Returns the largest of a value over the limits that held from `first` on.
    pub fn most<T: Ord + Default>(&self, first: Micros, value: impl Fn(&Limits) -> T) -> T {
        self.since(first).map(value).max().unwrap_or_default()
    }

    /// Returns the smallest value, likewise.
    pub fn least<T: Ord + Default>(&self, first: Micros, value: impl Fn(&Limits) -> T) -> T {
        self.since(first).map(value).min().unwrap_or_default()
    }
}
