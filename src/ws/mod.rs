//! (being written)

pub mod handshake;
