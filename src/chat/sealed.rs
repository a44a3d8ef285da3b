//! Sealed sockets: their handshake, what only they may, and what is refused where nothing may be said in the clear.

use super::Chat;
use crate::crypto::sealed::{Responder, SealedKey};
use crate::engine::Connections;
use crate::protocol::Refusal;
use crate::types::{ConnId, Name};
use crate::ws::code;

/// What sealed sockets need.
pub struct Sealed {
    responder: Responder,
    random: Box<dyn FnMut() -> Option<[u8; 32]>>,
}

impl Chat {
    /// From now on there are sealed sockets, with this key. `random` gives 32 random bytes that nobody can guess, new each
    /// time, for the key of one handshake; `None` where there are none to be had.
    pub fn seal(&mut self, key: SealedKey, random: impl FnMut() -> Option<[u8; 32]> + 'static) {
        self.sealed = Some(Sealed { responder: Responder::new(key), random: Box::new(random) });
    }

    /// The first message on a sealed socket. Whoever made it for this server's key is greeted.
    pub(super) fn sealed_handshake(&mut self, net: &mut Connections, conn: ConnId, first: &[u8]) {
        let Some(session) = net.get(conn).and_then(|c| c.session()) else { return };
        let Some(sealed) = &mut self.sealed else { return };
        let Some(random) = (sealed.random)() else {
            return net.doom(conn, code::OVERLOADED, "the system has no randomness");
        };
        match sealed.responder.answer(first, random) {
            Ok((answer, transport)) => {
                net.begin_sealed(conn, &answer, transport);
                self.greet(net, conn, session, None);
            }
            Err(_) => net.doom(conn, code::POLICY, "the sealed handshake was not made for this key"),
        }
    }

    /// Would what is told to this connection go out in the clear, where that must not be?
    pub(super) fn is_too_open(&self, net: &Connections, conn: ConnId) -> bool {
        self.sealed_only && net.get(conn).is_some_and(|c| !c.is_private())
    }

    /// Who joins a first room by a sealed socket says its name with it, since nothing may stand in the URL. It is greeted
    /// anew: the token that it was given names a guest. Elsewhere the URL has the name, and this field means nothing.
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
            return Err(Refusal::field(id, "name", "'name' is for the first room that is joined"));
        }
        self.greet(net, conn, session, None);
        Ok(())
    }
}
