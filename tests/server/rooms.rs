//! Rooms over real sockets: the promises that a user sees.

use serde_json::json;

use crate::support::*;

#[test]
fn two_clients_talk_and_a_restart_keeps_the_talk() {
    let mut server = Server::start(&[]);
    let mut ann = server.member("lobby", "ann");
    let mut bob = server.member("lobby", "bob");
    let ack = ann.say(1, json!("hello"));
    assert_eq!(ack["seq"], 1);
    for client in [&mut ann, &mut bob] {
        let message = client.next_of("message");
        assert_eq!(
            (&message["seq"], &message["body"], &message["from"]["name"]),
            (&json!(1), &json!("hello"), &json!("ann"))
        );
    }
    assert_eq!(server.stop().code(), Some(0));
    server.restart();
    let mut ann = server.client("/rooms/lobby/ws?name=ann&last=10");
    assert_eq!(ann.next_of("joined")["head"], 1);
    assert_eq!(ann.next_of("message")["body"], "hello");
}
