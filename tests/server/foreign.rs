//! Clients that others have written: Python's websockets and Node's ws, in one room.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::*;

fn environment(name: &str) -> String {
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
    // They closed in order, with a code of theirs.
    eventually("four closed in order", || server.log().matches("closed by the peer with 4321").count() == 4);
    let kept: Vec<Value> = server.history("foreign").iter().map(|m| m["body"].clone()).collect();
    assert!(kept.iter().eq(heard[0].as_array().unwrap().iter().map(|message| &message[2])));
}
