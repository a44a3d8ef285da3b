//! What a message takes beside its body, on the wire and in memory: the one home of these figures.

use super::{Author, Body, Message};

/// Most bytes that racerd's own JSON adds to a message's body: type, room (64), member, name (32 characters of up to 12
/// bytes where JSON escapes them), numbers, and the frame's header.
pub const MAX_ENVELOPE: usize = 1024;

/// Usual bytes on the wire beside body and name, for room ids of up to some 30 characters.
const ENVELOPE: usize = 140;

/// Usual bytes in memory beside body and name: the message itself, and the allocator's share.
pub const IN_MEMORY: usize = 120;

/// Returns about how many bytes a message or signal takes on the wire, to bound a page or a turn and to size a buffer.
pub fn on_wire(author: &Author, body: &Body) -> usize {
    body.len() + author.name.as_str().len() + ENVELOPE
}

/// Returns about how many bytes a message takes in memory.
pub fn in_memory(message: &Message) -> usize {
    message.body.len() + message.author.name.as_str().len() + IN_MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::size_of;

    #[test]
    fn a_message_in_memory_is_counted_whole() {
        // Three allocations of shared bytes: room, name and body, each with two counters, rounded up to 16.
        assert!(size_of::<Message>() <= IN_MEMORY, "{} bytes", size_of::<Message>());
    }
}
