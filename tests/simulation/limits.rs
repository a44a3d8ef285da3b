//! The server's limits in a run: small enough that each is reached, and consistent with the relations that the settings
//! require.

use racerd::chat::ChatLimits;
use racerd::conn::{ConnLimits, Rate};
use racerd::engine::{Admission, Budget};
use racerd::http::limits::HeadLimits;
use racerd::hub::HubLimits;
use racerd::protocol::server::Limits as WelcomeLimits;
use racerd::testing::Random;
use racerd::types::Durability;
use racerd::ws;

use super::making::MakingRates;

/// The most bytes that racerd's own JSON adds to a body, as its settings count them.
pub const ENVELOPE: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub durability: Durability,
    pub max_message: usize,
    pub page_bytes: usize,
    pub page_messages: u32,
    pub queue_bytes: usize,
    pub reply_bytes: usize,
    pub append_bytes: usize,
    pub read_budget: usize,
    pub in_flight: u16,
    pub rooms_per_session: usize,
    pub presence_max: usize,
    pub reads_in_flight: usize,
    /// Per room, and in total; 0 for none.
    pub tail_bytes: usize,
    pub tail_bytes_total: usize,
    pub delivery_budget: usize,
    pub room_delivery_rate: usize,
    /// Reads, or writes, that a part of a turn has time for.
    pub part: usize,
    pub detached_max: usize,
    pub parked_max: usize,
    /// Bytes of messages that the log keeps, per room and in total.
    pub room_bytes: usize,
    pub total_bytes: usize,
    /// Milliseconds.
    pub resume_within: u64,
    pub write_wait: u64,
    pub ping_period: u64,
    pub pong_wait: u64,
    pub drain_timeout: u64,
    /// Seconds.
    pub park_for: u64,
    /// Per second; 0 for no limit.
    pub request_rate: u32,
    /// Per minute.
    pub error_budget: u32,
    pub handshake_rate: u32,
    pub connections_per_address: u32,
    /// Requests per second of one address; 0 for no limit. Drawn apart, as are the next ones; a reload leaves them.
    pub address_rate: u32,
    /// Handshakes per second of all; 0 for no limit.
    pub handshakes: u32,
    pub making: MakingRates,
    pub memory: Budget,
}

/// Draws a memory budget: none in most runs, else one that queues and buffers fill, and in which everybody's connection
/// and so many bytes of messages find room.
fn draw_budget(random: &mut Random, kept: usize) -> Budget {
    if random.below(4) > 0 {
        return Budget::UNLIMITED;
    }
    let budget = Budget {
        own: 300_000 + 2 * kept as u64 + random.magnitude((1, 1_000_000)),
        kernel: random.magnitude((100_000, 2_000_000)),
        idle: 700,
        secure: 4096,
        socket: 500,
        unsent: random.magnitude((1000, 40_000)) as u32,
        unread: random.magnitude((1000, 40_000)) as u32,
    };
    // Room for most clients that come back at once and read slowly: with less, they may be closed for ever.
    Budget { kernel: budget.kernel.max(16 * u64::from(budget.unsent)), ..budget }
}

impl Limits {
    pub fn draw(random: &mut Random) -> Limits {
        let magnitude =
            |random: &mut Random, first: usize, last: usize| random.magnitude((first as u64, last as u64)) as usize;
        // A return with a token and its cursors has to fit into one message.
        let max_message = magnitude(random, 768, 4096);
        let page_bytes = magnitude(random, 1024, 16_384);
        let least = max_message.max(page_bytes) + ENVELOPE;
        let ping_period = random.within((2000, 30_000));
        let is_kept = random.coin();
        let room_bytes = if is_kept { usize::MAX } else { magnitude(random, 1024, 32_768) };
        let total_bytes = if is_kept || random.coin() { usize::MAX } else { room_bytes * 2 };
        let tail_bytes = if random.below(4) == 0 { 0 } else { magnitude(random, 512, 65_536) };
        Limits {
            durability: *random.pick(&[Durability::Full, Durability::Full, Durability::Normal, Durability::Memory]),
            max_message,
            page_bytes,
            page_messages: magnitude(random, 1, 200) as u32,
            queue_bytes: least + magnitude(random, 1, 65_536),
            reply_bytes: least + magnitude(random, 1, 32_768),
            append_bytes: max_message + ENVELOPE + magnitude(random, 1, 65_536),
            read_budget: magnitude(random, 1024, 65_536),
            in_flight: magnitude(random, 1, 32) as u16,
            rooms_per_session: magnitude(random, 1, 16),
            presence_max: magnitude(random, 1, 128) - 1,
            reads_in_flight: magnitude(random, 1, 8),
            tail_bytes,
            tail_bytes_total: tail_bytes.saturating_mul(2),
            delivery_budget: magnitude(random, 1, 1000),
            room_delivery_rate: magnitude(random, 100, 1_000_000),
            detached_max: magnitude(random, 1, 128) - 1,
            parked_max: magnitude(random, 1, 1024),
            room_bytes,
            total_bytes,
            resume_within: if random.below(8) == 0 { 0 } else { random.magnitude((500, 30_000)) },
            write_wait: random.within((1000, 10_000)),
            ping_period,
            pong_wait: (ping_period * 10).div_ceil(9) + random.within((0, 30_000)),
            drain_timeout: random.within((500, 10_000)),
            park_for: random.magnitude((10, 604_800)),
            request_rate: if random.coin() { 0 } else { random.within((5, 50)) as u32 },
            error_budget: if random.coin() { 0 } else { random.within((5, 40)) as u32 },
            handshake_rate: if random.below(4) > 0 { 0 } else { random.within((1, 20)) as u32 },
            connections_per_address: if random.below(4) > 0 { 0 } else { random.within((2, 4)) as u32 },
            part: magnitude(random, 1, 1000),
            address_rate: 0,
            handshakes: 0,
            making: MakingRates::default(),
            memory: draw_budget(random, 2 * tail_bytes),
        }
    }

