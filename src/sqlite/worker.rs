//! The threads of the log on disk: each receives requests over a channel, and sends its answers to the event loop over
//! another. They own the database and nothing else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::store::StoreEvent;

/// Enough for SQLite, whose deepest calls take less than half of it.
pub(super) const STACK_BYTES: usize = 256 << 10;

/// A thread that works requests off, one after the other. Dropping it tells it to end and waits until it has.
pub(super) struct Worker<Q, T> {
    /// `None` once it was told to end.
    pub requests: Option<Sender<Q>>,
    thread: Option<JoinHandle<Option<T>>>,
}

impl<Q: Send + 'static, T: Send + 'static> Worker<Q, T> {
    /// Starts `work`, which returns when nobody can send requests any more. If it panics, `answers` end with a
    /// [`StoreEvent::Died`].
    pub fn start(
        name: &'static str,
        answers: Answers,
        work: impl FnOnce(Receiver<Q>) -> T + Send + 'static,
    ) -> io::Result<Worker<Q, T>> {
        let (requests, receiver) = channel();
        let thread = Builder::new().name(format!("racerd-{name}")).stack_size(STACK_BYTES).spawn(move || {
            // Nothing of what `work` held is used after a panic.
            let result = catch_unwind(AssertUnwindSafe(|| work(receiver)));
            if result.is_err() {
                answers
                    .send([StoreEvent::Died(format!("the store's {name} thread panicked; this is a bug in racerd"))]);
            }
            result.ok()
        })?;
        Ok(Worker { requests: Some(requests), thread: Some(thread) })
    }

    pub fn send(&self, request: Q) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }
}

impl<Q, T> Worker<Q, T> {
    /// Lets it work off what it has, and waits for its end. `None` if it panicked, or was joined before.
    pub fn join(&mut self) -> Option<T> {
        self.requests = None;
        self.thread.take()?.join().ok()?
    }
}

impl<Q, T> Drop for Worker<Q, T> {
    fn drop(&mut self) {
        self.join();
    }
}

/// The way back to the loop.
pub(super) struct Answers {
    pub events: Sender<StoreEvent>,
    pub wake: Box<dyn Fn() + Send>,
}

impl Answers {
    /// Sends these events, if any, and wakes the loop once. Nobody may be there any more to hear them.
    pub fn send(&self, events: impl IntoIterator<Item = StoreEvent>) {
        let mut any = false;
        for event in events {
            any |= self.events.send(event).is_ok();
        }
        if any {
            (self.wake)();
        }
    }
}
