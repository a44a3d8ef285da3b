//! `racerd send URL [TEXT | -]`: says something in a room, and ends when the server has stored it.

use super::room::{RoomArgs, outcome};
use super::{Failure, complain, random};
use crate::client::{Begin, Ended, Event, Lines, Talk, run as client};
use crate::crypto::room_key::{NONCE, RoomCipher, nonce_text};
use crate::protocol::encrypted::Encrypted;
use crate::types::harmless;
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::io::IsTerminal;

/// Sends TEXT, or each line of standard input as one message, in order.
///
/// # Errors
/// [`Failure`]: nothing is known to be stored of what was not acknowledged.
pub fn run(args: Vec<OsString>) -> Result<(), Failure> {
    let args = RoomArgs::parse("send", &["--key"], args)?;
    let text = match args.words.as_slice() {
        [] if std::io::stdin().is_terminal() => {
            return Err(Failure::Usage("say what to send: a text, or - for the lines of standard input".to_string()));
        }
        [] => None,
        [text] if text == "-" => None,
        [text] => Some(text.as_str()),
        _ => return Err(Failure::Usage("send takes one text; quote it if it has blanks in it".to_string())),
    };
    if text.is_none() && args.key.is_some() {
        return Err(Failure::Usage(
            "--key is for one text: the lines of standard input have keys of their own".to_string(),
        ));
    }
    let mut writer = Writer { cipher: args.cipher(), json: args.json };
    let mut talk = Talk::new(args.target.room.clone(), args.name_inside(), Begin::Now);
    if let Some(text) = text {
        let (key, body) = writer.message(text, args.key.clone()).map_err(Failure::Usage)?;
        talk.send(0, key, body);
    }
    let is_one = text.is_some();
    let lines = Lines::new(Box::new(move |line| match line.trim().is_empty() {
        true => Ok(None),
        false => writer.message(line, None).map(Some),
    }));
    let lines = if is_one { lines.ended() } else { lines };
    let mut said = String::new();
    outcome(client(&args.errand(), &mut talk, Some(lines), &mut |event| trouble(event, &mut said)))
}

/// Tells of a loss, and of what the server does not do now, once for each reason; and of each message that is not sent.
pub(super) fn trouble(event: &Event, said: &mut String) -> Result<(), Ended> {
    match event {
        Event::Again(why) | Event::PutOff(why) if *why != *said => {
            complain(&format!("{}; trying again", harmless(why)));
            said.clone_from(why);
        }
        Event::Unsendable(why) => complain(&harmless(why)),
        Event::CaughtUp | Event::Acknowledged => said.clear(),
        _ => {}
    }
    Ok(())
}

/// Makes messages of texts.
struct Writer {
    cipher: Option<RoomCipher>,
    /// The text is the body as it is.
    json: bool,
}

impl Writer {
    /// Key and body of the next message.
    fn message(&mut self, text: &str, key: Option<String>) -> Result<(String, String), String> {
        let key = match key {
            Some(key) => key,
            None => random_key()?,
        };
        let body = match self.json {
            true => {
                let fault = |error| format!("it is not one JSON value: {error}");
                serde_json::from_str::<&RawValue>(text).map_err(fault)?.get().to_string()
            }
            false => serde_json::json!({"text": text}).to_string(),
        };
        let Some(cipher) = &self.cipher else { return Ok((key, body)) };
        let nonce: [u8; NONCE] = *random()?;
        let ciphertext = cipher.seal(&key, nonce, &body);
        let nonce = nonce_text(&nonce);
        let sealed =
            Encrypted { key: key.as_str().into(), nonce: nonce.into(), ciphertext: ciphertext.into() }.to_body();
        Ok((key, sealed))
    }
}

/// A key that nobody can guess, and so use up before: 128 random bits, in base64url.
fn random_key() -> Result<String, String> {
    Ok(data_encoding::BASE64URL_NOPAD.encode(random::<16>()?.as_slice()))
}
