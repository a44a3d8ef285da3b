//! A build without TLS: the same names, but of uninhabited types, so that every branch for TLS is compiled out.

use std::convert::Infallible;
use std::net::SocketAddr;

use crate::config::Settings;
use crate::conn::WriteQueue;
use crate::engine::Now;
use crate::engine::Written;
use crate::server::log::Log;
use crate::server::received::Received;
use crate::server::sandbox::Admitted;
use crate::types::{Cause, Millis, Unusable, WallMillis};

/// Why a session cannot go on: impossible, as none can begin.
pub type Fault = Infallible;

pub enum TlsStream {}

#[derive(Default)]
pub struct Scratch {}

/// The certificates of listeners that speak TLS.
pub enum Tls {}

/// The fingerprints of a certificate that racerd made: none in this build.
pub struct Fingerprints {
    pub certificate: String,
    pub key: String,
    pub pin: String,
}

impl TlsStream {
    pub fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub fn growth(&mut self) -> i64 {
        match *self {}
    }

    pub fn wants_write(&self) -> bool {
        match *self {}
    }

    pub fn is_closed(&self) -> bool {
        match *self {}
    }

    pub fn read<'a, S>(&mut self, _: &mut S, _: &'a mut Scratch, _: usize, _: bool) -> Received<'a> {
        match *self {}
    }

    pub fn write<S>(&mut self, _: &mut S, _: &WriteQueue, _: &mut Scratch, _: &mut bool) -> Written {
        match *self {}
    }

    pub fn close<S>(&mut self, _: &mut S) -> bool {
        match *self {}
    }
}

impl Tls {
    /// Returns nothing, unless the settings ask for TLS.
    ///
    /// # Errors
    /// The settings ask for TLS: which setting, and what to do.
    pub fn load(settings: &Settings, _: &[SocketAddr], _: WallMillis) -> Result<Option<Tls>, Unusable> {
        Tls::check(settings).map(|()| None)
    }

    /// Refuses settings that ask for TLS.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn check(settings: &Settings) -> Result<(), Unusable> {
        let line = "this racerd was built without TLS; build it with the feature tls, which is on by default, or leave \
                    tls_cert and tls_self_signed out";
        if settings.tls.is_on() { Err(Unusable::new(Cause::Settings, line)) } else { Ok(()) }
    }

    pub fn sandboxed(&mut self, _: Admitted) {
        match *self {}
    }

    pub fn open(&self) -> Result<TlsStream, Fault> {
        match *self {}
    }

    pub fn deadline(&self) -> Millis {
        match *self {}
    }

    pub fn log_at_start(&mut self, _: Now, _: &Log) {
        match *self {}
    }

    pub fn look(&mut self, _: Now, _: &Log) -> bool {
        match *self {}
    }

    pub fn set_hosts(&mut self, _: &[String]) {
        match *self {}
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        std::iter::empty()
    }

    pub fn reload(&mut self, _: Now, _: &Log) {
        match *self {}
    }

    pub fn own_fingerprints(&self) -> Option<Fingerprints> {
        match *self {}
    }
}

/// Bytes of memory that TLS may take for one connection: none.
pub const WORST_BYTES: Option<usize> = None;
