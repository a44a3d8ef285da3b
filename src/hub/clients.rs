//! The seam between brokers and clients: what a room sees of those who listen to it. A room never learns whether a
//! WebSocket, an event stream or a test stands behind it.

use core::ops::Range;

use crate::store::Page;
use crate::types::{Author, Body, ConnId, Epoch, MemberId, Message, Name, RoomId, Seq, WallMillis};

/// Those who listen. One value stands for all of them, so that a member costs no pointer of its own.
pub trait Clients {
    /// What [`Clients::encode`] makes: bytes that every recipient shares.
    type Frames<'a>;

    /// Renders something that many will hear: once in each form that somebody takes it in, however many they are.
    fn encode<'a>(&mut self, room: &'a RoomId, broadcast: Broadcast<'a>) -> Self::Frames<'a>;

    /// Queues items `part` of what [`Clients::encode`] made (presence and members are one item). Nothing is queued
    /// where the answer is [`Delivery::Full`]. A client that is gone takes everything.
    fn deliver(&mut self, client: ConnId, frames: &Self::Frames<'_>, part: Range<usize>) -> Delivery;

    /// Queues something that only this client hears.
    fn tell(&mut self, client: ConnId, notice: Notice<'_>);

    /// Is there room for one more page in the client's queue? If not, the hub hears of it by `Hub::handle_drained`
    /// when there is.
    fn has_room(&mut self, client: ConnId) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Taken,
    Full,
}

/// Something that a whole room hears.
#[derive(Clone, Copy, Debug)]
pub enum Broadcast<'a> {
    Live(&'a [Live]),
    Presence { count: usize, events: &'a [PresenceEvent] },
    Members(Roster<'a>),
}

/// One thing said in a room, in its place in the room's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Live {
    Message(Message),
    /// Not stored, no seq, and not for the one who sent it.
    Signal {
        from: Author,
        body: Body,
    },
}

impl Live {
    pub fn body(&self) -> &Body {
        match self {
            Live::Message(message) => &message.body,
            Live::Signal { body, .. } => body,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PresenceEvent {
    pub kind: PresenceKind,
    pub member: MemberId,
    pub name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PresenceKind {
    Join,
    Leave,
    /// Its client dropped, and may come back.
    Away,
    Back,
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub member: MemberId,
    pub name: Name,
    pub away: bool,
}

/// A room's members: how many, and as many of them by name as a page holds.
#[derive(Clone, Copy, Debug)]
pub struct Roster<'a> {
    pub count: usize,
    pub members: &'a [Present],
    pub more: bool,
}

/// Something that one client hears. `id` is the request's, repeated.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    Joined {
        id: Option<u64>,
        room: &'a RoomId,
        epoch: &'a Epoch,
        head: Seq,
        /// The seq that the member's stream begins with.
        from: Seq,
        /// The log reaches back to the cursor that the join named.
        recovered: bool,
        /// The cursor that the join named, if it was of this epoch.
        after: Option<Seq>,
        members: usize,
    },
    Left {
        id: Option<u64>,
        room: &'a RoomId,
    },
    Ack {
        id: Option<u64>,
        room: &'a RoomId,
        seq: Seq,
        at: WallMillis,
        duplicate: bool,
    },
    /// What the log holds after a member's cursor.
    CatchUp {
        messages: &'a [Message],
    },
    /// The page that a `history` or a GET asked for; its ticket says which.
    Page {
        page: &'a Page,
    },
    Members {
        id: Option<u64>,
        room: &'a RoomId,
        roster: Roster<'a>,
    },
    Lagging {
        room: &'a RoomId,
        behind: u64,
    },
    Gap {
        room: &'a RoomId,
        after: Seq,
        from: Seq,
    },
    Refused {
        id: Option<u64>,
        error: HubError,
    },
}

/// Why the hub does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubError {
    AlreadyJoined,
    NotJoined,
    /// The session is in as many rooms as it may be.
    TooManyRooms {
        limit: usize,
    },
    /// The store failed; nothing is acknowledged.
    StorageUnavailable,
    /// The database has reached its bound; nothing is stored.
    StorageFull,
    /// The log in memory takes no further room; nothing is stored.
    RoomsFull {
        limit: usize,
    },
    /// The idempotency key was used for another body.
    KeyReused,
    /// A message that the room keeps has the same sealed body.
    BodyReused,
    /// A later generation of the session's token was presented, or the socket has joined a room already.
    NotResumable,
}
