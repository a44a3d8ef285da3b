//! Third-party clients: Python's websockets and Node's ws, in one room; Node's eventsource.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::*;

pub fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run tests/run, or `eval \"$(tests/run --env)\"` before cargo test")
    })
}

#[test]
fn python_and_node_talk_to_each_other() {
    let server = Server::start(&[]);
    let (python, modules) = (environment("RACERD_PYTHON"), environment("RACERD_NODE_PATH"));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign");
    let talk = |name: &str, script: &str, program: &str| {
        Command::new(program)
            .arg(format!("{folder}/{script}"))
            .args([format!("ws://{}", server.address), "foreign".into(), name.into(), "4".into()])
            .env("RACERD_NODE_PATH", &modules)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; run tests/run, which installs it"))
    };
    let clients = [
        ("py1", talk("py1", "talk.py", &python)),
        ("py2", talk("py2", "talk.py", &python)),
        ("js1", talk("js1", "talk.mjs", "node")),
        ("js2", talk("js2", "talk.mjs", "node")),
    ];
    let heard = clients.map(|(name, client)| {
        let output = client.wait_with_output().expect("a client");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let heard: Value = serde_json::from_slice(&output.stdout).expect("what it heard");
        heard
    });
    let seqs: Vec<&Value> = heard[0].as_array().unwrap().iter().map(|message| &message[0]).collect();
    assert_eq!(json!(seqs), json!((1..=12).collect::<Vec<_>>()));
    assert!(heard.iter().all(|other| *other == heard[0]), "the same, in the same order");
    // The clients closed cleanly, with a code of their own.
    eventually("four closed in order", || server.log().matches("closed by the peer with 4321").count() == 4);
    let kept: Vec<Value> = server.history("foreign").iter().map(|m| m["body"].clone()).collect();
    assert!(kept.iter().eq(heard[0].as_array().unwrap().iter().map(|message| &message[2])));
}

/// An event stream client that reconnects by itself, as browsers do, misses nothing over a restart and gets nothing
/// twice.
#[test]
fn an_event_source_goes_on_by_itself() {
    let mut server = Server::start(&[]);
    assert_eq!(server.post("/rooms/r/messages", "0").status, 201);
    let mut child = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/events.mjs"))
        .arg(format!("http://{}/rooms/r/events?last=1", server.address))
        .env("RACERD_NODE_PATH", environment("RACERD_NODE_PATH"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node; run tests/run, which installs it");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("the client goes on").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next(), json!(["joined", true]));
    assert_eq!(next(), json!(["message", 0]));
    assert_eq!(server.post("/rooms/r/messages", "[1,\n\n2,\r\n3,\r4]").status, 201);
    assert_eq!(next(), json!(["message", [1, 2, 3, 4]]));
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(next(), json!(["bye", null]));
    server.restart();
    for body in ["\"while it was away\"", "\"end\""] {
        assert_eq!(server.post("/rooms/r/messages", body).status, 201);
    }
    assert_eq!(next(), json!(["joined", true]));
    assert_eq!(next(), json!(["message", "while it was away"]));
    assert_eq!(next(), json!(["message", "end"]));
    assert!(child.wait().expect("a child").success());
}
