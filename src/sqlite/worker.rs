//! The threads of the log on disk: each receives requests over a channel, and sends its answers to the event loop over
//! another. They own the database and nothing else.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::store::StoreEvent;

/// Stack size of each thread: SQLite's deepest calls take less than half of it.
pub(super) const STACK_BYTES: usize = 256 << 10;

/// A thread that processes requests one by one. Dropping the worker ends the thread and waits for it.
pub(super) struct Worker<Q, T> {
    /// `None` once the thread was told to end.
    pub requests: Option<Sender<Q>>,
    thread: Option<JoinHandle<Option<T>>>,
}

impl<Q: Send + 'static, T: Send + 'static> Worker<Q, T> {
    /// Starts `work`, which returns once all senders are gone. If it panics, a final [`StoreEvent::Died`] is sent.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        name: &'static str,
        answers: Answers,
        work: impl FnOnce(Receiver<Q>) -> T + Send + 'static,
    ) -> io::Result<Worker<Q, T>> {
        let (requests, receiver) = channel();
        let thread = Builder::new().name(format!("racerd-{name}")).stack_size(STACK_BYTES).spawn(move || {
            // Nothing that `work` held is used after a panic.
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
    /// Wakes the thread if it pauses before it takes the next request.
    pub fn hurry(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Lets the thread finish its pending requests, and waits for it. `None` if it panicked, or was joined before.
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

/// Sends answers to the event loop.
pub(super) struct Answers {
    pub events: Sender<StoreEvent>,
    pub wake: Box<dyn Fn() + Send>,
}

impl Answers {
    /// Sends these events, if any, and wakes the loop once. Events for a loop that has ended are dropped.
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
