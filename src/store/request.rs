//! Requests to the store and its answers. Plain values, so that the pure modules can use them, too.

use super::standing::{Mark, Standing};
use crate::types::{
    Author, Body, ConnId, Digest, Era, IdempotencyKey, MemberId, Message, Name, RoomId, Seq, SessionId, WallMillis,
};

/// Identifies the caller of a request. The store returns it unchanged. Answers may come late or twice, so the receiver
/// compares the connection's generation and the tag before acting on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub conn: ConnId,
    pub purpose: Purpose,
    /// The caller's own number: a request id, or a visit to a room.
    pub tag: u64,
    /// The caller's number of who pays for what waits for the store; [`NOBODY`] where nobody does.
    pub payer: u32,
    /// Whether an append may make its room. This and `needs` are all of a ticket that the store looks at.
    pub making: Making,
    /// Bytes that must be left in the database for an append to be within its payer's share of the disk; 0 if its payer
    /// has none.
    pub needs: u64,
}

/// Whether an append may make its room, if it turns out to be the room's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Making {
    /// It may, and that has no rate: the room is known to exist.
    Free,
    /// It may, within its payer's rate.
    Counted,
    /// It may not: its payer makes rooms too fast. The milliseconds until it may make one more.
    Refused { wait: u32 },
}

/// The payer of a request that takes no place at the store.
pub const NOBODY: u32 = u32::MAX;

impl Ticket {
    /// Returns the ticket of a request for which nobody pays.
    pub fn new(conn: ConnId, purpose: Purpose, tag: u64) -> Ticket {
        Ticket { conn, purpose, tag, payer: NOBODY, making: Making::Free, needs: 0 }
    }

    pub fn paid_by(self, payer: u32) -> Ticket {
        Ticket { payer, ..self }
    }

    pub fn making(self, making: Making) -> Ticket {
        Ticket { making, ..self }
    }

    pub fn needing(self, needs: u64) -> Ticket {
        Ticket { needs, ..self }
    }

    /// Returns whether the append may not make its room.
    pub fn makes_nothing(&self) -> bool {
        matches!(self.making, Making::Refused { .. })
    }
}

/// The purpose for which the caller needs the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A `send` over a socket; the tag is the request's id, [`NO_ID`] without one.
    Send,
    /// A POST.
    Publish,
    /// A member joins or catches up; the tag is the number of its visit.
    Deliver,
    /// A `history` request; the tag is the request's id.
    History,
    /// A GET of a room's messages.
    Browse,
    /// A `resume`; the tag is the request's id.
    Resume,
    /// The end of a session, whose closing frame waits.
    End,
    /// A `signal` with an encrypted body; the tag is the request's id.
    Signal,
}

/// The tag of a request without an id. Ids on the wire end at 2^53.
pub const NO_ID: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    Append(Append),
    Read(Read),
    /// Stores a session, replacing an earlier record of it. Not answered: it is committed in order with the appends
    /// before it. If the store fails until the server stops, it is lost as in a crash.
    Park(Parked),
    Claim(Claim),
    /// Records what became of a session. If it has an asker, answered by exactly one [`StoreEvent::Marked`]: once it is
    /// committed, or cannot be for now. It is tried again with later commits then, as a [`Parked`] is.
    Mark(Mark),
    Seek(Seek),
    /// Notes that a room has members. Not answered.
    Use(RoomId),
    /// Removes a room that the store has proposed in [`StoreEvent::Unused`], if that still may be. Answered by exactly
    /// one [`Removed`].
    Remove(RoomId),
}

/// Stores a message as its room's next. Answered by exactly one [`Appended`], in the order of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    pub ticket: Ticket,
    pub room: RoomId,
    pub author: Author,
    /// The idempotency key, if the sender sent one.
    pub key: Option<ScopedKey>,
    pub body: Body,
    /// The digest of an encrypted body. The message is refused if a stored message of the room has the same digest,
    /// from any sender.
    pub sealed: Option<Digest>,
    /// What the members of the room were told, in case this is its first message. `None` if nobody was told anything.
    pub era: Option<Era>,
    /// The current wall clock. The stored timestamp is [`WallMillis::stamp_after`] the room's last.
    pub at: WallMillis,
}

