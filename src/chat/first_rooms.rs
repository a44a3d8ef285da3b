//! The rooms on which sockets were opened: a request that names no room means the one in its socket's URL.

use crate::types::{ConnId, RoomId};

/// Bytes of one socket's entry, with the table's spare capacity. The id's text is shared with the membership, which
/// counts it.
pub const FIRST_ROOM_BYTES: usize = 2 * size_of::<Option<RoomId>>();

/// Holds the room in the URL of each open socket, by the connection's index.
///
/// Entries need no generation: every upgrade overwrites the entry of its index, and only open sockets are looked up.
#[derive(Debug, Default)]
pub struct FirstRooms {
    by_index: Vec<Option<RoomId>>,
}

impl FirstRooms {
    /// Sets the room on which a socket was opened, if it was opened on one.
    pub fn set(&mut self, conn: ConnId, room: Option<RoomId>) {
        let index = conn.index as usize;
        match self.by_index.get_mut(index) {
            Some(entry) => *entry = room,
            None if room.is_some() => {
                self.by_index.resize(index, None);
                self.by_index.push(room);
            }
            None => {}
        }
    }

    /// Returns the room on which this open socket was opened.
    pub fn get(&self, conn: ConnId) -> Option<&RoomId> {
        self.by_index.get(conn.index as usize)?.as_ref()
    }

    /// Forgets the room of a socket that is gone.
    pub fn remove(&mut self, conn: ConnId) {
        self.set(conn, None);
    }

    /// Returns how many rooms are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_index.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_used_again_has_the_room_of_its_last_socket() {
        let mut rooms = FirstRooms::default();
        let room = RoomId::parse("r");
        let conn = |generation| ConnId { index: 5, generation };
        rooms.set(conn(1), room.clone());
        assert_eq!((rooms.get(conn(1)), rooms.len()), (room.as_ref(), 1));
        rooms.set(conn(2), None);
        assert_eq!((rooms.get(conn(2)), rooms.len()), (None, 0));
        rooms.set(conn(3), room);
        rooms.remove(conn(3));
        assert_eq!(rooms.len(), 0);
        rooms.set(ConnId { index: 9, generation: 1 }, None);
        assert_eq!(rooms.get(ConnId { index: 9, generation: 1 }), None);
    }
}
