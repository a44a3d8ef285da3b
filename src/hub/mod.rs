//! The hub: rooms, members, sessions, and delivery by cursor. Pure: it is fed (`handle_*`) and drained (`poll_*`,
//! `end_turn`), and knows clients through [`Clients`] only: no socket, no JSON, no clock, no file.
//!
//! A room is in the map from the first join to the last leave and no longer. The join itself makes the map's entry, so
//! that two requests for one id meet the same entry. Every member has a cursor, the last seq queued to it. Fan-out
//! gives seq n to cursor n-1 only; a member further back reads the log until it is live.

mod agenda;
mod answers;
mod catch_up;
mod clients;
mod fan_out;
mod fingerprint;
mod headcount;
#[allow(clippy::module_inception)]
mod hub;
mod limits;
mod log;
mod member;
mod presence;
mod reads;
mod removal;
mod requests;
mod rights;
mod room;
mod run;
mod session;
mod sessions;
mod tail;
#[cfg(test)]
mod tests;
mod turns;

pub use clients::{
    Broadcast, CaughtUp, Clients, Delivery, HubError, Live, Notice, PresenceEvent, PresenceKind, Present, Removed,
    Roster,
};
pub use hub::{Hub, MEMBERSHIP_BYTES};
pub use limits::HubLimits;
pub use requests::{Cursor, Entry, Presence, Said, Start};
pub use session::{Became, SESSION_BYTES, Session};
pub use sessions::Resumed;
