//! Sealed sockets: their handshake, the name that a client gives over one, and the refusal of unencrypted connections.

use super::Chat;
use crate::access::Who;
use crate::crypto::sealed::{HANDSHAKE_BYTES, Responder, SealedKey};
use crate::engine::{Connections, Fact};
use crate::hub::Session;
use crate::protocol::reasons::NAME_TAKEN;
use crate::protocol::{ErrorCode, Refusal};
use crate::types::{ConnId, Millis, Name};
use crate::ws::code;

/// Milliseconds after which the log says again how many clients use the key before the present one.
const DAY: u64 = 86_400_000;

/// The server's keys for sealed sockets, and its source of randomness.
pub struct Sealed {
    responder: Responder,
    earlier: Option<Earlier>,
    random: Box<dyn FnMut() -> Option<[u8; 32]>>,
}

/// The key before the present one, which clients may still know.
struct Earlier {
    responder: Responder,
    /// Handshakes with it that the log has not told of.
    untold: u64,
    /// When the log may tell of more.
    next: Millis,
}

impl Earlier {
    /// Returns how many handshakes the log is to tell of now.
    fn due(&mut self, now: Millis) -> Option<u64> {
        if self.untold == 0 || now < self.next {
            return None;
        }
        self.next = now.after(DAY);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Chat {
    /// Enables sealed sockets with this key, and perhaps the one before it. `random` returns 32 new random bytes that
    /// nobody can guess, for the ephemeral key of one handshake; `None` if the system has none.
    pub fn seal(
        &mut self,
        key: SealedKey,
        earlier: Option<SealedKey>,
        random: impl FnMut() -> Option<[u8; 32]> + 'static,
    ) {
        let earlier = earlier.map(|key| Earlier { responder: Responder::new(key), untold: 0, next: Millis(0) });
        self.sealed = Some(Sealed { responder: Responder::new(key), earlier, random: Box::new(random) });
    }

    /// Answers the first message on a sealed socket, and greets its client if the message was made for a key of this
    /// server. Trying the second key costs as much as another handshake, and is paid for as one.
    pub(super) fn sealed_handshake(&mut self, net: &mut Connections, conn: ConnId, first: &[u8]) {
        let Some(session) = net.get(conn).and_then(|c| c.session()) else { return };
        let Some(sealed) = &mut self.sealed else { return };
        let Some(random) = (sealed.random)() else {
            return net.schedule_close(conn, code::OVERLOADED, "no randomness available");
        };
        let mut answered = sealed.responder.answer(first, random);
        if let (Err(_), Some(earlier), HANDSHAKE_BYTES) = (&answered, &mut sealed.earlier, first.len()) {
            net.spend_handshake(conn);
            answered = earlier.responder.answer(first, random);
            earlier.untold += u64::from(answered.is_ok());
        }
        match answered {
            Ok((answer, transport)) => {
                net.begin_sealed(conn, &answer, transport);
                self.greet(net, conn, session, None);
                self.wait_if_guests_may_nothing(net, conn, session);
            }
            Err(_) => net.schedule_close(conn, code::POLICY, "the sealed handshake was not made for this key"),
        }
        self.tell_of_earlier_key(net);
    }

    /// Tells the log, once a day, how many handshakes used the key before the present one: it is to go once nobody
    /// does.
    pub(super) fn tell_of_earlier_key(&mut self, net: &mut Connections) {
        let now = net.now().mono;
        let earlier = self.sealed.as_mut().and_then(|sealed| sealed.earlier.as_mut());
        if let Some(clients) = earlier.and_then(|earlier| earlier.due(now)) {
            net.log(Fact::EarlierKey { clients });
        }
    }

    /// Returns when [`Chat::tell_of_earlier_key`] is next due.
    pub(super) fn earlier_key_deadline(&self) -> Option<Millis> {
        let earlier = self.sealed.as_ref()?.earlier.as_ref()?;
        (earlier.untold > 0).then_some(earlier.next)
    }

    /// Returns whether this connection is unencrypted although content may go to encrypted ones only.
    pub(super) fn is_too_open(&self, net: &Connections, conn: ConnId) -> bool {
        self.sealed_only && net.get(conn).is_some_and(|c| !c.is_private())
    }

    /// Takes the name that a client gives with its first join over a sealed socket, whose URL must not reveal it. The
    /// client is greeted again, since its first token names a guest. On other sockets the URL has the name, and this
    /// field means nothing.
    ///
    /// # Errors
    /// The session has joined a room already; the name is that of somebody known.
    pub(super) fn take_name(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        id: Option<u64>,
        name: Option<Name>,
    ) -> Result<(), Refusal> {
        let Some(name) = name else { return Ok(()) };
        let Some(session) = net.get(conn).filter(|c| c.is_sealed()).and_then(|c| c.session()) else { return Ok(()) };
        // Whoever is known has the name by which they are known.
        let keeps = |session: &Session| session.name == name || session.who != Who::Guest;
        if self.hub.session(session).is_none_or(keeps) {
            return Ok(());
        }
        if self.doors.is_taken(&name) {
            return Err(Refusal { field: Some("name"), ..Refusal::new(id, ErrorCode::NameTaken, NAME_TAKEN) });
        }
        if !self.hub.handle_name(session, name) {
            return Err(Refusal::field(id, "name", "'name' is accepted only with the first join"));
        }
        self.greet(net, conn, session, None);
        Ok(())
    }
}
