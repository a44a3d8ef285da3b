//! Settings: the limits. Everything that could grow has one.

use super::setting::{Kind, settings};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

settings! {
    /// The bounds. Everything that could grow has one of these.
    Limits in limits {
        /// Memory that racerd may take; the kernel may take as much again for the sockets. As it runs short, queues get
        /// shorter, then who holds most of it is closed, then new connections are answered 503. 0: half of the limit of
        /// the control group (MemoryMax=), else a quarter of the machine's.
        memory: u64 = "0", Kind::Size { min: 0, max: 64 * TIB }, live true;
        /// Longest message that a client may send, in bytes, over a socket or by POST.
        max_message_size: usize = "32KiB", Kind::Size { min: 128, max: 64 * MIB }, live true;
        /// Most fragments that a message may come in. Honest clients use a handful; empty ones cost and carry nothing.
        max_fragments: u32 = "1024", Kind::Count { min: 1, max: 16_777_216 }, live true;
        /// Longest head of an HTTP request: its first line and headers.
        max_head_size: usize = "16KiB", Kind::Size { min: 1024, max: MIB }, live true;
        /// Deepest nesting of a message's JSON body.
        body_depth: u32 = "64", Kind::Count { min: 1, max: 120 }, live true;
        /// Bytes of room messages that may wait for a connection; past it, the member is read to from the log.
        queue_bytes: usize = "256KiB", Kind::Size { min: 2048, max: GIB }, live true;
        /// Bytes of replies that may wait for a connection, beside queue-bytes; past it, it is not read from.
        reply_bytes: usize = "64KiB", Kind::Size { min: 2048, max: GIB }, live true;
        /// Sends that a connection may have open. No more than 64, since a sender's last 64 keys are kept.
        in_flight: u32 = "32", Kind::Count { min: 1, max: 64 }, live true;
        /// Bytes of sends that may wait for the store in all. Addresses (IPv6: each /64; of a /56 no more than 4, of a
        /// /48 16) share them; a connection whose address is over its share waits, and no other.
        append_bytes: usize = "2MiB", Kind::Size { min: 4096, max: GIB }, live true;
        /// Rooms that one session may be in.
        rooms_per_session: u32 = "64", Kind::Count { min: 1, max: 10_000 }, live true;
        /// Sessions whose clients dropped and are waited for; past it, the one that waits longest is parked.
        detached_max: usize = "10000", Kind::Count { min: 0, max: 10_000_000 }, live true;
        /// Messages of a room that are kept in memory, in bytes: the newest, and as many again that were read from the
        /// log lately. With --durability memory there are no others.
        tail_bytes: usize = "256KiB", Kind::Size { min: 0, max: GIB }, live true;
        /// The same for all rooms together.
        tail_bytes_total: usize = "16MiB", Kind::Size { min: 0, max: 64 * GIB }, live true;
        /// Connections in all; all that further ones ask but health is answered 503. HTTP connections that are idle for
        /// a second give way. Of 64 or more, a sixteenth is kept for clients that show a session token (at most 64). 0:
        /// as many as the limit of open files (NOFILE) allows.
        max_connections: u32 = "0", Kind::Count { min: 0, max: 1_000_000 }, live true;
        /// Connections from one address (IPv6: one /64; here and in the rates per address a /56 has 4 shares of that, a
        /// /48 has 16); loopback and trusted proxies are left out. 0: no limit. Where at most a quarter of
        /// max-connections is free, no address (and no /48) has more than a quarter of them.
        max_connections_per_address: u32 = "256", Kind::Count { min: 0, max: 1_000_000 }, live true;
        /// Largest room that tells who joins and leaves; larger ones tell counts only.
        presence_max: u32 = "100", Kind::Count { min: 0, max: 100_000 }, live true;
        /// Size at which a page of history or members is cut.
        page_bytes: usize = "60000", Kind::Size { min: 1024, max: 16 * MIB }, live true;
        /// Bytes read from one connection in one turn of the loop.
        read_budget: usize = "64KiB", Kind::Size { min: 1024, max: 64 * MIB }, live true;
        /// Messages queued to members in one turn of the loop; the rest waits for the next.
        delivery_budget: u32 = "50000", Kind::Count { min: 1, max: 100_000_000 }, live true;
        /// Messages queued to the members of one room in a second, about. A large room rests after each delivery, and
        /// then brings all that was said meanwhile at once: one with 9000 members after 90 ms.
        room_delivery_rate: u32 = "100000", Kind::Count { min: 1000, max: 100_000_000 }, live true;
        /// Reads of the log under way at the same time.
        reads_in_flight: u32 = "8", Kind::Count { min: 1, max: 1024 }, live true;
        /// Requests of any kind of one connection; by HTTP through a trusted proxy, of one client. Past it a socket
        /// hears rate_limited, a client of a proxy 429, and an HTTP connection waits.
        request_rate: u32 = "30", Kind::Rate { per: "s", max: 1_000_000 }, live true;
        /// Requests that may come at once before request-rate counts.
        request_burst: u32 = "100", Kind::Count { min: 1, max: 1_000_000 }, live true;
        /// Requests of one address (IPv6: one /64) over all of its connections, loopback and trusted proxies left out.
        /// Past it they wait, each for its turn. Four times as many at once. 0: no limit.
        request_rate_per_address: u32 = "500", Kind::Rate { per: "s", max: 1_000_000 }, live true;
        /// Pings and pongs of one connection; past it, the connection waits. Ten times as many at once. 0: no limit.
        control_rate: u32 = "10", Kind::Rate { per: "s", max: 1_000_000 }, live true;
        /// Rooms that one address (IPv6: one /64) makes by their first messages, loopback and trusted proxies left out.
        /// Past it, rate_limited or 429 to first messages only. Twenty times as many at once. 0: no limit.
        room_rate_per_address: u32 = "5", Kind::Rate { per: "s", max: 1_000_000 }, live true;
        /// Rooms that all together make. Past it, as past room-rate-per-address. Ten times as many at once. 0: no
        /// limit.
        room_rate: u32 = "1000", Kind::Rate { per: "s", max: 1_000_000 }, live true;
        /// Faulty requests of one connection, before it is closed.
        error_budget: u32 = "20", Kind::Rate { per: "min", max: 1_000_000 }, live true;
        /// WebSockets and event streams opened from one address (IPv6: one /64), loopback and trusted proxies left out;
        /// past it: 429. Twice as many at once. Past four times as many TLS connections, new ones wait for their turns.
        handshake_rate_per_address: u32 = "20", Kind::Rate { per: "s", max: 1_000_000 }, live true;
        /// WebSockets and event streams opened in all. Twice as many at once, a quarter of them only for clients that
        /// show a session token. Past it they wait, at most 4 of an address (429) and for 2 seconds (503): addresses
        /// take turns, and clients with a token go first.
        handshake_rate: u32 = "1000", Kind::Rate { per: "s", max: 1_000_000 }, live true;
    }
}
