//! The last turns of a server that is told to stop.

use super::*;

/// An edge with one client, which connects and sends a request at once. As in a kernel, a socket is known to be
/// readable from the turn on that follows the one in which it was accepted.
struct Porch {
    engine: Engine<Chat>,
    arrives: bool,
    ready: Vec<ConnId>,
    unread: Vec<u8>,
    stop: bool,
    got: Vec<u8>,
}

const CONN: ConnId = ConnId { index: 0, generation: 1 };

impl Edge for Porch {
    type App = Chat;
    type Failure = std::convert::Infallible;

    fn engine(&mut self) -> &mut Engine<Chat> {
        &mut self.engine
    }
    fn begin_part(&mut self, _: Part) {}
    fn has_time(&mut self) -> bool {
        true
    }
    fn work(&mut self) -> usize {
        usize::MAX
    }
    fn worked(&mut self, _: usize) {}
    fn reload_if_asked(&mut self) {}

    fn accept(&mut self) {
        if std::mem::take(&mut self.arrives) {
            self.engine.handle(Input::Opened { conn: CONN, peer: ([192, 0, 2, 1], 1).into(), secure: false });
        }
    }

    fn take_ready(&mut self, list: &mut Vec<ConnId>) {
        list.append(&mut self.ready);
    }
    fn asked_at(&self) -> Option<Millis> {
        Some(self.engine.net.now().mono)
    }

    fn read(&mut self, conn: ConnId) {
        if self.engine.may_read(conn) {
            let mut bytes = std::mem::take(&mut self.unread);
            self.engine.handle(Input::Bytes { conn, bytes: &mut bytes });
        }
    }

    fn unread(&mut self, _: ConnId) -> u64 {
        0
    }
    fn close_if_asked(&mut self) -> bool {
        std::mem::take(&mut self.stop)
    }
    fn submit(&mut self, requests: &mut Vec<crate::store::StoreRequest>) -> Result<(), Self::Failure> {
        requests.clear();
        Ok(())
    }
    fn is_inline(&self) -> bool {
        false
    }
    fn take_answers(&mut self, _: &mut Vec<StoreEvent>) {}
    fn take_writable(&mut self, _: &mut Vec<ConnId>) {}

    fn write(&mut self, conn: ConnId) -> Option<Written> {
        let queue = self.engine.queue(conn)?;
        let before = self.got.len();
        queue.pieces().for_each(|piece| self.got.extend_from_slice(piece));
        Some(Written::Some(self.got.len() - before))
    }

    fn shut_down(&mut self, _: ConnId) {}
    fn resume(&mut self, conn: ConnId) {
        self.ready.push(conn);
    }
    fn log(&mut self, _: Fact) {}
    fn free(&mut self, closed: &mut Vec<ConnId>) {
        closed.clear();
    }
}

#[test]
fn a_request_that_came_before_the_stop_is_answered_though_its_connection_was_just_accepted() {
    let mut porch = Porch {
        engine: Sizes::USUAL.engine(),
        arrives: true,
        ready: Vec::new(),
        unread: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        stop: true,
        got: Vec::new(),
    };
    let mut turn = Turn::default();
    let now = Now { mono: Millis(1), wall: WallMillis(1) };
    let Ok(more) = turn.run(&mut porch, now);
    assert!(more && porch.got.is_empty(), "it does not wait for an event");
    porch.ready.push(CONN);
    let Ok(_) = turn.run(&mut porch, now);
    let got = String::from_utf8_lossy(&porch.got);
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    assert!(porch.engine.is_stopping());
}
