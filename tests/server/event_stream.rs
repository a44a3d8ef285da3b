//! A hand-written event stream client over a raw socket: it parses the stream line by line as the HTML standard says
//! (§9.2.6), and knows nothing of how racerd writes it.

use serde_json::Value;

use crate::support::*;

/// One event as a browser's EventSource would deliver it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Event type; `message` if the stream names none.
    pub kind: String,
    pub data: String,
    /// The last id that the stream had set by then.
    pub id: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub struct EventStream {
    pub raw: Raw,
    pub head: Answer,
    /// The reconnection time, if the stream has set one.
    pub retry: Option<u64>,
    /// Comments received so far.
    pub comments: u32,
    pub id: String,
    kind: String,
    data: String,
}

impl EventStream {
    pub fn open(server: &Server, path: &str) -> EventStream {
        EventStream::open_with(server.raw(), path, "")
    }

    /// Reconnects as a browser does: the same URL, with the last id received.
    pub fn open_after(server: &Server, path: &str, id: &str) -> EventStream {
        EventStream::open_with(server.raw(), path, &format!("Last-Event-ID: {id}\r\n"))
    }

    /// Opens a stream. `headers` holds further lines, each with its line end.
    pub fn open_with(mut raw: Raw, path: &str, headers: &str) -> EventStream {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n"));
        let head = raw.answer_head();
        assert_eq!(head.status, 200, "{head:?}");
        let (id, kind, data) = (String::new(), String::new(), String::new());
        EventStream { raw, head, retry: None, comments: 0, id, kind, data }
    }

    /// Returns the next event; `None` at the end of the stream. An unfinished event is dropped.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let line = self.line()?;
            if let Some(event) = self.take(&line) {
                return Some(event);
            }
        }
    }

    /// Returns the next event of this type. Skipping a message on the way to another type is an error.
    pub fn next_of(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if event.kind == kind {
                return event;
            }
            assert_ne!(event.kind, "message", "waiting for {kind}: {event:?}");
        }
    }

    /// Returns the next message, as JSON. `lagging` may come before it.
    pub fn message(&mut self) -> Value {
        self.next_of("message").json()
    }

    /// Waits until this many comments have arrived in all.
    pub fn until_comments(&mut self, count: u32) {
        while self.comments < count {
            let line = self.line().expect("the stream goes on");
            let event = self.take(&line);
            assert_eq!(event, None, "waiting for a comment");
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            let buffer = &mut self.raw.buffer;
            if let Some(end) = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let is_pair = buffer[end] == b'\r' && buffer.get(end + 1) == Some(&b'\n');
                let line = String::from_utf8(buffer[..end].to_vec()).expect("a stream in UTF-8");
                buffer.drain(..end + 1 + usize::from(is_pair));
                return Some(line);
            }
            if !self.raw.fill() {
                return None;
            }
        }
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            let mut data = std::mem::take(&mut self.data);
            // An event without data is dropped.
            data.pop()?;
            let kind = if kind.is_empty() { "message".to_string() } else { kind };
            return Some(Event { kind, data, id: self.id.clone() });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "event" => self.kind = value.to_string(),
            "data" => self.data.push_str(&format!("{value}\n")),
            "id" => self.id = value.to_string(),
            "retry" => self.retry = Some(value.parse().expect("a number")),
            other => panic!("a field {other} in {line:?}"),
        }
        None
    }
}
