//! Turns a room's messages into the lines that `racerd tail` prints. Pure.

use super::terminal::{harmless_json, quoted_name};
use crate::client::{Heard, Judged, Marks, ServerMessage};
use crate::crypto::room_key::{Fault, Kind, Opened, RoomCipher};
use crate::protocol::encrypted::{Encrypted, Version};
use crate::types::harmless;
use data_encoding::BASE64URL_NOPAD;
use serde_json::value::RawValue;

/// Reads one room's messages, in the order of the log.
pub(crate) struct Reader {
    cipher: Option<RoomCipher>,
    /// Prints each message's JSON object.
    json: bool,
    heard: Heard,
    unreadable: u64,
}

/// The readable content of a body.
enum Reading {
    /// It is not encrypted.
    Plain,
    Opened(Box<Content>),
    /// It is encrypted, and no key was given.
    Sealed,
    /// The server can no longer read it from its disk.
    Damaged,
    /// It cannot be read, for this reason.
    Unreadable(&'static str),
}

/// The content of an encrypted body, and the warnings about it.
struct Content {
    body: String,
    /// The fields that its author has signed; `None` in the form of earlier clients.
    signed: Option<Signed>,
    marks: Marks,
}

/// The signed fields of the second form, beside the body.
struct Signed {
    name: String,
    sent: u64,
    stream: String,
    counter: u64,
    /// Its author has another name than the server says.
    is_other_name: bool,
}

impl Reader {
    /// Without a cipher, encrypted messages cannot be read. With `json`, each line is the message's object.
    pub(crate) fn new(cipher: Option<RoomCipher>, json: bool) -> Reader {
        Reader { cipher, json, heard: Heard::default(), unreadable: 0 }
    }

    /// Returns how many messages could not be read.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Returns the line about messages missing between two seqs, or with `new_log` about a log that replaced the
    /// former.
    pub(crate) fn gap(&mut self, after: u64, from: u64, new_log: bool) -> String {
        if new_log {
            self.heard.new_log();
            return "the server has a new log; some messages may be missing".to_owned();
        }
        format!("messages {} to {} are no longer kept", after + 1, from - 1)
    }

    /// Returns the line of a message, with its line feed.
    pub(crate) fn line(&mut self, text: &str) -> String {
        let Some(message) = ServerMessage::parse(text) else { return String::new() };
        let body = message.raw("body").unwrap_or("null");
        let name = message.object("from").and_then(|from| from.string("name")).unwrap_or_default();
        let is_damaged = message.raw("unreadable") == Some("true");
        let reading = if is_damaged { Reading::Damaged } else { self.read(&name, body) };
        if matches!(reading, Reading::Unreadable(_)) {
            self.unreadable += 1;
        }
        if self.json { object(text, body, &reading) } else { self.text_line(&name, body, &reading) }
    }

    fn read(&mut self, name: &str, body: &str) -> Reading {
        let Some(sealed) = Encrypted::parse(body) else { return Reading::Plain };
        let Some(cipher) = &self.cipher else { return Reading::Sealed };
        match &sealed.version {
            Version::One => {
                let opened = cipher.open_first(&sealed.key, &sealed.nonce, &sealed.ciphertext);
                match opened.filter(|body| is_json(body)) {
                    Some(body) => content(self.heard.first(&sealed.key), body, None),
                    None => Reading::Unreadable("can't be read with this key"),
                }
            }
            Version::Two { key_id } => {
                let opened = cipher.open(Kind::Message, key_id, &sealed.key, &sealed.nonce, &sealed.ciphertext);
                match opened {
                    Ok(opened) if is_json(&opened.body) => self.second(name, opened),
                    Ok(_) | Err(Fault::Malformed) => Reading::Unreadable("not a message"),
                    Err(Fault::OtherKey) => Reading::Unreadable("encrypted with another key"),
                    Err(Fault::Altered) => Reading::Unreadable("altered on its way"),
                    Err(Fault::Forged) => Reading::Unreadable("forged: its signature is not its author's"),
                }
            }
        }
    }

