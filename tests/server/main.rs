//! Tests of the real binary over real sockets. One file for each concern; `support` starts servers and speaks the
//! protocols by hand, byte for byte.

mod access;
mod activation;
mod at_rest;
mod between;
mod client;
mod clock;
mod closing;
mod command;
mod completion;
mod copies;
mod damaged;
mod dates;
mod encrypted;
mod event_stream;
mod events;
mod flood;
mod foreign;
mod forwarded;
mod frames;
mod full;
mod handshake;
mod history;
mod hostile;
mod http;
mod json;
mod keeping;
mod lifecycle;
mod listening;
mod memory;
#[cfg(feature = "tls")]
mod named_files;
mod older;
#[cfg(feature = "tls")]
mod own_certificate;
mod packaging;
mod page;
mod people;
mod proxies;
mod rates;
mod refusals;
mod restart;
mod rooms;
mod sandbox;
mod sealed;
mod settings;
mod signals;
mod slow;
mod stopping;
mod storage;
mod support;
mod timers;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_files;
mod transcripts;
