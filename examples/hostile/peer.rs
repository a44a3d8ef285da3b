//! The servers that can be measured: racerd, and those that people would pick instead, each with the least program or
//! configuration that makes it a chat of rooms. What is said to each, and how its clients know their own messages.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wire::{self, BINARY, PORT, TEXT, frame};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Racerd,
    /// Node's ws, with a program that sends what it hears to all of the room.
    Ws,
    /// Debian's Mosquitto: MQTT over WebSockets, a topic for each room.
    Mosquitto,
    /// Bun's own server.
    Bun,
    /// Debian's nats-server, a subject for each room.
    Nats,
    /// Debian's nginx with nchan.
    Nchan,
}

const ALL: [Peer; 6] = [Peer::Racerd, Peer::Ws, Peer::Mosquitto, Peer::Bun, Peer::Nats, Peer::Nchan];

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Racerd => "racerd",
            Peer::Ws => "ws",
            Peer::Mosquitto => "mosquitto",
            Peer::Bun => "bun",
            Peer::Nats => "nats",
            Peer::Nchan => "nchan",
        }
    }

    pub fn of(name: &str) -> Option<Peer> {
        ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Returns the address under which this server and its clients meet: Debian's Mosquitto speaks IPv4 alone over
    /// WebSockets. These servers have no limits per address that would tell.
    pub fn reach(self, address: Ipv6Addr) -> Ipv6Addr {
        match self {
            Peer::Racerd | Peer::Ws | Peer::Bun | Peer::Nats | Peer::Nchan => address,
            Peer::Mosquitto => version_4(address).to_ipv6_mapped(),
        }
    }

    /// Returns the request that opens a socket in this room.
    pub fn upgrade(self, room: &str) -> Vec<u8> {
        match self {
            Peer::Racerd => wire::upgrade(&format!("/rooms/{room}/ws?name=m&presence=off"), None),
            Peer::Ws | Peer::Bun | Peer::Nchan => wire::upgrade(&format!("/{room}"), None),
            Peer::Nats => wire::upgrade("/", None),
            Peer::Mosquitto => wire::upgrade("/mqtt", Some("mqtt")),
        }
    }

    /// Returns what a client says next to be in the room. No two clients may have the same name.
    pub fn greeting(self, room: &str, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Peer::Racerd | Peer::Ws | Peer::Bun | Peer::Nchan => {}
            Peer::Mosquitto => {
                // CONNECT with a clean session and without keep-alive, then SUBSCRIBE with QoS 0.
                let connect = [&string("MQTT"), [4, 2, 0, 0].as_slice(), &string(name)].concat();
                frame(BINARY, &packet(0x10, &connect), &mut out);
                frame(BINARY, &packet(0x82, &[&[0, 1], string(room).as_slice(), &[0]].concat()), &mut out);
            }
            Peer::Nats => {
                frame(BINARY, b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n", &mut out);
                frame(BINARY, format!("SUB {room} 1\r\n").as_bytes(), &mut out);
            }
        }
        out
    }

    /// Returns the frame that says this in a room.
    pub fn publish(self, room: &str, number: u64, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Peer::Racerd => {
                let json =
                    format!(r#"{{"type":"send","id":{number},"room":"{room}","key":"k-{number}","body":"{text}"}}"#);
                frame(TEXT, json.as_bytes(), &mut out);
            }
            Peer::Ws | Peer::Bun | Peer::Nchan => frame(TEXT, text.as_bytes(), &mut out),
            Peer::Nats => {
                frame(BINARY, format!("PUB {room} {}\r\n{text}\r\n", text.len()).as_bytes(), &mut out);
            }
            Peer::Mosquitto => {
                frame(BINARY, &packet(0x30, &[string(room).as_slice(), text.as_bytes()].concat()), &mut out);
            }
        }
        out
    }

    /// Returns the command that runs the server, with what it needs in the folder.
    pub fn command(self, folder: &Path) -> Result<Command, String> {
        let written = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display())).map(|()| file)
        };
        let modules = std::env::var_os("RACERD_NODE_PATH").map(PathBuf::from).unwrap_or_default();
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hostile/peers");
        let mut command;
        match self {
            Peer::Racerd => return Err("racerd is started with its settings".to_owned()),
            Peer::Ws => {
                command = Command::new("node");
                command.arg(programs.join("ws.mjs")).arg(PORT.to_string());
            }
            Peer::Bun => {
                command = Command::new(modules.join(".bin/bun"));
                command.arg("run").arg(programs.join("bun.mjs")).arg(PORT.to_string());
            }
            Peer::Mosquitto => {
                let file = written("mosquitto.conf", mosquitto_conf())?;
                command = Command::new("mosquitto");
                command.arg("-c").arg(file);
            }
            Peer::Nats => {
                let text =
                    format!("listen: \"127.0.0.1:4222\"\nwebsocket {{ host: \"::\", port: {PORT}, no_tls: true }}\n");
                command = Command::new("nats-server");
                command.arg("-c").arg(written("nats.conf", text)?);
            }
            Peer::Nchan => {
                let file = written("nchan.conf", nchan_conf())?;
                command = Command::new("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(file);
            }
        }
        Ok(command)
    }
}

/// Its WebSockets need a listener without them beside.
fn mosquitto_conf() -> String {
    format!(
        "allow_anonymous true\nset_tcp_nodelay true\nlistener 1883 127.0.0.1\n\
         listener {PORT}\nsocket_domain ipv4\nprotocol websockets\n"
    )
}

/// One process, so that its time is that of its loop.
fn nchan_conf() -> String {
    format!(
        "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;\n\
         daemon off;\nmaster_process off;\npid nchan.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 16000; }}\n\
         http {{ access_log off; server {{ listen [::]:{PORT}; location ~ ^/(.*)$ {{ nchan_pubsub websocket;\n\
         nchan_channel_id $1; nchan_message_buffer_length 200; nchan_subscriber_first_message newest; }} }} }}\n"
    )
}

/// Returns the address of version 4 that a party has beside its own.
pub fn version_4(address: Ipv6Addr) -> Ipv4Addr {
    let [site, network] = [address.segments()[2].to_be_bytes(), address.segments()[3].to_be_bytes()];
    Ipv4Addr::new(10, site[0], site[1], 1 + network[1])
}

/// A string of MQTT (MQTT 3.1.1 §1.5.3).
fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// A packet of MQTT with its length (MQTT 3.1.1 §2.2.3).
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut length = body.len();
    loop {
        let rest = length >> 7;
        out.push((length & 0x7f) as u8 | if rest > 0 { 0x80 } else { 0 });
        length = rest;
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

/// Returns the numbers that stand between two `@` in what a client heard.
pub fn numbers(text: &str) -> Vec<u64> {
    text.split('@').skip(1).step_by(2).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_their_length_in_groups_of_seven_bits() {
        assert_eq!(packet(0x30, &[7; 5])[..2], [0x30, 5]);
        assert_eq!(packet(0x30, &[7; 321])[..3], [0x30, 0xc1, 2]);
    }

    #[test]
    fn parties_differ_under_version_4_too() {
        let all = [wire::SERVER].into_iter().chain((0..wire::HONEST).map(wire::honest));
        let all: Vec<_> = all.chain((0..wire::ATTACKERS).map(wire::attacker)).map(version_4).collect();
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn numbers_are_found_in_what_surrounds_them() {
        assert_eq!(numbers("\0\u{8}observed@12@"), [12]);
        assert_eq!(numbers("@1@0\u{9}observed@2@"), [1, 2]);
        assert_eq!(numbers("nothing"), Vec::<u64>::new());
    }
}
