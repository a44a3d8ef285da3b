//! Decides what a reader of a room with a key marks: bodies that repeat, come out of order, or in the form of earlier
//! clients. It sees numbers and ids of messages in the order of the log, neither keys nor sockets. Pure.
//!
//! What is remembered are the last [`KNOWN`] messages, of however many streams; what was heard first is forgotten
//! first, and a stream with its last message.

use std::collections::{HashMap, VecDeque};

use crate::crypto::room_key::{FINGERPRINT, STREAM};
use crate::types::Digest;

/// Messages that are remembered.
const KNOWN: usize = 100_000;

type StreamId = [u8; STREAM];

/// Identifies a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Id {
    /// The idempotency key, in the form of earlier clients.
    First(Digest),
    Second {
        stream: StreamId,
        counter: u64,
    },
}

/// A message that was heard.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The log in which it was heard last, counted from 0.
    log: u32,
    fingerprint: [u8; FINGERPRINT],
}

/// A stream of which messages are known.
#[derive(Clone, Copy, Debug)]
struct Stream {
    known: usize,
    log: u32,
    /// The highest counter in that log.
    highest: u64,
}

/// The warnings about a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It was heard before, in the log that this one has replaced.
    pub again: bool,
    /// Its author counted it before a message that stands above it.
    pub out_of_order: bool,
    /// It has the form of earlier clients, though the room has messages of the present one: it may be a repeat.
    pub old_form: bool,
    /// How many messages of its author, counted before it, are not above it.
    pub missing: u64,
}

/// The judgement on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    New(Marks),
    /// Another message has the same stream and counter, or the same idempotency key.
    Repeat,
}

/// The messages of one room that were read, as far as they are remembered.
#[derive(Debug, Default)]
pub struct Heard {
    log: u32,
    known: HashMap<Id, Known>,
    order: VecDeque<Id>,
    streams: HashMap<StreamId, Stream>,
    /// The room has messages of the present form.
    has_second: bool,
}

impl Heard {
    /// Judges the next message of the log. `fingerprint` is equal for equal contents only.
    pub fn second(&mut self, stream: StreamId, counter: u64, fingerprint: [u8; FINGERPRINT]) -> Judged {
        self.has_second = true;
        let id = Id::Second { stream, counter };
        let Some(again) = self.remember(id, fingerprint) else { return Judged::Repeat };
        let log = self.log;
        let entry = self.streams.entry(stream).or_insert(Stream { known: 0, log, highest: 0 });
        entry.known += usize::from(!again);
        if entry.log != log {
            // Seqs have begun anew, and a restored log goes on anywhere.
            (entry.log, entry.highest) = (log, 0);
        }
        let highest = entry.highest;
        entry.highest = highest.max(counter);
        let out_of_order = counter < highest;
        let missing = if highest == 0 || out_of_order { 0 } else { counter - highest - 1 };
        self.forget();
        Judged::New(Marks { again, out_of_order, missing, old_form: false })
    }

    /// Judges the next message of the log, if it has the form of earlier clients.
    pub fn first(&mut self, key: &str) -> Judged {
        let id = Id::First(Digest::of(key.as_bytes()));
        let Some(again) = self.remember(id, [0; FINGERPRINT]) else { return Judged::Repeat };
        self.forget();
        Judged::New(Marks { again, old_form: self.has_second, ..Marks::default() })
    }

    /// The room has a new log. What is known stays known: a log restored from a backup repeats it.
    pub fn new_log(&mut self) {
        self.log += 1;
    }

    /// Notes that a message was heard; `None` if it repeats another, and otherwise whether it was known from an earlier
    /// log.
    fn remember(&mut self, id: Id, fingerprint: [u8; FINGERPRINT]) -> Option<bool> {
        let known = Known { log: self.log, fingerprint };
        match self.known.get_mut(&id) {
            Some(before) if before.log < known.log && before.fingerprint == fingerprint => {
                *before = known;
                Some(true)
            }
            Some(_) => None,
            None => {
                self.known.insert(id, known);
                self.order.push_back(id);
                Some(false)
            }
        }
    }

