//! What one asks of the store and what it answers. Plain values: the pure parts use them, too.

use crate::types::{Author, Body, ConnId, Digest, MemberId, Message, Name, RoomId, Seq, SessionId, WallMillis};

/// Where an answer belongs. The store hands it back untouched; late and repeated answers are legal, so whoever takes
/// one compares the connection's generation and the tag before acting on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub conn: ConnId,
    pub purpose: Purpose,
    /// The asker's own number: a request id, a visit to a room.
    pub tag: u64,
}

/// What the asker wanted the answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A `send` over a socket; the tag is the request's id, [`NO_ID`] where it had none.
    Send,
    /// A POST.
    Publish,
    /// A member joins or catches up; the tag is its visit.
    Deliver,
    /// A `history` request; the tag is the request's id.
    History,
    /// A GET of a room's messages.
    Browse,
    /// A `resume`; the tag is the request's id.
    Resume,
    /// A `signal` with an encrypted body; the tag is the request's id.
    Signal,
}

/// The tag of a request without an id. Ids on the wire end at 2^53.
pub const NO_ID: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    Append(Append),
    Read(Read),
    /// Keep this session, instead of what is kept of it. No answer: it is committed in order with the appends before it,
    /// and lost as in a crash where the store fails for longer than the server runs.
    Park(Parked),
    Claim(Claim),
    Seek(Seek),
}

/// Store this message as its room's next. Answered by exactly one [`Appended`], in the order of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    pub ticket: Ticket,
    pub room: RoomId,
    pub author: Author,
    /// The idempotency key, if the sender gave one.
    pub key: Option<ScopedKey>,
    pub body: Body,
    /// The digest of an encrypted body: it is refused if another kept message of the room has the same, whoever sent it.
    pub sealed: Option<Digest>,
    /// The wall clock now. The stored stamp is [`WallMillis::stamp_after`] the room's last.
    pub at: WallMillis,
}

/// A key counts per room and scope, so that nobody can take another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopedKey {
    pub scope: Scope,
    pub key: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// A session's own: its last 64 keys in the room are kept.
    Session(SessionId),
    /// Shared by all POSTs without an identity: the last 100,000 in the room are kept.
    Common,
}

/// What is kept of a session that nobody is attached to: for `park_for`, in the server's own running seconds, and at
/// most `parked_max` of them, of which the oldest go first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parked {
    pub session: SessionId,
    pub member: MemberId,
    pub name: Name,
    /// The highest generation of its token that was presented.
    pub generation: u32,
    /// The rooms that it is in, each with the last seq queued to it there.
    pub rooms: Vec<(RoomId, Seq)>,
}

/// Take a session out of what is parked. Answered by exactly one [`Claimed`], which knows every [`Parked`] submitted
/// before, or by [`StoreEvent::ClaimFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub ticket: Ticket,
    pub session: SessionId,
}

/// Ask whether a kept message of the room has this sealed body. Answered by exactly one [`Sought`], which knows every
/// append submitted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    pub ticket: Ticket,
    pub room: RoomId,
    /// The digest of the body.
    pub sealed: Digest,
    /// What the asker does with the answer's help; handed back untouched.
    pub body: Body,
}

/// Which part of a room's log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// The oldest messages after this seq.
    After(Seq),
    /// The newest messages before this seq.
    Before(Seq),
    /// The newest messages.
    Newest,
}

