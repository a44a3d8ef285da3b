//! Whose sessions are being claimed at the store, and whether anything became of them meanwhile: an answer that was
//! given before a session was taken over or ended must not bring it back.

use std::collections::HashMap;

use crate::types::SessionId;

#[derive(Debug, Default)]
pub struct Claims {
    sessions: HashMap<SessionId, Claimed>,
}

#[derive(Debug, Default)]
struct Claimed {
    clients: u32,
    changes: u32,
}

impl Claims {
    /// Notes that one more client claims the session. Returns what to compare [`Claims::end`] with.
    pub fn begin(&mut self, session: SessionId) -> u32 {
        let claimed = self.sessions.entry(session).or_default();
        claimed.clients += 1;
        claimed.changes
    }

    /// Notes that the session was taken over, or has ended.
    pub fn change(&mut self, session: SessionId) {
        if let Some(claimed) = self.sessions.get_mut(&session) {
            claimed.changes = claimed.changes.wrapping_add(1);
        }
    }

    /// Notes that a client claims the session no longer. Returns the present count of changes.
    pub fn end(&mut self, session: SessionId) -> u32 {
        let Some(claimed) = self.sessions.get_mut(&session) else { return 0 };
        let changes = claimed.changes;
        claimed.clients -= 1;
        if claimed.clients == 0 {
            self.sessions.remove(&session);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_those_who_had_claimed_before_and_by_no_other() {
        let (a, b) = (SessionId([1; 16]), SessionId([2; 16]));
        let mut claims = Claims::default();
        claims.change(a);
        let first = claims.begin(a);
        let other = claims.begin(b);
        claims.change(a);
        let second = claims.begin(a);
        assert_eq!((claims.end(a) != first, claims.end(a) != second, claims.end(b) != other), (true, false, false));
        assert!(claims.sessions.is_empty(), "nothing is kept of whom nobody claims");
    }
}
