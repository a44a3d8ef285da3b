//! Every signal that could end a server or a command, and the response to each.
//!
//! | signal | a running server | a command, and a server that is starting |
//! |---|---|---|
//! | SIGTERM, SIGINT, SIGQUIT, SIGPWR (which ends a container's init) | shuts down gracefully; the second time at once | end at once |
//! | SIGXCPU (`RLIMIT_CPU`, the soft limit) | shuts down gracefully | ends at once |
//! | SIGHUP | reads the settings again | a command ends at once; a start remembers it |
//! | SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, real-time signals | logs that it has no meaning | end at once |
//! | SIGPIPE (ignored by Rust's runtime), SIGXFSZ (`RLIMIT_FSIZE`) | an error of the write | an error of the write |
//! | SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT | job control, as everywhere | the same |
//! | SIGSEGV, SIGBUS, SIGABRT and others of a fault | end the process | the same |
//!
//! Signals that whoever started the process had blocked are let through: the mask is inherited (sigprocmask(2)), and
//! nothing could stop a server that hears no SIGTERM. A SIGSEGV or SIGBUS that another process sends is passed over the
//! first time: Rust's handler, which looks for overflows of a stack, takes it for a fault that will come again.
//!
//! The kernel does not end a process with the id 1 by a signal without a handler (signal(7), pid_namespaces(7)): there,
//! "at once" is implemented by a handler of ours, with the status that a shell shows, 128 and the signal's number.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Registry;
use nix::sys::signal::SigSet;
use rustix::process::Signal;
use signal_hook::SigId;
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::{flag, low_level};

use super::tokens::SIGNALS;

/// Signals that ask a server to stop.
const STOP: [i32; 5] = [SIGTERM, SIGINT, SIGQUIT, SIGXCPU, Signal::POWER.as_raw()];
/// Signals that have no meaning for a server, but would end it. The C library reserves the real-time signals 32 and 33
/// (nptl(7)), musl also 34, which is SIGRTMIN elsewhere.
const MEANINGLESS: [i32; 6] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO];
const REAL_TIME: RangeInclusive<i32> = if cfg!(target_env = "musl") { 35..=64 } else { 34..=64 };
/// Unused in practice, and not available on every processor (signal(7)).
#[cfg(not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64")))]
const UNUSED: Option<Signal> = Some(Signal::STKFLT);
#[cfg(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64"))]
const UNUSED: Option<Signal> = None;

/// Returns the name of a signal without a meaning; `None` for one that has a meaning.
fn meaningless(signal: i32) -> Option<&'static str> {
    match signal {
        _ if MEANINGLESS.contains(&signal) => Some(low_level::signal_name(signal).unwrap_or("another")),
        _ if REAL_TIME.contains(&signal) => Some("a real-time signal"),
        _ => UNUSED.filter(|unused| unused.as_raw() == signal).map(|_| "SIGSTKFLT"),
    }
}

/// Strongest request of the signals so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Go,
    /// Shut down gracefully.
    Stop,
    /// Stop at once: this was the second signal.
    Now,
}

/// Requests of the signals since the last check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub wish: Wish,
    /// Read the settings again, once, however many signals have asked for it.
    pub reload: bool,
    /// Name of a signal without a meaning that arrived.
    pub meaningless: Option<&'static str>,
}

impl Asked {
    pub const NOTHING: Asked = Asked { wish: Wish::Go, reload: false, meaningless: None };
}

pub struct Signals(signal_hook_mio::v1_0::Signals);

impl Signals {
    pub fn new(registry: &Registry) -> io::Result<Signals> {
        let all = STOP.iter().chain(&MEANINGLESS).chain(&[SIGHUP]);
        let mut signals = signal_hook_mio::v1_0::Signals::new(all)?;
        for signal in REAL_TIME.chain(UNUSED.map(Signal::as_raw)) {
            // If another component holds one of them (valgrind takes 64), a server without a handler for it is better
            // than none.
            let _ = signals.add_signal(signal);
        }
        registry.register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
        Ok(Signals(signals))
    }

    pub fn take(&mut self, is_stopping: bool) -> Asked {
        let mut asked = Asked::NOTHING;
        // Each signal is listed once, however often it was sent.
        for signal in self.0.pending() {
            match (signal, meaningless(signal)) {
                (SIGHUP, _) => asked.reload = true,
                (_, Some(name)) => asked.meaningless = Some(name),
                _ if asked.wish == Wish::Go && !is_stopping => asked.wish = Wish::Stop,
                _ => asked.wish = Wish::Now,
            }
        }
        asked
    }
}

/// Handles signals from the start of the process, as the table above says of commands.
#[must_use]
pub struct Early {
    /// Handlers that are removed once a loop watches the signals.
    until_watched: Vec<SigId>,
    /// Set if SIGHUP arrived meanwhile.
    hung_up: Option<Arc<AtomicBool>>,
}

impl Early {
    /// Prepares a command: signals end it, even if it is the first process of a container.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn for_command() -> io::Result<Early> {
        write_errors_only()?;
        let mut early = Early { until_watched: Vec::new(), hung_up: None };
        early.ending_with(&STOP)?;
        early.ending_with(&[SIGHUP])?;
        unblock()?;
        Ok(early)
    }

    /// Prepares a server that is starting, which may scan a database for minutes. SIGHUP is remembered for later, not
    /// obeyed.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn for_server() -> io::Result<Early> {
        write_errors_only()?;
        let mut early = Early { until_watched: Vec::new(), hung_up: None };
        early.ending_with(&STOP)?;
        let hung_up = Arc::new(AtomicBool::new(false));
        early.until_watched.push(flag::register(SIGHUP, Arc::clone(&hung_up))?);
        early.hung_up = Some(hung_up);
        unblock()?;
        Ok(early)
    }

    /// Makes these signals end the process in the case in which the kernel would not.
    fn ending_with(&mut self, signals: &[i32]) -> io::Result<()> {
        if std::process::id() == 1 {
            for signal in signals {
                let always = Arc::new(AtomicBool::new(true));
                self.until_watched.push(flag::register_conditional_shutdown(*signal, 128 + signal, always)?);
            }
        }
        Ok(())
    }

    /// Hands over to the loop, which watches the signals from now on; it also gets a SIGHUP that arrived earlier.
    pub fn over(self) {
        for id in self.until_watched {
            low_level::unregister(id);
        }
        if self.hung_up.is_some_and(|hung_up| hung_up.load(Ordering::Relaxed)) {
            let _ = low_level::raise(SIGHUP);
        }
    }
}

/// Lets all signals through. Call it with the handlers in place, as a signal that was blocked may wait already, and
/// while there is one thread: those that are made later inherit its mask.
fn unblock() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// Makes a write past `RLIMIT_FSIZE` fail with EFBIG (setrlimit(2)), which is reported like a full disk. Without a
/// handler the signal would end the process.
fn write_errors_only() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}