/// An idempotency key with its scope. Keys are separate for each room and scope, so that nobody can use up another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopedKey {
    pub scope: Scope,
    pub key: IdempotencyKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One session's keys: its last 64 in the room are kept.
    Session(SessionId),
    /// The keys of all POSTs without an identity: at least the last 100,000 in the room are kept.
    Common,
}

/// A session that no connection is attached to. It is kept for `park_for`, in the server's own running seconds; beyond
/// `parked_max` sessions the oldest are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parked {
    pub session: SessionId,
    pub member: MemberId,
    pub name: Name,
    /// The highest generation of its token that a client has presented.
    pub generation: u32,
    /// Its rooms, each with the last seq queued to it there.
    pub rooms: Vec<(RoomId, Seq)>,
}

/// Removes a parked session and returns it. Answered by exactly one [`Claimed`], which reflects every [`Parked`] and
/// [`Mark`] submitted before, or by [`StoreEvent::ClaimFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub ticket: Ticket,
    pub session: SessionId,
}

/// Asks whether a stored message of the room has this sealed body. Answered by exactly one [`Sought`], which reflects
/// every append submitted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    pub ticket: Ticket,
    pub room: RoomId,
    /// The digest of the body.
    pub sealed: Digest,
    /// The body, returned unchanged for the caller to use.
    pub body: Body,
}

/// The part of a room's log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// The oldest messages after this seq.
    After(Seq),
    /// The newest messages before this seq.
    Before(Seq),
    /// The newest messages.
    Newest,
}

/// Reads one page. Answered by exactly one [`Page`] or [`ReadFailed`]. Answers to reads and appends may overtake each
/// other. A limit of 0 asks for head and oldest only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    pub ticket: Ticket,
    pub room: RoomId,
    pub span: Span,
    /// Maximum number of messages ...
    pub limit: u32,
    /// ... and of bytes of bodies. A page that can have a message always has at least one.
    pub bytes: u32,
    /// The head that the caller knew.
    pub upto: Seq,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A batch was decided; the answers are in the order of the appends.
    Appended(Vec<Appended>),
    Page(Page),
    ReadFailed(ReadFailed),
    /// The reason why a read failed, for the log; the answer itself is a [`ReadFailed`]. Appends still work.
    Unreadable(String),
    /// The database is damaged, or a read of it failed; an [`Unreadable`](StoreEvent::Unreadable) says where. Appends
    /// still work.
    Damaged,
    Claimed(Claimed),
    /// The store could not read or write, so the session is still parked if it was. The client may ask again, or the
    /// server may continue with the data in the token.
    ClaimFailed {
        ticket: Ticket,
        session: SessionId,
        /// What is known of the session all the same.
        standing: Option<Standing>,
    },
    /// The answer to a [`Mark`].
    Marked(Ticket),
    Sought(Sought),
    /// Rooms without messages that nobody has used for long, as far as the store knows. They may be removed.
    Unused(Vec<RoomId>),
    Removed(Removed),
    /// A line for the operator, written to the log once.
    Remark(String),
    /// A lasting condition that does not stop appends, for the log and `/readyz`. Without a text it is over.
    Note {
        about: About,
        text: Option<String>,
    },
    /// Appends succeed again, or fail, with the reason. Sent at each change, before the failed appends are answered.
    Available(Result<(), Outage>),
    /// The store's thread ended and will answer nothing more.
    Died(String),
}

/// The reason why the store refuses or fails, which everyone may see: without paths and names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Why {
    /// The reason is not known.
    #[default]
    Unknown,
    DiskFull,
    /// The system's file size limit is reached.
    FileSize,
    /// The database has reached its maximum size.
    AtBound,
    NotWritable,
    /// Another program has the database locked.
    Busy,
    /// Another program holds a read of the database open, so that what is written piles up beside it.
    HeldOpen,
    Damaged,
    /// The disk reports errors.
    Disk,
    /// The database's file was deleted or replaced.
    Gone,
    /// The store's thread has ended.
    Ended,
}

