//! Sealed sockets: their handshake, the name that a client gives over one, and the refusal of unencrypted connections.

use super::Chat;
use crate::crypto::sealed::{Responder, SealedKey};
use crate::engine::Connections;
use crate::protocol::Refusal;
use crate::types::{ConnId, Name};
use crate::ws::code;

/// The server's key for sealed sockets, and its source of randomness.
pub struct Sealed {
    responder: Responder,
    random: Box<dyn FnMut() -> Option<[u8; 32]>>,
}

impl Chat {
    /// Enables sealed sockets with this key. `random` returns 32 new random bytes that nobody can guess, for the
    /// ephemeral key of one handshake; `None` if the system has none.
    pub fn seal(&mut self, key: SealedKey, random: impl FnMut() -> Option<[u8; 32]> + 'static) {
        self.sealed = Some(Sealed { responder: Responder::new(key), random: Box::new(random) });
    }

    /// Answers the first message on a sealed socket, and greets its client if the message was made for this server's
    /// key.
    pub(super) fn sealed_handshake(&mut self, net: &mut Connections, conn: ConnId, first: &[u8]) {
        let Some(session) = net.get(conn).and_then(|c| c.session()) else { return };
        let Some(sealed) = &mut self.sealed else { return };
        let Some(random) = (sealed.random)() else {
            return net.schedule_close(conn, code::OVERLOADED, "no randomness available");
        };
        match sealed.responder.answer(first, random) {
            Ok((answer, transport)) => {
                net.begin_sealed(conn, &answer, transport);
                self.greet(net, conn, session, None);
            }
            Err(_) => net.schedule_close(conn, code::POLICY, "the sealed handshake was not made for this key"),
        }
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
    /// The session has joined a room already.
    pub(super) fn take_name(
        &mut self,
        net: &mut Connections,
        conn: ConnId,
        id: Option<u64>,
        name: Option<Name>,
    ) -> Result<(), Refusal> {
        let Some(name) = name else { return Ok(()) };
        let Some(session) = net.get(conn).filter(|c| c.is_sealed()).and_then(|c| c.session()) else { return Ok(()) };
        if self.hub.session(session).is_none_or(|session| session.name == name) {
            return Ok(());
        }
        if !self.hub.handle_name(session, name) {
            return Err(Refusal::field(id, "name", "'name' is accepted only with the first join"));
        }
        self.greet(net, conn, session, None);
        Ok(())
    }
}
