//! The text of an event stream (HTML standard §9.2): events, comments and the client's reconnection time. It knows
//! neither JSON nor rooms; data is any text in which a line break may become a space.

/// The media type of a stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// A comment: not an event, only a sign of life, so that proxies keep the connection open.
pub const COMMENT: &[u8] = b":\n\n";

/// Appends the time after which a client reconnects if its stream breaks (milliseconds).
pub fn retry(out: &mut Vec<u8>, milliseconds: u64) {
    field(out, "retry", |out| out.extend_from_slice(milliseconds.to_string().as_bytes()));
}

/// Appends the id of the event that [`data`] ends; a client sends it back as `Last-Event-ID`.
pub fn id(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    field(out, "id", write);
}

/// Appends the type of the event that [`data`] ends; an event without one is a `message`.
pub fn event(out: &mut Vec<u8>, name: &str) {
    field(out, "event", |out| out.extend_from_slice(name.as_bytes()));
}

/// Appends an event's data and ends the event. A line break in what `write` appends would end the field or the event,
/// and the text behind it could forge fields; each one becomes a space. JSON has line breaks only between tokens (RFC
/// 8259 §2, §7), where a space means the same.
pub fn data(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    field(out, "data", write);
    out.push(b'\n');
}

/// Ends a block that is not an event; the fields it sets take effect from now on.
pub fn end(out: &mut Vec<u8>) {
    out.push(b'\n');
}

fn field(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    write(out);
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses a stream as a client does: type, data, last id, reconnection time (HTML standard §9.2.6, word for word).
    fn interpret(text: &str) -> (Vec<(String, String, String)>, Option<u64>) {
        let (mut events, mut retry) = (Vec::new(), None);
        let (mut data, mut kind, mut last_id) = (String::new(), String::new(), String::new());
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        // The text behind the last line break is not a complete line.
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();
        for line in lines {
            if line.is_empty() {
                if !data.is_empty() {
                    data.pop();
                    let kind = if kind.is_empty() { "message".to_string() } else { kind.clone() };
                    events.push((kind, std::mem::take(&mut data), last_id.clone()));
                }
                kind.clear();
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => kind = value.to_string(),
                "data" => data.push_str(&format!("{value}\n")),
                "id" if !value.contains('\0') => last_id = value.to_string(),
                "retry" => retry = value.parse().ok(),
                _ => {}
            }
        }
        (events, retry)
    }

    proptest! {
        /// Any data stays within one event, and the next event is intact.
        #[test]
        fn nothing_gets_out_of_its_event(first in "[\r\n:a-c \u{2028}\u{85}]{0,20}", second in "[ -~]{1,9}") {
            let mut out = Vec::new();
            retry(&mut out, 1500);
            end(&mut out);
            out.extend_from_slice(COMMENT);
            id(&mut out, |out| out.extend_from_slice(b"e:1"));
            event(&mut out, "joined");
            data(&mut out, |out| out.extend_from_slice(format!("[{first}]").as_bytes()));
            id(&mut out, |out| out.extend_from_slice(b"e:2"));
            data(&mut out, |out| out.extend_from_slice(format!("[{second}]").as_bytes()));
            let (events, retry) = interpret(&String::from_utf8(out).unwrap());
            let first = first.replace(['\r', '\n'], " ");
            prop_assert_eq!(retry, Some(1500));
            prop_assert_eq!(events, vec![
                ("joined".to_string(), format!("[{first}]"), "e:1".to_string()),
                ("message".to_string(), format!("[{second}]"), "e:2".to_string()),
            ]);
        }
    }
}