    /// Forgets what was heard first, past [`KNOWN`].
    fn forget(&mut self) {
        while self.order.len() > KNOWN {
            let Some(oldest) = self.order.pop_front() else { return };
            self.known.remove(&oldest);
            let Id::Second { stream, .. } = oldest else { continue };
            let Some(entry) = self.streams.get_mut(&stream) else { continue };
            entry.known -= 1;
            if entry.known == 0 {
                self.streams.remove(&stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const A: StreamId = [1; STREAM];
    const B: StreamId = [2; STREAM];

    fn new() -> Judged {
        Judged::New(Marks::default())
    }

    fn marked(change: impl FnOnce(&mut Marks)) -> Judged {
        let mut marks = Marks::default();
        change(&mut marks);
        Judged::New(marks)
    }

    #[test]
    fn counters_rise_in_each_stream() {
        let mut heard = Heard::default();
        let mut of = |stream, counter| heard.second(stream, counter, [9; FINGERPRINT]);
        assert_eq!([of(A, 7), of(A, 8), of(B, 1), of(A, 9)], [new(); 4], "a reader may begin anywhere");
        assert_eq!(of(A, 12), marked(|marks| marks.missing = 2));
        assert_eq!(of(A, 11), marked(|marks| marks.out_of_order = true));
        assert_eq!(of(A, 13), new());
        assert_eq!([of(A, 11), of(A, 7), of(B, 1)], [Judged::Repeat; 3]);
        assert_eq!(of(B, 2), new());
    }

    #[test]
    fn a_counter_with_other_bytes_is_a_repeat_in_every_log() {
        let mut heard = Heard::default();
        assert_eq!(heard.second(A, 1, [1; FINGERPRINT]), new());
        assert_eq!(heard.second(A, 1, [2; FINGERPRINT]), Judged::Repeat);
        heard.new_log();
        assert_eq!(heard.second(A, 1, [2; FINGERPRINT]), Judged::Repeat);
        assert_eq!(heard.second(A, 1, [1; FINGERPRINT]), marked(|marks| marks.again = true));
        assert_eq!(heard.second(A, 1, [1; FINGERPRINT]), Judged::Repeat, "twice in one log");
    }

    #[test]
    fn a_restored_log_goes_on_where_it_ended() {
        let mut heard = Heard::default();
        for counter in 1..=5 {
            assert_eq!(heard.second(A, counter, [0; FINGERPRINT]), new());
        }
        heard.new_log();
        assert_eq!(heard.second(A, 2, [0; FINGERPRINT]), marked(|marks| marks.again = true));
        assert_eq!(heard.second(A, 3, [0; FINGERPRINT]), marked(|marks| marks.again = true));
        assert_eq!(heard.second(A, 6, [0; FINGERPRINT]), marked(|marks| marks.missing = 2));
    }

    #[test]
    fn the_old_form_is_marked_once_there_is_the_new_one() {
        let mut heard = Heard::default();
        assert_eq!([heard.first("a"), heard.first("a"), heard.first("b")], [new(), Judged::Repeat, new()]);
        assert_eq!(heard.second(A, 1, [0; FINGERPRINT]), new());
        assert_eq!(heard.first("c"), marked(|marks| marks.old_form = true));
        heard.new_log();
        let both = marked(|marks| (marks.again, marks.old_form) = (true, true));
        assert_eq!((heard.first("a"), heard.first("a")), (both, Judged::Repeat), "also in the next log");
    }

    #[test]
    fn what_was_heard_first_is_forgotten_first() {
        let mut heard = Heard::default();
        let fingerprint = [0; FINGERPRINT];
        heard.second(A, 1, fingerprint);
        heard.first("key");
        for counter in 1..KNOWN as u64 {
            assert_eq!(heard.second(B, counter, fingerprint), new());
        }
        assert_eq!(heard.second(A, 1, fingerprint), new(), "it was forgotten");
        assert_eq!(heard.second(B, 1, fingerprint), Judged::Repeat);
        assert_eq!((heard.known.len(), heard.order.len(), heard.streams.len()), (KNOWN, KNOWN, 2));
        for n in 0..KNOWN as u64 {
            heard.first(&n.to_string());
        }
        assert_eq!((heard.known.len(), heard.streams.len()), (KNOWN, 0));
    }

    proptest! {
        /// A message is a repeat, or counts further than all of its stream above it, or is marked.
        #[test]
        fn marks_follow_from_what_stands_above(
            steps in proptest::collection::vec((0u8..12, 0usize..3, 1u64..12, 0u8..2), 0..60)
        ) {
            let mut heard = Heard::default();
            let mut above: Vec<BTreeMap<(usize, u64), u8>> = vec![BTreeMap::new()];
            for (step, stream, counter, print) in steps {
                if step == 0 {
                    heard.new_log();
                    above.push(BTreeMap::new());
                    continue;
                }
                let id = (stream, counter);
                let (now, earlier) = above.split_last_mut().unwrap();
                // The first bytes that were heard under a counter are its own.
                let before = earlier.iter().find_map(|log| log.get(&id)).copied();
                let expected = match before {
                    _ if now.contains_key(&id) => Judged::Repeat,
                    Some(other) if other != print => Judged::Repeat,
                    _ => {
                        let highest = now.keys().filter(|other| other.0 == stream).map(|other| other.1).max();
                        now.insert(id, print);
                        Judged::New(Marks {
                            again: before.is_some(),
                            out_of_order: highest.is_some_and(|highest| counter < highest),
                            missing: highest.map_or(0, |highest| counter.saturating_sub(highest + 1)),
                            old_form: false,
                        })
                    }
                };
                let stream = [u8::try_from(stream).unwrap(); STREAM];
                prop_assert_eq!(heard.second(stream, counter, [print; FINGERPRINT]), expected);
            }
        }
    }
}
