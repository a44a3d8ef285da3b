//! The order of a turn, for every loop around an engine: the server's and the simulator's run this same function, so that
//! what holds in one of them holds in the other.

use super::{App, Engine, Fact, Input, Now, Output};
use crate::store::{StoreEvent, StoreRequest};
use crate::types::ConnId;

/// Connects an engine to listeners, sockets and a store: real ones, or simulated ones.
pub trait Edge {
    type App: App;
    /// Why the loop cannot go on.
    type Failure;

    fn engine(&mut self) -> &mut Engine<Self::App>;

    /// Applies new settings, if somebody asked for that. It comes before the reading, so that what is read in this turn is
    /// read within the new limits.
    fn reload_if_asked(&mut self);

    /// Accepts connections, within a bound, and tells the engine of each.
    fn accept(&mut self);

    /// Reads once from each socket that has something and that the engine lets it read, and feeds the engine.
    fn read(&mut self);

    /// Closes the listeners and tells the engine to stop, if somebody asked for that. It comes after the reading: what
    /// clients had sent before is still taken.
    fn stop_if_asked(&mut self);

    /// Hands requests to the store, and leaves the list empty.
    ///
    /// # Errors
    /// The loop cannot go on.
    fn submit(&mut self, requests: &mut Vec<StoreRequest>) -> Result<(), Self::Failure>;

    /// Returns true if the store's answers are there as soon as [`Edge::submit`] returns, without an event.
    fn is_inline(&self) -> bool;

    /// Adds the answers of the store that have come.
    fn take_answers(&mut self, answers: &mut Vec<StoreEvent>);

    /// Hands one of them to the engine.
    fn answer(&mut self, answer: StoreEvent) {
        self.engine().handle(Input::Store(answer));
    }

    /// Adds the sockets that can be written again.
    fn take_writable(&mut self, list: &mut Vec<ConnId>);

    /// Writes what is queued for a connection, once. Returns `None` where there is no such socket.
    fn write(&mut self, conn: ConnId) -> Option<Written>;

    /// Shuts the sending side of a socket.
    fn shut_down(&mut self, conn: ConnId);

    /// Reads from this socket again in the next turn, if it has something.
    fn resume(&mut self, conn: ConnId);

    fn log(&mut self, fact: Fact);

    /// Closes these sockets, and leaves the list empty. Their places may be used again from now on.
    fn free(&mut self, closed: &mut Vec<ConnId>);
}

/// What a write to a socket did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Bytes that the kernel took; 0 where it is full.
    Some(usize),
    Failed,
}

/// Runs turns. It holds nothing between two of them but the capacity of its lists.
#[derive(Debug, Default)]
pub struct Turn {
    requests: Vec<StoreRequest>,
    answers: Vec<StoreEvent>,
    dirty: Vec<ConnId>,
    closed: Vec<ConnId>,
}

impl Turn {
    /// Takes what came, decides, stores, answers, flushes, frees. The order is the point: nothing is freed before the whole
    /// batch of events is dealt with, and nothing is told that is not stored. Returns true if something is left over that
    /// no event will announce, so that the next turn must not wait.
    ///
    /// # Errors
    /// The edge cannot go on.
    pub fn run<E: Edge>(&mut self, edge: &mut E, now: Now) -> Result<bool, E::Failure> {
        edge.engine().handle(Input::Time(now));
        edge.reload_if_asked();
        edge.accept();
        edge.read();
        edge.stop_if_asked();
        self.consult_store(edge)?;
        edge.engine().end_turn();
        self.flush(edge);
        self.carry_out(edge);
        edge.free(&mut self.closed);
        self.hand_over(edge)
    }

    /// Hands over what is to be stored, and takes the answers that are there: those of the memory log at once.
    fn consult_store<E: Edge>(&mut self, edge: &mut E) -> Result<(), E::Failure> {
        edge.engine().take_requests(&mut self.requests);
        edge.submit(&mut self.requests)?;
        edge.take_answers(&mut self.answers);
        for answer in self.answers.drain(..) {
            edge.answer(answer);
        }
        Ok(())
    }

    /// Writes once to each connection with something to say.
    fn flush<E: Edge>(&mut self, edge: &mut E) {
        self.dirty.clear();
        edge.engine().take_dirty(&mut self.dirty);
        edge.take_writable(&mut self.dirty);
        for &conn in &self.dirty {
            match edge.write(conn) {
                Some(Written::Some(taken)) => edge.engine().handle(Input::Wrote { conn, taken }),
                Some(Written::Failed) => edge.engine().handle(Input::Lost { conn }),
                None => {}
            }
        }
    }

    fn carry_out<E: Edge>(&mut self, edge: &mut E) {
        while let Some(output) = edge.engine().poll_output() {
            match output {
                Output::Shutdown(conn) => edge.shut_down(conn),
                Output::Close(conn) => self.closed.push(conn),
                Output::Resume(conn) => edge.resume(conn),
                Output::Log(fact) => edge.log(fact),
            }
        }
    }

    /// Hands over the requests that came up since: they go to the store now, not with the next event.
    fn hand_over<E: Edge>(&mut self, edge: &mut E) -> Result<bool, E::Failure> {
        let mut more = false;
        edge.engine().take_requests(&mut self.requests);
        if !self.requests.is_empty() {
            more |= edge.is_inline();
            edge.submit(&mut self.requests)?;
        }
        Ok(more || edge.engine().has_dirty())
    }
}
