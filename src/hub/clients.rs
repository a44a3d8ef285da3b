//! The interface between rooms and clients. A room never learns whether a client is a WebSocket, an event stream or a
//! test.

use core::ops::Range;

use crate::access::Denied;
use crate::store::Page;
use crate::types::{Author, Body, ConnId, Epoch, MemberId, Message, Name, RoomId, Seq, WallMillis, size};

/// All clients. One value stands for all of them, so that a member needs no pointer.
pub trait Clients {
    /// The result of [`Clients::encode`]: bytes that all recipients share.
    type Frames<'a>;

    /// Encodes a broadcast once for each encoding in use, however many recipients there are.
    fn encode<'a>(&mut self, room: &'a RoomId, epoch: &'a Epoch, broadcast: Broadcast<'a>) -> Self::Frames<'a>;

    /// Queues items `part` of encoded frames (presence and members are one item). Queues nothing if it returns
    /// [`Delivery::Full`]. A client that is gone takes everything.
    fn deliver(&mut self, client: ConnId, frames: &Self::Frames<'_>, part: Range<usize>) -> Delivery;

    /// Queues a notice for this client only.
    fn tell(&mut self, client: ConnId, notice: Notice<'_>);

    /// Queues messages of the log for one client that has room. They follow one another, and are of this `stay` of a
    /// room.
    fn catch_up(&mut self, client: ConnId, stay: u32, epoch: &Epoch, messages: &[Message]) -> CaughtUp;

    /// Returns whether the client's queue has room for one more page. If not, call `Hub::handle_drained` once it has.
    fn has_room(&mut self, client: ConnId) -> bool;
}

/// The result of [`Clients::catch_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The number of messages that are queued, from the first: at least one. There are fewer than there could be where
    /// the others begin a page that other members read, too.
    pub messages: usize,
    /// Its cost, in deliveries.
    pub work: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Taken,
    Full,
}

/// What is sent to a whole room.
#[derive(Clone, Copy, Debug)]
pub enum Broadcast<'a> {
    Live(&'a [Live]),
    Presence { count: usize, events: &'a [PresenceEvent] },
    Members(Roster<'a>),
}

/// A message or signal, in its place in the room's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Live {
    Message(Message),
    /// Not stored, without a seq, and not delivered to its sender.
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

    /// Returns about how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        match self {
            Live::Message(Message { author, body, .. }) | Live::Signal { from: author, body } => {
                size::on_wire(author, body)
            }
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
    /// Its client dropped and may resume.
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

/// A room's members: their count, and as many of them by name as fit a page.
#[derive(Clone, Copy, Debug)]
pub struct Roster<'a> {
    pub count: usize,
    pub members: &'a [Present],
    pub more: bool,
}

/// What is sent to one client. `id` repeats the request's.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    Joined {
        id: Option<u64>,
        room: &'a RoomId,
        epoch: &'a Epoch,
        head: Seq,
        /// The first seq of the member's stream.
        from: Seq,
        /// Whether the log reaches back to the cursor that the join named.
        recovered: bool,
        /// The cursor that the join named, if it was of this epoch.
        after: Option<Seq>,
        members: usize,
    },
    Left {
        id: Option<u64>,
        room: &'a RoomId,
        /// Why the room was left, if its client did not ask to leave.
        removed: Option<Removed>,
    },
    Ack {
        id: Option<u64>,
        room: &'a RoomId,
        seq: Seq,
        at: WallMillis,
        duplicate: bool,
    },
    /// The page that a `history` or GET requested; its ticket says which.
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
        epoch: &'a Epoch,
        after: Seq,
        from: Seq,
    },
    Refused {
        id: Option<u64>,
        error: HubError,
    },
}

/// Why a member was taken out of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It may no longer read the room.
    Forbidden,
}

/// Why the hub refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubError {
    /// The session's client may not do this in the room.
    Denied(Denied),
    AlreadyJoined,
    NotJoined,
    /// The session is in `limit` rooms already.
    TooManyRooms {
        limit: usize,
    },
    /// The store failed; nothing is acknowledged.
    StorageUnavailable,
    /// The database has reached its limit; nothing is stored.
    StorageFull,
    /// The database is nearly full, and this sender has written more than its share.
    OverShare,
    /// The log has reached its limit of rooms; nothing is stored.
    RoomsFull {
        limit: usize,
    },
    /// Its sender, or all together, make rooms too fast; nothing is stored.
    TooManyNew {
        retry_after_ms: u32,
    },
    /// The idempotency key was used for another body.
    KeyReused,
    /// A message that the room keeps has the same sealed body.
    BodyReused,
    /// A later generation of the session's token was presented, or the socket has joined a room already.
    NotResumable,
    /// The session has ended.
    SessionEnded,
    /// No server has issued the token.
    UnknownToken,
}
