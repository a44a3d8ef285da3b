//! The bounds that the hub keeps.

/// The limits of the hub (docs/settings.md, "Limits").
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    pub rooms_per_session: usize,
    /// Members of a room above which it sends only counts.
    pub presence_max: usize,
    /// Maximum bytes of a page of history or members; a page is cut there.
    pub page_bytes: usize,
    /// Maximum messages of a page.
    pub page_messages: u32,
    pub reads_in_flight: usize,
    /// Bytes of messages that a room keeps in memory, in addition to the store: once for the newest, and once for those
    /// recently read from the log.
    pub tail_bytes: usize,
    /// Bytes of messages that all rooms keep in memory together.
    pub tail_bytes_total: usize,
    /// Maximum deliveries of one turn; the rest waits for the next.
    pub delivery_budget: usize,
    /// Deliveries a second in one room, about: a room rests after each fan-out for as long as it needs at this rate.
    pub room_delivery_rate: usize,
    /// Maximum bytes that one room fans out in one turn; the rest waits for the next turn, after a flush. A large
    /// commit therefore does not make a member lag that could keep up.
    pub batch_bytes: usize,
    /// Milliseconds for which a session waits for its dropped client; 0: it ends at once.
    pub resume_within: u64,
    /// Maximum detached sessions; above it, the one that has been detached longest is parked.
    pub detached_max: usize,
    /// Milliseconds after which the store is told again that rooms have members; 0: never.
    pub renew_use: u64,
}
