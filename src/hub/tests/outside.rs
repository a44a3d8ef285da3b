//! Clients outside any session, which POST.

use super::world::{World, name};
use crate::store::{Append, NO_ID, Purpose, Scope, ScopedKey, Ticket};
use crate::types::{Author, Body, ConnId, IdempotencyKey, RoomId, WallMillis};

impl World {
    /// Publishes a message from outside any session.
    pub fn publish(&mut self, room: &RoomId) {
        self.next_body += 1;
        let body = Body::checked(self.next_body.to_string().into());
        self.publish_body(room, body);
    }

    pub fn publish_body(&mut self, room: &RoomId, body: Body) {
        self.publish_as(room, None, body);
    }

    /// Publishes with a key of its own.
    pub fn publish_key(&mut self, room: &RoomId, body: &str, key: &str) {
        let key = ScopedKey { scope: Scope::Common, key: IdempotencyKey::of(key.as_bytes()) };
        self.publish_as(room, Some(key), Body::checked(body.into()));
    }

    fn publish_as(&mut self, room: &RoomId, key: Option<ScopedKey>, body: Body) {
        self.hub.handle_publish(Append {
            ticket: Ticket::new(ConnId { index: 0, generation: 0 }, Purpose::Publish, NO_ID),
            room: room.clone(),
            author: Author { member: None, name: name("outside") },
            key,
            body,
            sealed: None,
            era: None,
            at: WallMillis(0),
        });
    }
}
