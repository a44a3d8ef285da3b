//! HTTP/1.1, the server's side: bytes <-> values. Knows no socket, clock or route: `api` interprets paths, and `conn`
//! decides when to read and close.
//!
//! In: [`head::HeadScan`] finds the end of a request's head, [`request`] reads it, with [`headers`], [`target`] and
//! [`framing`] (where the body ends, whether the connection stays). [`hosts`] and [`authority`] decide who may ask,
//! [`forwarded`] finds the client behind a proxy. Out: [`response`] and, for every refusal, [`problem`];
//! [`event_stream`] for a body without an end. Input that is not plainly right is refused, never repaired: requests are
//! smuggled where two readers of one request disagree about it (RFC 9112 §11.2).

pub mod authority;
pub mod authorization;
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