impl Why {
    /// Returns the sentence that clients are shown.
    pub fn text(self) -> &'static str {
        match self {
            Why::Unknown => "the store does not answer",
            Why::DiskFull => "the server's disk is full",
            Why::FileSize => "the server's database has reached the system's file size limit",
            Why::AtBound => {
                "the server's database has reached max_database_size; its operator can raise that, let old messages expire \
                 (keep_messages, keep_for), or free disk space"
            }
            Why::NotWritable => "the server's database cannot be written to",
            Why::HeldOpen => "another program on the server holds a read of the database open",
            Why::Busy => "another program on the server has the database locked",
            Why::Damaged => "the server's database is damaged",
            Why::Disk => "the server's disk reports errors",
            Why::Gone => "the server's database file was deleted or replaced",
            Why::Ended => "the server's store has ended",
        }
    }
}

/// A period in which appends fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    pub why: Why,
    /// What happened, where, and what to do; for the log.
    pub detail: String,
}

/// The subject of a note; there is at most one note about each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A damaged database lies beside the one in use.
    Damaged,
    /// Some stored data cannot be read.
    Unreadable,
    /// The wall clock is not trusted.
    Clock,
    /// The log accepts no further room.
    Rooms,
    /// Whoever has written more than their share of the database is refused, since it is nearly full.
    Shares,
    /// The database's write-ahead log is long.
    Wal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Appended {
    pub ticket: Ticket,
    pub room: RoomId,
    /// Size of the body in bytes, for the caller's count of pending bytes.
    pub bytes: usize,
    /// That of the room; `None` if nothing was found or stored.
    pub era: Option<Era>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Stored(Message),
    /// The key was used before, with the same body; this is the position of the first message.
    Duplicate {
        seq: Seq,
        at: WallMillis,
    },
    /// The key was used before, with another body.
    KeyReused,
    /// A stored message of the room has the same sealed body. Nothing was stored.
    BodyReused,
    /// The database has reached its maximum size, and no message may be deleted to make room. Nothing was stored.
    Full,
    /// The database is nearly full, no message may be deleted to make room, and the ticket's payer has written more
    /// than its share. Nothing was stored.
    OverShare,
    /// The log has its maximum number of rooms, and this would be one more. Nothing was stored.
    RoomsFull {
        limit: usize,
    },
    /// The room does not exist, and the ticket says that this append may not make it. Nothing was stored.
    NotMade,
    /// Not acknowledged, but perhaps stored. Sending it again with the same key is safe.
    Unavailable,
}

/// One page of a room's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    pub ticket: Ticket,
    pub room: RoomId,
    pub span: Span,
    /// In ascending order of seq, without gaps.
    pub messages: Vec<Message>,
    /// The oldest seq still stored; the head's successor if none is.
    pub oldest: Seq,
    /// The room's last seq when the page was read; 0 for a room without any message yet.
    pub head: Seq,
    /// Whether there are more messages beyond this page, in the direction of reading.
    pub more: bool,
    /// That of the room; for a room without any message yet, that which its first one would give it.
    pub era: Era,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadFailed {
    pub ticket: Ticket,
    pub room: RoomId,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    pub ticket: Ticket,
    pub room: RoomId,
    pub body: Body,
    pub outcome: Found,
}

/// The answer to [`StoreRequest::Remove`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub room: RoomId,
    /// Whether the room is gone.
    pub is_gone: bool,
}

/// Whether a sealed body is in the room's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nowhere,
    /// A stored message has it.
    Kept,
    /// The store could not read.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub ticket: Ticket,
    pub session: SessionId,
    /// The session; `None` if none is parked under this id, or no longer.
    pub parked: Option<Parked>,
    /// What is known of its tokens.
    pub standing: Option<Standing>,
}
