//! The limits of the engine in a simulated world.

use crate::access::Doors;
use crate::api::HostRules;
use crate::chat::{self, Chat, ChatLimits, RoomRates, Secrets};
use crate::conn::{ConnLimits, Rate};
use crate::engine::{self, Admission, Budget, Connections, Engine};
use crate::http::limits::HeadLimits;
use crate::hub::HubLimits;
use crate::protocol::server::Limits as WelcomeLimits;
use crate::testing::nonces;
use crate::types::{Durability, Epoch};

/// Sizes of everything that is bounded.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub max_message: usize,
    pub queue_bytes: usize,
    pub reply_bytes: usize,
    pub page_bytes: usize,
    pub page_messages: u32,
    pub append_bytes: usize,
    pub in_flight: u16,
    pub rooms: usize,
    pub presence_max: usize,
    pub reads_in_flight: usize,
    pub delivery_budget: usize,
    pub room_delivery_rate: usize,
    pub requests: (u32, u32),
    pub errors: u32,
    pub per_address: u32,
    pub log_room: usize,
}

impl Sizes {
    /// Room for a conversation of some length.
    pub const USUAL: Sizes = Sizes {
        max_message: 4096,
        queue_bytes: 8192,
        reply_bytes: 8192,
        page_bytes: 2048,
        page_messages: 20,
        append_bytes: 3000,
        in_flight: 4,
        rooms: 3,
        presence_max: 4,
        reads_in_flight: 2,
        delivery_budget: 20,
        room_delivery_rate: usize::MAX,
        requests: (50, 100),
        errors: 20,
        per_address: 0,
        log_room: 4096,
    };

    /// As small as the settings allow and smaller, so that few steps reach every bound.
    pub const TIGHT: Sizes = Sizes {
        max_message: 256,
        queue_bytes: 1300,
        reply_bytes: 1600,
        page_bytes: 500,
        page_messages: 4,
        append_bytes: 300,
        in_flight: 2,
        rooms: 2,
        presence_max: 2,
        reads_in_flight: 1,
        delivery_budget: 3,
        room_delivery_rate: 300,
        requests: (5, 12),
        errors: 3,
        per_address: 2,
        log_room: 1500,
    };

    pub fn engine(self) -> Engine<Chat> {
        let limits = self.limits();
        let secrets = Secrets { token_key: [1; 32], nonces: nonces(2), seed: 7, running: 0 };
        let net = Connections::new(limits.connections, limits.admission);
        Engine::new(net, Chat::new(limits.app, Epoch("e".into()), secrets), limits.drain_timeout)
    }

    /// Returns the limits for these sizes.
    pub fn limits(self) -> engine::Limits<chat::Limits> {
        let app =
            chat::Limits { hub: self.hub(), chat: self.chat(), hosts: HostRules::default(), doors: Doors::open() };
        engine::Limits {
            connections: self.connections(),
            admission: self.admission(),
            memory: Budget::UNLIMITED,
            drain_timeout: 10_000,
            app,
        }
    }

    fn hub(self) -> HubLimits {
        HubLimits {
            rooms_per_session: self.rooms,
            presence_max: self.presence_max,
            page_bytes: self.page_bytes,
            page_messages: self.page_messages,
            reads_in_flight: self.reads_in_flight,
            delivery_budget: self.delivery_budget,
            room_delivery_rate: self.room_delivery_rate,
            batch_bytes: self.queue_bytes / 2,
            tail_bytes: self.log_room / 2,
            tail_bytes_total: 2 * self.log_room,
            resume_within: 30_000,
            detached_max: 100,
            renew_use: 0,
        }
    }

    fn chat(self) -> ChatLimits {
        let welcome = WelcomeLimits {
            max_message_size: self.max_message,
            in_flight: usize::from(self.in_flight),
            rooms_per_session: self.rooms,
            page_bytes: self.page_bytes,
            request_rate: self.requests.0,
            ping_period: 25_000,
            durability: Durability::Memory,
        };
        ChatLimits {
            auth_wait: 10_000,
            append_bytes: self.append_bytes,
            body_depth: 8,
            encrypted_rooms: Default::default(),
            requests: Rate::new(self.requests.0, 1000, self.requests.1),
            errors: Rate::new(self.errors, 60_000, self.errors),
            rooms: RoomRates { own: Rate::new(0, 1, 1), all: Rate::new(0, 1, 1) },
            welcome,
            resume_within: 30_000,
            park_for: 604_800,
        }
    }

    fn admission(self) -> Admission {
        let no_rate = Rate::new(0, 1, 1);
        Admission::new(self.per_address, no_rate, no_rate)
    }

    fn connections(self) -> ConnLimits {
        ConnLimits {
            head: HeadLimits { max_body: self.max_message, ..HeadLimits::default() },
            ws: crate::ws::Limits { max_message: self.max_message, max_fragments: 16, binary: false },
            queue_bytes: self.queue_bytes,
            reply_bytes: self.reply_bytes,
            in_flight: self.in_flight,
            requests: Rate::new(0, 1, 1),
            controls: Rate::new(0, 1, 1),
            header_timeout: 10_000,
            keep_alive: 75_000,
            write_wait: 10_000,
            pong_wait: 60_000,
            ping_period: 25_000,
        }
    }

    /// Returns the most bytes that one connection's queue may hold: its share, and one reply that exceeded it.
    pub fn most_queued(self) -> usize {
        self.queue_bytes + self.reply_bytes + self.page_bytes + 2048
    }
}
