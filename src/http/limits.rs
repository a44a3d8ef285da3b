//! Limits on the size of a request.

/// Most header fields of one request.
pub const MAX_FIELDS: usize = 100;

/// Limits on the size of a request.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the request line to the empty line, both included. Past it: 431.
    pub max_head: usize,
    /// Bytes of the request target. Past it: 414.
    pub max_target: usize,
    /// Bytes of the body, as announced. Past it: 413.
    pub max_body: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { max_head: 16 * 1024, max_target: 8 * 1024, max_body: 32 * 1024 }
    }
}
