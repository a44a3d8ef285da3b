//! mio's tokens: each identifies the source of an event. A socket's token carries its slot and a generation, so that an
//! event for a closed socket cannot reach its successor. A token has 32 bits on 32-bit machines: 20 for the slot and 12
//! for the generation there, 32 and 32 elsewhere.

use mio::Token;

const INDEX_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };
const GENERATION_BITS: u32 = usize::BITS - INDEX_BITS;

/// Slots that a token can name; the last few are reserved for other sources than sockets.
pub const MAX_SOCKETS: usize = (1usize << (INDEX_BITS - 1)) + ((1usize << (INDEX_BITS - 1)) - 1 - LISTENERS - 2);
/// Maximum number of listeners.
pub const LISTENERS: usize = crate::config::MAX_LISTENERS;

pub const WAKER: Token = Token(usize::MAX);
pub const SIGNALS: Token = Token(usize::MAX - 1);

pub enum Source {
    Waker,
    Signals,
    Listener(usize),
    Socket { index: usize, generation: u32 },
}

pub fn listener(number: usize) -> Token {
    Token(usize::MAX - 2 - number)
}

/// Returns the token of a socket, with as many low bits of the generation as fit.
pub fn socket(index: usize, generation: u32) -> Token {
    Token(index | (cut(generation) as usize) << INDEX_BITS)
}

/// Truncates a generation to the bits that a token holds.
pub fn cut(generation: u32) -> u32 {
    if GENERATION_BITS >= 32 { generation } else { generation & ((1 << GENERATION_BITS) - 1) }
}

pub fn source(token: Token) -> Source {
    match usize::MAX - token.0 {
        0 => Source::Waker,
        1 => Source::Signals,
        number @ 2.. if number < LISTENERS + 2 => Source::Listener(number - 2),
        _ => Source::Socket {
            index: token.0 & (usize::MAX >> GENERATION_BITS),
            generation: (token.0 >> INDEX_BITS) as u32,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for (index, generation) in [(0, 0), (1, u32::MAX), (MAX_SOCKETS, 7), (MAX_SOCKETS, u32::MAX)] {
            match source(socket(index, generation)) {
                Source::Socket { index: i, generation: g } => assert_eq!((i, g), (index, cut(generation))),
                _ => panic!("{index} {generation} is no socket"),
            }
        }
        assert!(matches!(source(WAKER), Source::Waker));
        assert!(matches!(source(SIGNALS), Source::Signals));
        for number in 0..LISTENERS {
            assert!(matches!(source(listener(number)), Source::Listener(n) if n == number));
        }
    }
}