    fn second(&mut self, name: &str, opened: Opened) -> Reading {
        let judged = self.heard.second(opened.stream, opened.counter, opened.fingerprint);
        let signed = Signed {
            is_other_name: opened.name != name,
            name: opened.name,
            sent: opened.sent,
            stream: BASE64URL_NOPAD.encode(&opened.stream),
            counter: opened.counter,
        };
        content(judged, opened.body, Some(signed))
    }

    /// Returns `name: text`, with what is to be said of it in brackets behind the name.
    fn text_line(&self, name: &str, body: &str, reading: &Reading) -> String {
        let name = quoted_name(name);
        match reading {
            // In an encrypted room anyone, also the server, can send a message that is not encrypted.
            Reading::Plain if self.cipher.is_some() => format!("{name} (not encrypted): {}\n", words(body)),
            Reading::Plain => format!("{name}: {}\n", words(body)),
            Reading::Opened(content) => {
                let notes = content.notes();
                let notes = if notes.is_empty() { notes } else { format!(" ({notes})") };
                format!("{name}{notes}: {}\n", words(&content.body))
            }
            Reading::Sealed => format!("{name}: (encrypted; --room-key KEY decrypts it)\n"),
            Reading::Damaged => format!("{name}: (damaged on the server's disk)\n"),
            Reading::Unreadable(why) => format!("{name}: ({why})\n"),
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn content(judged: Judged, body: String, signed: Option<Signed>) -> Reading {
    match judged {
        Judged::New(marks) => Reading::Opened(Box::new(Content { body, signed, marks })),
        Judged::Repeat => Reading::Unreadable("a repeat of an earlier message"),
    }
}

impl Content {
    /// Returns the names of the marks, as racerd.js has them.
    fn marks(&self) -> Vec<&'static str> {
        let is_other_name = self.signed.as_ref().is_some_and(|signed| signed.is_other_name);
        let Marks { again, out_of_order, old_form, missing: _ } = self.marks;
        let all = [(is_other_name, "name"), (again, "again"), (out_of_order, "out_of_order"), (old_form, "old_form")];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect()
    }

    /// Returns the marks for people.
    fn notes(&self) -> String {
        let mut notes: Vec<String> = Vec::new();
        for mark in self.marks() {
            notes.push(match (mark, &self.signed) {
                ("name", Some(signed)) if signed.name.is_empty() => "signed without a name".to_owned(),
                ("name", Some(signed)) => format!("signed as {}", quoted_name(&signed.name)),
                ("again", _) => "from the former log".to_owned(),
                ("out_of_order", _) => "out of order: written before a message above".to_owned(),
                _ => "old form: may be a repeat".to_owned(),
            });
        }
        match self.marks.missing {
            0 => {}
            1 => notes.push("1 message before it is missing".to_owned()),
            count => notes.push(format!("{count} messages before it are missing")),
        }
        notes.join("; ")
    }
}

/// Returns the message's object. A decrypted message has its inner body, `"encrypted":true`, its marks, and what its
/// author has signed; one that cannot be read has `unreadable` with the reason.
fn object(text: &str, body: &str, reading: &Reading) -> String {
    let text = text.trim_end();
    let with = |fields: &str| format!("{},{fields}}}", text.strip_suffix('}').unwrap_or(text));
    let line = match reading {
        Reading::Plain | Reading::Sealed | Reading::Damaged => text.to_string(),
        // The text of an encrypted body occurs only once in a message.
        Reading::Opened(content) => with(&fields(content)).replacen(body, &content.body, 1),
        Reading::Unreadable(why) => with(&format!("\"unreadable\":{}", serde_json::json!(why))),
    };
    harmless_json(&line) + "\n"
}

fn fields(content: &Content) -> String {
    let marks = serde_json::json!(content.marks());
    let common = format!("\"encrypted\":true,\"marks\":{marks},\"missing\":{}", content.marks.missing);
    let Some(Signed { name, sent, stream, counter, .. }) = &content.signed else { return common };
    let name = serde_json::json!(name);
    format!("{common},\"signed_name\":{name},\"sent\":{sent},\"stream\":\"{stream}\",\"counter\":{counter}")
}

/// Returns the `text` of a body, or the whole body as JSON.
fn words(body: &str) -> String {
    match ServerMessage::parse(body).and_then(|body| body.string("text")) {
        Some(text) => harmless(&text),
        None => harmless_json(body),
    }
}

#[cfg(test)]
mod tests;
