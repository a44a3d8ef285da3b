//! What the log knows of a session's tokens, and which of them bring the session back.

use super::Ticket;
use super::holders::Holder;
use crate::types::SessionId;

/// How far a token may be ahead of the highest generation that is known to have been presented: one that was issued
/// and never presented, after as many returns whose records a crash has lost. They are lost only while nothing can be
/// written.
const AHEAD: u32 = 1 + 64;

/// The highest generation of a token where nothing is known of its session: more than anybody's returns are, and far
/// from the last number there is.
const FIRST_AHEAD: u32 = 1 << 20;

/// Maximum number of sessions of which it is known.
pub const STANDINGS: usize = 16_000;

/// What is known of the tokens of a session that was in a room. What is later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The highest generation that was presented.
    Presented(u32),
    /// Its client has ended it.
    Ended,
}

/// Why a token does not bring its session back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// A later generation was presented.
    Earlier,
    /// The session has ended.
    Ended,
    /// No server has issued it: its generation is further ahead than any can be.
    Forged,
}

/// Decides whether a token of this generation brings its session back, by what is known of the session.
///
/// # Errors
/// The reason why it does not.
pub fn admit(known: Option<Standing>, generation: u32) -> Result<(), Barred> {
    let most = match known {
        Some(Standing::Ended) => return Err(Barred::Ended),
        Some(Standing::Presented(known)) if generation < known => return Err(Barred::Earlier),
        Some(Standing::Presented(known)) => known.saturating_add(AHEAD),
        None => FIRST_AHEAD,
    };
    if generation <= most { Ok(()) } else { Err(Barred::Forged) }
}

/// Records what became of a session that was in a room. Never undone by an earlier standing that comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub session: SessionId,
    pub standing: Standing,
    /// The network that pays for the record. It is never stored.
    pub holder: Holder,
    /// Who waits for the answer, if somebody does.
    pub asker: Option<Ticket>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_generations_bring_a_session_back_and_no_other() {
        let known = Some(Standing::Presented(5));
        assert_eq!(admit(known, 4), Err(Barred::Earlier));
        assert_eq!((admit(known, 5), admit(known, 6)), (Ok(()), Ok(())));
        for generation in [0, 5, 6, u32::MAX] {
            assert_eq!(admit(Some(Standing::Ended), generation), Err(Barred::Ended));
        }
    }

    /// The attack: a token under a stolen key, whose generation nobody's next one can reach.
    #[test]
    fn no_token_leaps_ahead() {
        for known in [0, 5, 1 << 20, u32::MAX - 10] {
            let admits = |generation| admit(Some(Standing::Presented(known)), generation);
            assert_eq!(admits(known.saturating_add(65)), Ok(()), "{known}: records of returns may be lost");
            assert_eq!(known.checked_add(66).map_or(Err(Barred::Forged), admits), Err(Barred::Forged), "{known}");
        }
        assert_eq!((admit(None, 0), admit(None, 1 << 20)), (Ok(()), Ok(())));
        assert_eq!((admit(None, (1 << 20) + 1), admit(None, u32::MAX)), (Err(Barred::Forged), Err(Barred::Forged)));
    }

    #[test]
    fn an_end_is_later_than_any_return() {
        assert!(Standing::Presented(4) < Standing::Presented(5) && Standing::Presented(u32::MAX) < Standing::Ended);
    }
}
