//! Standard input, line by line, with each line made into a message.

use std::io::{self, Read};

use zeroize::Zeroize;

use super::{ClientSession, Event};
use crate::types::Reason;

/// Reads standard input into the messages of a session.
pub struct StdinLines<'a> {
    compose: Compose<'a>,
    /// The beginning of a line whose end has not come.
    buffer: Vec<u8>,
    rest: Rest,
    /// Lines so far.
    count: u64,
    has_ended: bool,
}

/// Whether the rest of the current line is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Kept,
    /// The line is longer than any message.
    Dropped,
}

/// Makes key and JSON body of a line; `None` skips the line, an error says why it cannot be sent.
type Compose<'a> = Box<dyn FnMut(&str) -> Result<Option<(String, String)>, String> + 'a>;

impl<'a> StdinLines<'a> {
    /// `compose` makes key and JSON body of a line, skips it with `None`, or says why it cannot be sent.
    pub fn new(compose: Compose<'a>) -> StdinLines<'a> {
        StdinLines { compose, buffer: Vec::new(), rest: Rest::Kept, count: 0, has_ended: false }
    }

    /// Reads nothing: every message was given to the session beforehand.
    pub fn ended(mut self) -> StdinLines<'a> {
        self.has_ended = true;
        self
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads once, and gives every complete line to the session. A line that cannot be sent, or that has more than
    /// `longest` bytes, becomes an event.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub fn read(&mut self, longest: usize, session: &mut ClientSession, events: &mut Vec<Event>) -> Result<(), Reason> {
        // Larger than the buffer of `Stdin`, which thus stays empty: `poll` would not see bytes in it.
        let mut chunk = [0; 16 << 10];
        let length = match io::stdin().lock().read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            done => done.map_err(|error| Reason::with(format!("standard input: {error}"), error))?,
        };
        self.take(chunk.get(..length).unwrap_or_default(), longest, session, events);
        chunk.zeroize();
        self.has_ended = length == 0;
        if self.has_ended && self.rest == Rest::Kept {
            // The last line may lack its line feed.
            let line = std::mem::take(&mut self.buffer);
            self.give(&line, session, events);
        }
        Ok(())
    }

    /// Keeps at most `longest` bytes of a line, and its end.
    fn take(&mut self, bytes: &[u8], longest: usize, session: &mut ClientSession, events: &mut Vec<Event>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = part.ends_with(b"\n");
            if self.rest == Rest::Kept && self.buffer.len() + part.len() > longest.saturating_add(2) {
                self.count += 1;
                let why = format!("it has more bytes than the server takes in one message ({longest})");
                events.push(Event::Unsendable(format!("line {}: {why}", self.count)));
                self.buffer = Vec::new();
                self.rest = Rest::Dropped;
            }
            if self.rest == Rest::Kept {
                self.buffer.extend_from_slice(part);
                if is_whole {
                    let line = std::mem::take(&mut self.buffer);
                    self.give(&line, session, events);
                }
            } else if is_whole {
                self.rest = Rest::Kept;
            }
        }
    }

    fn give(&mut self, line: &[u8], session: &mut ClientSession, events: &mut Vec<Event>) {
        self.count += 1;
        let message = match std::str::from_utf8(line) {
            Ok(text) => (self.compose)(text.trim_end_matches(['\n', '\r'])),
            Err(_) => Err("it is not UTF-8".to_string()),
        };
        match message {
            Ok(Some((key, body))) => session.send(self.count, key, body),
            Ok(None) => {}
            Err(why) => events.push(Event::Unsendable(format!("line {}: {why}", self.count))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Begin;
    use crate::types::RoomId;

    /// Reads these chunks where a message has at most 10 bytes. Returns the composed lines, the events' texts, and the
    /// largest number of bytes that were kept at a time.
    fn read(chunks: &[&[u8]]) -> (Vec<String>, Vec<String>, usize) {
        let composed = std::cell::RefCell::new(Vec::new());
        let mut lines = StdinLines::new(Box::new(|line| {
            composed.borrow_mut().push(line.to_string());
            Ok(None)
        }));
        let mut session = ClientSession::new(RoomId::parse("r").unwrap(), None, Begin::Now);
        let (mut events, mut most) = (Vec::new(), 0);
        for chunk in chunks {
            lines.take(chunk, 10, &mut session, &mut events);
            most = most.max(lines.buffer.len());
        }
        drop(lines);
        let texts = events.into_iter().map(|event| match event {
            Event::Unsendable(why) => why,
            other => panic!("{other:?}"),
        });
        (composed.take(), texts.collect(), most)
    }

    #[test]
    fn a_line_without_an_end_has_a_bound_and_the_next_one_is_read() {
        let (composed, told, most) = read(&[b"one\n0123456789\r\n01234", &[b'x'; 7], &[b'x'; 1000], b"\ntwo\n"]);
        assert_eq!(composed, ["one", "0123456789", "two"]);
        assert_eq!(told, ["line 3: it has more bytes than the server takes in one message (10)"]);
        assert!(most <= 12, "{most}");
        // The same in one chunk, and byte by byte.
        let all = [b"one\n".as_slice(), &[b'x'; 50], b"\n\n", &[b'y'; 13], b"\ntwo\n"].concat();
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        for chunks in [&[all.as_slice()][..], &bytes] {
            let (composed, told, _) = read(chunks);
            assert_eq!((composed, told.len()), (vec!["one".to_string(), String::new(), "two".to_string()], 2));
        }
    }
}