/// Read one page. Answered by exactly one [`Page`] or [`ReadFailed`]; answers to reads and appends may overtake each
/// other. A limit of 0 asks for head and oldest only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    pub ticket: Ticket,
    pub room: RoomId,
    pub span: Span,
    /// At most this many messages ...
    pub limit: u32,
    /// ... and at most this many bytes of bodies, though always one message where there is one.
    pub bytes: u32,
    /// The head that the asker knew.
    pub upto: Seq,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A batch was decided: in the order of the appends.
    Appended(Vec<Appended>),
    Page(Page),
    ReadFailed(ReadFailed),
    /// Why a read failed, for the log: the answer itself is a [`ReadFailed`]. Appends go on.
    Unreadable(String),
    /// The database is damaged, or a read of it failed; an [`Unreadable`](StoreEvent::Unreadable) says where. Appends go on.
    Damaged,
    Claimed(Claimed),
    /// The store could not look or could not write, so the row, if there is one, is still parked. The client may ask
    /// again, or the server go on with what the token says.
    ClaimFailed {
        ticket: Ticket,
        session: SessionId,
    },
    Sought(Sought),
    /// Something that an operator should read, once, in the log.
    Remark(String),
    /// Something that stays so for a while, for the log and `/readyz`, though appends are taken; `None`: not any more.
    Note {
        about: About,
        text: Option<String>,
    },
    /// Appends succeed again, or fail and why. Sent on each change, before the appends that failed are answered.
    Available(Result<(), Outage>),
    /// The store's thread ended and will answer nothing more.
    Died(String),
}

/// Why the store does not do what it was asked, for everybody: without paths and names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Why {
    /// It did not say.
    #[default]
    Unknown,
    DiskFull,
    /// The system lets the database's files grow no further.
    FileSize,
    /// The database has reached the size that it may have.
    AtBound,
    NotWritable,
    /// Another program holds the database.
    Busy,
    Damaged,
    /// The disk reports errors.
    Disk,
    /// The database's file was deleted or replaced.
    Gone,
    /// The store's thread ended.
    Ended,
}

impl Why {
    pub fn text(self) -> &'static str {
        match self {
            Why::Unknown => "the store does not answer",
            Why::DiskFull => "the server's disk is full",
            Why::FileSize => "the server's database has met the system's limit of file sizes",
            Why::AtBound => "the server's database has reached max_database_size",
            Why::NotWritable => "the server's database cannot be written to",
            Why::Busy => "another program on the server holds the database",
            Why::Damaged => "the server's database is damaged",
            Why::Disk => "the server's disk reports errors",
            Why::Gone => "the server's database file was deleted or replaced",
            Why::Ended => "the server's store has ended",
        }
    }
}

/// Appends fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    pub why: Why,
    /// What happened, where, and what to do; for the log.
    pub detail: String,
}

/// What a note of the store is about; there is one about each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A damaged database lies beside the one in use.
    Damaged,
    /// Something stored cannot be read.
    Unreadable,
    /// The wall clock is not believed.
    Clock,
    /// A log in memory takes no further room.
    Rooms,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Appended {
    pub ticket: Ticket,
    pub room: RoomId,
    /// Bytes of the body, given back for the account of what is waiting.
    pub bytes: usize,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Stored(Message),
    /// The key was seen before, with the same body: this is where the first one went.
    Duplicate {
        seq: Seq,
        at: WallMillis,
    },
    /// The key was seen before, with another body.
    KeyReused,
    /// A kept message of the room has the same sealed body. Nothing was stored.
    BodyReused,
    /// The database has reached the size that it may have, and nothing may go to make room. Nothing was stored.
    Full,
    /// The log in memory has as many rooms as it takes, and this would be one more. Nothing was stored.
    RoomsFull {
        limit: usize,
    },
    /// Not acknowledged; perhaps stored. Sending it again with the same key is harmless.
    Unavailable,
}

/// One page of a room's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    pub ticket: Ticket,
    pub room: RoomId,
    pub span: Span,
    /// In rising order of seq, without a gap.
    pub messages: Vec<Message>,
    /// The oldest seq that is still kept; the head's successor where none is.
    pub oldest: Seq,
    /// The room's last seq when the page was read; 0 for a room that never had a message.
    pub head: Seq,
    /// More messages lie beyond this page, in the direction of the reading.
    pub more: bool,
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

/// Whether a sealed body is in the room's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nowhere,
    /// A kept message has it.
    Kept,
    /// The store could not look.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub ticket: Ticket,
    pub session: SessionId,
    /// `None` where nothing is parked under this id, or not any more.
    pub parked: Option<Parked>,
}
