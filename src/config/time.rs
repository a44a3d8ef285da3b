//! Settings: timeouts and periods. The first three have the names that gorilla/websocket uses.

use super::setting::{Kind, settings};

const DAY: u64 = 86_400_000;

settings! {
    /// How long things may take, in milliseconds.
    Times in time {
        /// A peer that takes nothing of what waits for it for that long is closed. So is one that takes less than 1 KiB
        /// a second of it, a little later.
        write_wait: u64 = "10s", Kind::Duration { min: 10, max: DAY }, live true;
        /// A peer that sends nothing for that long, not even a pong, is closed.
        pong_wait: u64 = "60s", Kind::Duration { min: 10, max: DAY }, live true;
        /// A connection that is silent for that long is pinged. Shorter than the 30 s after which common proxies forget
        /// a silent connection.
        ping_period: u64 = "25s", Kind::Duration { min: 10, max: DAY }, live true;
        /// A request's head must be whole by then, and its body as long after the head.
        header_timeout: u64 = "10s", Kind::Duration { min: 10, max: DAY }, live true;
        /// How long an HTTP connection is kept between two requests.
        keep_alive: u64 = "75s", Kind::Duration { min: 10, max: DAY }, live true;
        /// A client that drops is waited for that long; then its session is parked. 0s: not at all.
        resume_within: u64 = "30s", Kind::Duration { min: 0, max: DAY }, live true;
        /// How long a graceful stop may take.
        drain_timeout: u64 = "10s", Kind::Duration { min: 0, max: DAY }, live true;
    }
}