    /// Returns the sustained interval between two requests and between two faulty ones, in microseconds; 0 for no
    /// limit.
    pub fn request_interval(&self) -> u64 {
        if self.request_rate == 0 { 0 } else { 1_000_000 / u64::from(self.request_rate) }
    }

    /// Returns the same for the requests of one address.
    pub fn address_interval(&self) -> u64 {
        if self.address_rate == 0 { 0 } else { 1_000_000 / u64::from(self.address_rate) }
    }

    pub fn error_interval(&self) -> u64 {
        if self.error_budget == 0 { 0 } else { 60_000_000 / u64::from(self.error_budget) }
    }

    /// Returns the number of requests that may come in one burst.
    pub fn burst(&self) -> u32 {
        self.request_rate.saturating_mul(5)
    }

    /// Returns the most bytes that one turn of a room may produce: two turns fit into a queue.
    pub fn batch_bytes(&self) -> usize {
        self.queue_bytes / 2
    }

    pub fn conn(&self) -> ConnLimits {
        ConnLimits {
            head: HeadLimits { max_body: self.max_message, ..HeadLimits::default() },
            ws: ws::Limits { max_message: self.max_message, max_fragments: 16, binary: false },
            queue_bytes: self.queue_bytes,
            reply_bytes: self.reply_bytes,
            in_flight: self.in_flight,
            requests: Rate::new(self.request_rate, 1000, self.burst()),
            controls: Rate::new(self.request_rate, 1000, self.burst()),
            header_timeout: 10_000,
            keep_alive: 20_000,
            write_wait: self.write_wait,
            pong_wait: self.pong_wait,
            ping_period: self.ping_period,
        }
    }

    pub fn hub(&self) -> HubLimits {
        HubLimits {
            rooms_per_session: self.rooms_per_session,
            presence_max: self.presence_max,
            page_bytes: self.page_bytes,
            page_messages: self.page_messages,
            reads_in_flight: self.reads_in_flight,
            tail_bytes: self.tail_bytes,
            tail_bytes_total: self.tail_bytes_total,
            delivery_budget: self.delivery_budget,
            room_delivery_rate: self.room_delivery_rate,
            batch_bytes: self.batch_bytes(),
            resume_within: self.resume_within,
            detached_max: self.detached_max,
            renew_use: racerd::store::use_recorded_after(self.park_for) * 500,
        }
    }

    pub fn chat(&self) -> ChatLimits {
        ChatLimits {
            auth_wait: 10_000,
            append_bytes: self.append_bytes,
            body_depth: 8,
            encrypted_rooms: Default::default(),
            requests: Rate::new(self.request_rate, 1000, self.burst()),
            errors: Rate::new(self.error_budget, 60_000, self.error_budget),
            rooms: self.making.rates(),
            welcome: WelcomeLimits {
                max_message_size: self.max_message,
                in_flight: usize::from(self.in_flight),
                rooms_per_session: self.rooms_per_session,
                page_bytes: self.page_bytes,
                request_rate: self.request_rate,
                ping_period: self.ping_period,
                durability: self.durability,
            },
            resume_within: self.resume_within,
            park_for: self.park_for,
        }
    }

    pub fn admission(&self) -> Admission {
        let rate = Rate::new(self.handshake_rate, 1000, self.handshake_rate.max(1) * 2);
        let all = Rate::new(self.handshakes, 1000, self.handshakes.max(1) * 2);
        Admission::new(self.connections_per_address, rate, all).rating(Rate::new(
            self.address_rate,
            1000,
            self.address_rate * 5,
        ))
    }
}
