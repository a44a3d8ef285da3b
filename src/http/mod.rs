//! HTTP/1.1, the server's side: bytes <-> values. Knows no socket, clock or route: what a path means is for `api`, when
//! to read and close is for `conn`.
//!
//! In: [`head::HeadScan`] finds the end of a request's head, [`request`] reads it, with [`headers`], [`target`] and
//! [`framing`] (where the body ends, whether the connection stays). [`hosts`] and [`authority`] say who may ask,
//! [`forwarded`] for whom a proxy asks. Out: [`response`] and, for every refusal, [`problem`]; [`event_stream`] for a
//! body without an end. What is not plainly right is refused, never repaired: two readers of one request who disagree
//! about it are how requests are smuggled (RFC 9112 §11.2).

pub mod authority;
pub mod event_stream;
pub mod forwarded;
pub mod framing;
pub mod head;
pub mod headers;
pub mod hosts;
pub mod limits;
pub mod method;
pub mod problem;
pub mod request;
pub mod response;
pub mod status;
pub mod target;
