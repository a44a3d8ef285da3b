//! Log lines on stderr: `TIME LEVEL message key=value`, or one JSON object each; always a single line, whatever the
//! values hold. A line that cannot be written is dropped and counted: a closed, full or stalled stderr neither ends nor
//! blocks the loop.

mod json;
mod parts;
pub mod rates;

pub use parts::timestamp;

use crate::config::{LogFormat, LogLevel};
use crate::types::{Millis, is_unsafe, push_escaped};
use parts::{Bounded, LONGEST_LINE, LONGEST_VALUE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

/// Bytes that most lines need.
const USUAL_LINE: usize = 192;

/// Destination of log lines. Shared by reference; each thread may also have its own.
pub struct Log {
    level: LogLevel,
    format: LogFormat,
    out: Option<File>,
    /// Lines lost since the last successful write. Of the machine's size, since 32-bit MIPS has no 64-bit atomics.
    lost: AtomicUsize,
}

impl Log {
    /// Writes lines of this level and more important ones to standard error.
    pub fn stderr(level: LogLevel, format: LogFormat) -> Log {
        let out = io::stderr().as_fd().try_clone_to_owned().map(File::from).ok();
        Log { level, format, out, lost: AtomicUsize::new(0) }
    }

    /// Writes to a file, pipe or terminal.
    pub fn to(level: LogLevel, format: LogFormat, out: File) -> Log {
        Log { level, format, out: Some(out), lost: AtomicUsize::new(0) }
    }

    /// Sets the level and format of further lines.
    pub fn set(&mut self, level: LogLevel, format: LogFormat) {
        self.level = level;
        self.format = format;
    }

    /// Returns the level and the format in use.
    pub fn kind(&self) -> (LogLevel, LogFormat) {
        (self.level, self.format)
    }

    /// Reports whether lines of this level are written. For callers whose values are costly to make.
    pub fn wants(&self, level: LogLevel) -> bool {
        level <= self.level
    }

    pub fn error(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.write(LogLevel::Error, message, fields);
    }

    pub fn warn(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.write(LogLevel::Warn, message, fields);
    }

    pub fn info(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.write(LogLevel::Info, message, fields);
    }

    pub fn debug(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.write(LogLevel::Debug, message, fields);
    }

    /// Writes one line, or drops it if it cannot be written now.
    pub fn write(&self, level: LogLevel, message: &str, fields: &[(&str, &dyn Display)]) {
        self.write_counted(level, message, fields);
    }

    /// Writes as [`Log::write`] does, and returns the length of the line in bytes.
    pub fn write_counted(&self, level: LogLevel, message: &str, fields: &[(&str, &dyn Display)]) -> usize {
        if !self.wants(level) {
            return 0;
        }
        let Some(out) = &self.out else { return 0 };
        let now = SystemTime::now();
        let mut lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && put(out, &self.line(now, LogLevel::Warn, "log lines were lost", &[("lines", &lost)])) {
            lost = 0;
        }
        let line = self.line(now, level, message, fields);
        if lost > 0 || !put(out, &line) {
            let more = lost.saturating_add(1);
            // A count that has reached its end stays there. It never fails, as the closure always returns a number.
            let add = |lost: usize| Some(lost.saturating_add(more));
            let _ = self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
        line.len()
    }

    fn line(&self, at: SystemTime, level: LogLevel, message: &str, fields: &[(&str, &dyn Display)]) -> String {
        match self.format {
            LogFormat::Text => line(at, level, message, fields),
            LogFormat::Json => json::line(at, level, message, fields),
        }
    }
}

/// Returns the line, with its newline, as a log in JSON format would have it.
pub fn json_line(level: LogLevel, message: &str, fields: &[(&str, &dyn Display)]) -> String {
    json::line(SystemTime::now(), level, message, fields)
}

/// Writes the line, if that would not block; true if it was written. It polls first, since stderr may be shared with
/// other processes and so cannot be made non-blocking.
fn put(out: &File, line: &str) -> bool {
    let mut ready = [PollFd::new(out, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut ready, Some(&at_once)) {
        Ok(1) if ready[0].revents().contains(PollFlags::OUT) => {}
        _ => return false,
    }
    // A single write, so that lines of several threads do not mix.
    let mut out: &File = out;
    out.write(line.as_bytes()).is_ok()
}

/// Returns the line, with its newline.
fn line(at: SystemTime, level: LogLevel, message: &str, fields: &[(&str, &dyn Display)]) -> String {
    let level = match level {
        LogLevel::Error => "ERROR ",
        LogLevel::Warn => "WARN  ",
        LogLevel::Info => "INFO  ",
        LogLevel::Debug => "DEBUG ",
    };
    let mut line = String::with_capacity(USUAL_LINE);
    for part in [&timestamp(at), " ", level] {
        line.push_str(part);
    }
    push_escaped(&mut line, message);
    let mut value = String::new();
    for (key, field) in fields {
        value.clear();
        // If a `Display` fails, the text that it wrote until then is shown.
        let _ = write!(Bounded { out: &mut value, left: LONGEST_VALUE }, "{field}");
        let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\') && !is_unsafe(c);
        let quote = if !value.is_empty() && value.chars().all(plain) { "" } else { "\"" };
        for part in [" ", key, "=", quote] {
            line.push_str(part);
        }
        push_escaped(&mut line, &value);
        line.push_str(quote);
    }
    if line.len() >= LONGEST_LINE {
        let end = line.char_indices().map(|(index, _)| index).take_while(|index| *index <= LONGEST_LINE - 4).last();
        line.truncate(end.unwrap_or(0));
        line.push_str("...");
    }
    line.push('\n');
    line
}

/// Rate limit for log lines, with a count of those left out. For events that can happen thousands of times a second.
#[derive(Clone, Debug)]
pub struct Throttle {
    period: u64,
    next: Option<Millis>,
    left_out: u64,
}

impl Throttle {
    /// Allows at most one line in `period` milliseconds.
    pub fn new(period: u64) -> Throttle {
        Throttle { period, next: None, left_out: 0 }
    }

    /// Allows at most one line a minute.
    pub fn minute() -> Throttle {
        Throttle::new(60_000)
    }

    /// Returns, if a line may be written now, the number of lines left out since the last one.
    pub fn pass(&mut self, now: Millis) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.next = Some(now.after(self.period));
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests;
