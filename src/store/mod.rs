//! The log: append, read, head. Requests in, events out.

mod request;

pub use request::*;
