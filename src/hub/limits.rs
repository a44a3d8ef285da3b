//! The bounds that the hub keeps.

/// What the hub keeps within (docs/settings.md, "Limits").
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    pub rooms_per_session: usize,
    /// A room of more members sends only counts.
    pub presence_max: usize,
    /// A page of history or members is cut here, in bytes.
    pub page_bytes: usize,
    /// Messages of a page.
    pub page_messages: u32,
    pub reads_in_flight: usize,
    /// Bytes of messages that a room keeps in memory, beside what the store has: the newest, and as many that were read
    /// from the log lately ...
    pub tail_bytes: usize,
    /// ... and that all rooms keep together.
    pub tail_bytes_total: usize,
    /// Deliveries of one turn; the rest waits for the next.
    pub delivery_budget: usize,
    /// Bytes of what one room says in one turn; the rest waits for the next, behind a flush. So a large commit makes
    /// nobody lag who could keep up.
    pub batch_bytes: usize,
    /// Milliseconds that a dropped client is waited for; 0: not at all.
    pub resume_within: u64,
    /// Sessions waited for at the same time; past it, the one that waits longest is parked.
    pub detached_max: usize,
}
