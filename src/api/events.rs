//! A room's stream as Server-Sent Events: its starting point and its events. The data is the JSON that a socket
//! receives; an event's type is that object's `type`, except that `message` is the default and goes unnamed. The id is
//! the cursor, epoch and seq, because the same seq in another epoch is a different message.

use super::{bad, start};
use crate::http::event_stream;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::hub::Start;
use crate::json::write_number;
use crate::types::{Epoch, MAX_NUMBER, Seq};

/// Returns the starting point of the requested stream: after its `Last-Event-ID` if there is one, else as its query
/// says.
///
/// # Errors
/// 400, also for a malformed id: starting anywhere else silently would lose messages.
pub fn opening(request: &Request) -> Result<Start, Problem> {
    let asked = start(request)?;
    match request.headers.one("Last-Event-ID")? {
        None | Some("") => Ok(asked),
        Some(id) => cursor(id).ok_or_else(|| {
            let detail = "'Last-Event-ID' is the id of an event of this stream, EPOCH:SEQ, such as k3f9:41";
            bad("Last-Event-ID", detail)
        }),
    }
}

/// Returns the head of the answer.
pub fn head() -> Response {
    Response::stream(event_stream::MEDIA_TYPE)
}

/// Appends the beginning of a stream: the time after which its client reconnects if it breaks (milliseconds).
pub fn begin(out: &mut Vec<u8>, retry: u64) {
    event_stream::retry(out, retry);
    event_stream::end(out);
}

/// An event's type, and the cursor that a client has with it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// `None` for a message.
    pub name: Option<&'static str>,
    pub cursor: Option<(&'a Epoch, Seq)>,
}

impl Event<'_> {
    /// Appends the event with the data that `write` appends.
    pub fn write(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some((epoch, seq)) = self.cursor {
            event_stream::id(out, |out| {
                out.extend_from_slice(epoch.0.as_bytes());
                out.push(b':');
                write_number(out, seq.0);
            });
        }
        if let Some(name) = self.name {
            event_stream::event(out, name);
        }
        event_stream::data(out, write);
    }
}

/// Reads the cursor from an event's id.
fn cursor(id: &str) -> Option<Start> {
    let (epoch, digits) = id.rsplit_once(':')?;
    let seq = digits.parse::<u64>().ok().filter(|seq| *seq <= MAX_NUMBER)?;
    let is_ours = !epoch.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_ours.then(|| Start::After { seq: Seq(seq), epoch: Some(epoch.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for (epoch, seq) in [("k3f9", 0), ("97cfeb3a936412be", 41), ("a:b", MAX_NUMBER)] {
            let mut out = Vec::new();
            let (name, epoch) = (Some("joined"), Epoch(Arc::from(epoch)));
            Event { name, cursor: Some((&epoch, Seq(seq))) }.write(&mut out, |out| out.extend_from_slice(b"{}"));
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, format!("id: {}:{seq}\nevent: joined\ndata: {{}}\n\n", epoch.0));
            let id = text.lines().next().and_then(|line| line.strip_prefix("id: ")).unwrap();
            assert_eq!(cursor(id), Some(Start::After { seq: Seq(seq), epoch: Some((*epoch.0).into()) }));
        }
    }

    #[test]
    fn other_ids_are_none_of_ours() {
        for id in ["41", ":41", "k3f9", "k3f9:", "k3f9:-1", "k3f9:+1", "k3f9: 1", "k3f9:1.0", "k3f9:9007199254740993"] {
            assert_eq!(cursor(id), None, "{id}");
        }
    }
}
