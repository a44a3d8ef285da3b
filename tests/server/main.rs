//! Tests of the real binary over real sockets. One file for each concern; `support` starts servers and speaks the
//! protocols by hand, byte for byte.

mod access;
mod handshake;
mod http;
mod rooms;
mod support;
