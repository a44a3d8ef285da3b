//! The chat behind the connections: requests to the hub and the store, and their answers back. The order of things is
//! here and in the hub, once: committed, then acknowledged, then fanned out.

#[allow(clippy::module_inception)]
mod chat;
mod encoding;
mod http;
mod outbox;
mod requests;
mod sealed;
mod sessions;
mod streams;
#[cfg(test)]
mod tests;

pub use chat::{Chat, ChatLimits, Limits, Secrets};
