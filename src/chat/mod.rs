//! The chat behind the connections: it takes requests to the hub and the store, and their answers back. Only here and
//! in the hub is the order decided: a message is committed, then acknowledged, then delivered.

#[allow(clippy::module_inception)]
mod chat;
mod claims;
mod encoding;
mod entering;
mod first_rooms;
mod growth;
mod http;
mod outbox;
mod pages;
mod postponed;
mod requests;
mod sealed;
mod sessions;
mod shares;
mod sites;
mod streams;
#[cfg(test)]
mod tests;

pub use chat::{Chat, ChatLimits, Limits, Secrets};
pub use first_rooms::FIRST_ROOM_BYTES;
pub use shares::RoomRates;
