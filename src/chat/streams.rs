//! Event streams: a session that only listens, from the request to its last words. Everything between goes the way of
//! every member, by the hub and the outbox.

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use crate::api::events;
use crate::engine::Connections;
use crate::http::event_stream;
use crate::http::method::Method;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::hub::Presence;
use crate::types::{ConnId, RoomId};

/// A client whose stream broke comes again after so many milliseconds, and up to as many more: it is told a number of
/// its own, so that many do not come at the same moment.
const RETRY: u64 = 1000;

impl Chat {
    /// Answers with a room's stream, from where the request says. By HEAD, with its head alone.
    pub(super) fn open_events(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        request: &Request,
        room: RoomId,
    ) -> Result<(), Problem> {
        if self.is_stopping {
            return Err(Problem::stopping().closing());
        }
        let start = events::opening(request)?;
        if request.method == Method::Head {
            net.respond(conn, events::head(), true);
            return Ok(());
        }
        net.admit_handshake(conn, true)?;
        // Nobody is told who it is, and nobody can come back as it: the cursor is all that it needs.
        let identity = self.new_identity(None, false);
        let session = self.hub.handle_follower(identity, conn);
        let early = self.random.next() as u8;
        net.begin_events(conn, events::head(), session, early);
        let retry = RETRY + self.random.next() % RETRY;
        net.push_own(conn, |_, out| events::begin(out, retry));
        let mut outbox = Outbox::new(net, &self.epoch, &self.limits, outage(self.unavailable));
        let joined = self.hub.handle_join(session, None, room, start, Presence::Off, &mut outbox);
        debug_assert!(joined.is_ok(), "a new session is in no room");
        Ok(())
    }
}

/// Sets when a client whose stream ends with the next event comes again (milliseconds).
pub fn retry_after(net: &mut Connections, conn: ConnId, milliseconds: u64) {
    net.push_own(conn, |_, out| event_stream::retry(out, milliseconds));
}
