//! Event streams: how a session that only listens begins and ends. In between, it is a member like any other, served by
//! the hub and the outbox.

use super::Chat;
use super::chat::outage;
use super::outbox::Outbox;
use crate::access::Operation;
use crate::api::{answers, events};
use crate::engine::{Admitted, Connections};
use crate::http::event_stream;
use crate::http::method::Method;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::hub::{Entry, Presence};
use crate::types::{ConnId, RoomId};

/// Milliseconds after which a client whose stream broke reconnects. Each client is told up to as many more, as jitter.
const RETRY: u64 = 1000;

impl Chat {
    /// Answers with a room's event stream, from where the request says; to HEAD, with the response head alone.
    pub(super) fn open_events(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        request: &Request,
        room: RoomId,
    ) -> Result<Admitted, Problem> {
        if self.is_stopping {
            return Err(Problem::stopping().closing());
        }
        let start = events::opening(request)?;
        if request.method == Method::Head {
            self.may(&self.asker(request)?, Operation::Listen, &room).map_err(answers::denied)?;
            net.respond(conn, events::head(), true);
            return Ok(Admitted::Now);
        }
        // It has nothing to show that not everybody could.
        if let later @ Admitted::Later(_) = net.admit_handshake(conn, true, None)? {
            return Ok(later);
        }
        let who = self.asker(request)?;
        self.may(&who, Operation::Listen, &room).map_err(answers::denied)?;
        // A listener has no name and no token: its cursor is all that it needs to reconnect.
        let claim = self.new_session(None, false);
        let session = self.hub.handle_follower(claim, conn);
        self.hub.handle_identity(session, who);
        let right = self.right_of(session, &room);
        let early = self.random.next_u64() as u8;
        net.begin_events(conn, events::head(), session, early);
        let retry = RETRY + self.random.next_u64() % RETRY;
        net.push_own(conn, |_, out| events::begin(out, retry));
        let mut outbox = Outbox::new(net, &mut self.pages, &self.epoch, &self.limits, outage(self.unavailable));
        let entry = Entry { room, start, presence: Presence::Off, right };
        let joined = self.hub.handle_join(session, None, entry, &mut outbox);
        debug_assert!(joined.is_ok(), "a new session is in no room, and may read this one");
        Ok(Admitted::Now)
    }
}

/// Tells a client to reconnect this many milliseconds after its stream, which ends with the next event.
pub fn retry_after(net: &mut Connections, conn: ConnId, milliseconds: u64) {
    net.push_own(conn, |_, out| event_stream::retry(out, milliseconds));
}
