//! Listeners passed in by the service manager (sd_listen_fds(3), a systemd socket unit): connections queue on them
//! while no server runs. The list is read from the environment, once, before there are threads; any descriptor that is
//! no TCP listener is refused, not worked around.

use std::env;
use std::net::TcpListener;

use listenfd::ListenFd;
use socket2::SockRef;

use super::tokens::LISTENERS;
use crate::types::{Cause, Reason, Unusable};

/// Takes the listeners that are meant for this process; none if none were passed, or if they were passed to another
/// process. They do not block, and no child inherits them. The variables are removed from the environment.
///
/// Must be called while there is one thread only, since it writes to the environment.
///
/// # Errors
/// One line that says which descriptor was passed, and what can be served.
pub fn given_listeners() -> Result<Vec<TcpListener>, Unusable> {
    let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    let Some(count) = env::var_os("LISTEN_FDS").filter(|_| is_ours) else { return Ok(Vec::new()) };
    let count = count.to_string_lossy();
    if !count.parse().is_ok_and(|count| (1..=LISTENERS).contains(&count)) {
        let line = format!("LISTEN_FDS={count}: write how many listeners are given, from 1 to {LISTENERS}");
        return Err(Unusable::new(Cause::Settings, line));
    }
    let mut given = ListenFd::from_env();
    (0..given.len()).map(|number| take(&mut given, number)).collect()
}

fn take(given: &mut ListenFd, number: usize) -> Result<TcpListener, Unusable> {
    let what = match given.take_tcp_listener(number) {
        Ok(Some(listener)) if SockRef::from(&listener).is_listener().unwrap_or(false) => return Ok(listener),
        Ok(_) => Reason::from("it does not listen"),
        Err(error) => Reason::of(error),
    };
    let (number, count) = (number + 1, given.len());
    let line = |what: &str| {
        format!("given listener {number} of {count}: {what}; give TCP sockets that listen (ListenStream=IP:PORT)")
    };
    Err(Unusable::new(Cause::Settings, what.map(line)))
}
