//! Notifies the service manager (sd_notify(3)): that the server is ready, that it stops, and, at half of the watchdog's
//! time limit, that the loop turns. Only a turn sends this sign of life: a loop that hangs stays silent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::types::Millis;

/// Notifier of the service manager; silent if none has asked.
#[derive(Default)]
pub struct Supervisor {
    listens: Option<(UnixDatagram, SocketAddr)>,
    /// Milliseconds between two signs of life.
    period: Option<u64>,
    /// Time at which the next sign of life is due.
    next: Millis,
}

/// Returns whether the service manager's socket has an abstract name.
pub fn is_abstract() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|address| address.as_bytes().starts_with(b"@"))
}

impl Supervisor {
    /// Creates a notifier for `notify_socket` (NOTIFY_SOCKET: a path, or an abstract name after `@`). `watchdog`:
    /// microseconds within which the service manager wants a sign of life.
    ///
    /// # Errors
    /// The address is invalid, or the system gives no socket.
    pub fn new(notify_socket: &OsStr, watchdog: Option<u64>) -> io::Result<Supervisor> {
        let address = match notify_socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(notify_socket)?,
            _ => return Err(io::Error::other("it begins neither with / nor with @")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Half, in milliseconds.
        let period = watchdog.filter(|usec| *usec > 0).map(|usec| (usec / 2000).max(1));
        Ok(Supervisor { listens: Some((socket, address)), period, next: Millis(0) })
    }

    /// Reads the environment; the second value says why it cannot be followed, if so.
    pub fn from_environment() -> (Supervisor, Option<String>) {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return (Supervisor::default(), None);
        };
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        match Supervisor::new(&address, number("WATCHDOG_USEC").filter(|_| is_ours)) {
            Ok(supervisor) => (supervisor, None),
            Err(error) => (Supervisor::default(), Some(format!("NOTIFY_SOCKET={}: {error}", address.display()))),
        }
    }

    /// Reports that the store is open and connections are accepted.
    pub fn ready(&self) {
        self.notify("READY=1");
    }

    /// Reports that the graceful shutdown has begun.
    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Reports that the loop turned, if a sign of life is due.
    pub fn turned(&mut self, now: Millis) {
        let Some(period) = self.period.filter(|_| now >= self.next) else { return };
        self.next = now.after(period);
        self.notify("WATCHDOG=1");
    }

    /// Returns the latest time at which the loop has to turn.
    pub fn deadline(&self) -> Option<Millis> {
        self.period.map(|_| self.next)
    }

    fn notify(&self, state: &str) {
        if let Some((socket, address)) = &self.listens {
            // Serving goes on if the service manager is gone or busy; it will notice a missing message itself.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 100];
        let next =
            || socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_turn_is_told_at_half_the_time() {
        let name = format!("racerd-test-supervisor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut supervisor = Supervisor::new(OsStr::new(&format!("@{name}")), Some(4_000_000)).unwrap();
        supervisor.ready();
        for now in [5, 6, 2004, 2005, 4004, 4005, 60_000] {
            supervisor.turned(Millis(now));
        }
        supervisor.stopping();
        assert_eq!(heard(&socket), ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]);
        assert_eq!(supervisor.deadline(), Some(Millis(62_000)));
    }

    #[test]
    fn nobody_asked() {
        let mut silent = Supervisor::default();
        silent.ready();
        silent.turned(Millis(1));
        assert_eq!(silent.deadline(), None);
        // Without a watchdog, or with a limit of 0, no sign of life is due.
        for watchdog in [None, Some(0)] {
            let supervisor = Supervisor::new(OsStr::new("/nowhere/at/all"), watchdog).unwrap();
            supervisor.ready();
            assert_eq!(supervisor.deadline(), None);
        }
        // However short the limit, the loop does not spin.
        assert_eq!(Supervisor::new(OsStr::new("@x"), Some(1)).unwrap().period, Some(1));
        for bad in ["relative", "vsock:2:1234", ""] {
            assert!(Supervisor::new(OsStr::new(bad), None).is_err(), "{bad}");
        }
    }
}
