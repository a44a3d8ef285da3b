//! A client's socket, open or sealed: JSON objects in and out.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use racerd::crypto::sealed::{Initiator, Pin, Transport};
use serde_json::Value;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocket;

pub struct Line {
    socket: WebSocket<TcpStream>,
    sealed: Option<Transport>,
    /// Messages that are opened but not read yet.
    heard: VecDeque<String>,
}

impl Line {
    /// Opens a socket: with a pin, sealed to the holder of its key; without one, with the name in the URL. Returns
    /// `None` if it breaks.
    pub fn open(address: SocketAddr, name: &str, pin: Option<&Pin>, random: [u8; 32]) -> Option<Line> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        stream.set_write_timeout(Some(Duration::from_secs(20))).ok()?;
        let query = if pin.is_none() { format!("?name={name}") } else { String::new() };
        let mut request = format!("ws://{address}/ws{query}").into_client_request().expect("a URL");
        if pin.is_some() {
            let offer = HeaderValue::from_static("racerd.v1.sealed");
            request.headers_mut().insert("Sec-WebSocket-Protocol", offer);
        }
        let (mut socket, _) = tungstenite::client(request, stream).ok()?;
        let sealed = match pin {
            Some(pin) => Some(shake_hands(&mut socket, pin, random)?),
            None => None,
        };
        Some(Line { socket, sealed, heard: VecDeque::new() })
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Reads the next object; returns `None` at the end.
    pub fn read(&mut self) -> Option<Value> {
        loop {
            if let Some(text) = self.heard.pop_front() {
                return Some(serde_json::from_str(&text).expect("JSON"));
            }
            match (self.socket.read().ok()?, &mut self.sealed) {
                (Message::Text(text), None) => self.heard.push_back(text.to_string()),
                (Message::Binary(bytes), Some(transport)) => {
                    let mut plaintext = Vec::new();
                    transport.open_into(&mut plaintext, &bytes).expect("what the server sealed");
                    let text = String::from_utf8(plaintext).expect("text");
                    let lines = text.strip_suffix('\n').expect("whole lines");
                    self.heard.extend(lines.split('\n').map(str::to_owned));
                }
                (message @ (Message::Text(_) | Message::Binary(_)), _) => panic!("the other form: {message:?}"),
                _ => {}
            }
        }
    }

    /// Sends an object; returns false if the socket breaks.
    pub fn say(&mut self, what: &Value) -> bool {
        let message = match &mut self.sealed {
            None => Message::text(what.to_string()),
            Some(transport) => {
                let mut sealed = Vec::new();
                transport.seal_into(&mut sealed, format!("{what}\n").as_bytes()).expect("a short message");
                Message::binary(sealed)
            }
        };
        self.socket.send(message).is_ok()
    }

    pub fn close(&mut self) {
        let _ = self.socket.close(None);
    }
}

fn shake_hands(socket: &mut WebSocket<TcpStream>, pin: &Pin, random: [u8; 32]) -> Option<Transport> {
    let (initiator, first) = Initiator::begin(pin, random).expect("the pin of a server");
    socket.send(Message::binary(first.to_vec())).ok()?;
    loop {
        match socket.read().ok()? {
            Message::Binary(answer) => return Some(initiator.finish(&answer).expect("the server has that key")),
            Message::Text(text) => panic!("in the clear: {text}"),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}
