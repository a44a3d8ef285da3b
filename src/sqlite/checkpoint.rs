//! Checkpoints under load: what the WAL holds is copied into the database file by a thread of its own, while the writer
//! goes on committing. The writer itself copies only the rest, which is small, and makes the WAL start over: only a
//! writer can, and as long as others commit there is always a rest. Copying all of it would stop the commits meanwhile.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use rusqlite::Connection;

use super::open::WAL_BYTES;
use super::pages::Pages;
use super::worker::{Answers, Worker};

/// Size in bytes of the frames (pages in the WAL) that are not copied yet from which on the thread copies.
pub(super) const COPIED_FROM: i64 = WAL_BYTES / 2;

/// Maximum size in bytes of the frames that the writer copies itself, while everything waits for it.
const REST: i64 = WAL_BYTES / 4;

/// Size in bytes of the frames beyond those past which the WAL starts over, at which the writer copies however many are
/// left: the disk is slower than the commits, or each adds many frames.
const BEHIND: i64 = WAL_BYTES;

/// The frames of the WAL since it last started over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    pub all: i64,
    /// How many of them are in the database file.
    pub copied: i64,
}

/// What is to be done about the length of the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The thread copies.
    Copy,
    /// The writer copies the rest, and the WAL starts over.
    Restart,
}

impl Frames {
    /// Decides, with the number of frames past which the WAL starts over, the pages' size, and whether the
    /// thread copies at the moment.
    pub fn due(self, restart_past: i64, pages: Pages, is_copying: bool) -> Due {
        let rest = self.all - self.copied;
        let is_few = rest < pages.in_bytes(REST) && !is_copying;
        match self.all > restart_past && (is_few || self.all > restart_past + pages.in_bytes(BEHIND)) {
            true => Due::Restart,
            false if rest >= pages.in_bytes(COPIED_FROM) && !is_copying => Due::Copy,
            false => Due::Nothing,
        }
    }
}

/// The length of the WAL file. It passes the usual only while another program holds a read of the database open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Usual,
    /// The operator is told.
    Long,
    /// Nothing more is written to it.
    TooLong,
}

/// Length in bytes above which the WAL is long: several times its usual one.
const LONG: u64 = 16 << 20;

/// Length in bytes that the WAL may have, however small the database is to stay.
const LEAST_ALLOWED: u64 = 64 << 20;

impl Length {
    /// Judges a length in bytes. `max_database` is the database's maximum size in bytes: its WAL may take a quarter as
    /// much beside it.
    pub fn of(bytes: u64, max_database: u64) -> Length {
        match bytes {
            0..=LONG => Length::Usual,
            _ if bytes <= Length::allowed(max_database) => Length::Long,
            _ => Length::TooLong,
        }
    }

    /// Returns the length in bytes from which on nothing more is written.
    pub fn allowed(max_database: u64) -> u64 {
        LEAST_ALLOWED.max(max_database / 4)
    }
}

/// Copies as much of the WAL as no reader is in the way of. A failure is not told: the frames stay in the WAL, where
/// the writer meets the same fault when the WAL starts over.
fn copy(conn: &Connection) {
    let _ = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}

/// Who copies, as the writer sees it.
pub(super) enum Copier {
    /// A thread, with a connection of its own.
    Thread {
        worker: Worker<(), ()>,
        done: Receiver<()>,
        /// Whether it was asked and has not answered yet.
        is_copying: bool,
    },
    /// The caller, at once: for a log without threads.
    Inline(Connection),
    /// The connection is closed.
    Closed,
}

impl Copier {
    /// Moves the connection to a thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn on_a_thread(self, answers: Answers) -> io::Result<Copier> {
        let Copier::Inline(conn) = self else { return Ok(self) };
        let (sender, done) = channel();
        let worker = Worker::start("copier", answers, move |requests| serve(&conn, &requests, &sender))?;
        Ok(Copier::Thread { worker, done, is_copying: false })
    }

    /// Has the WAL copied.
    pub fn ask(&mut self) {
        match self {
            Copier::Thread { worker, is_copying, .. } => {
                worker.send(());
                *is_copying = true;
            }
            Copier::Inline(conn) => copy(conn),
            Copier::Closed => {}
        }
    }

    /// Returns whether it copies at the moment. SQLite lets only one connection do so, and refuses another's checkpoint
    /// without waiting.
    pub fn is_copying(&mut self) -> bool {
        match self {
            Copier::Thread { done, is_copying, .. } => {
                *is_copying &= done.try_recv().is_err();
                *is_copying
            }
            Copier::Inline(_) | Copier::Closed => false,
        }
    }

    /// Waits until it does not copy.
    pub fn settle(&mut self) {
        if let Copier::Thread { done, is_copying, .. } = self
            && std::mem::take(is_copying)
        {
            // A thread that has ended copies nothing.
            let _ = done.recv();
        }
    }

    /// Ends the thread and closes its connection, so that another may be the last that closes.
    pub fn close(&mut self) {
        *self = Copier::Closed;
    }
}

fn serve(conn: &Connection, requests: &Receiver<()>, done: &Sender<()>) {
    for () in requests {
        copy(conn);
        // A writer that has ended needs no answer.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_copies_and_the_writer_makes_it_start_over() {
        let due = |all, copied| Frames { all, copied }.due(1_024, Pages::USUAL, false);
        assert_eq!(due(0, 0), Due::Nothing);
        assert_eq!(due(511, 0), Due::Nothing);
        assert_eq!(due(512, 0), Due::Copy);
        assert_eq!(due(600, 512), Due::Nothing);
        assert_eq!(due(1_024, 1_024), Due::Nothing, "it may have that many");
        assert_eq!(due(1_025, 770), Due::Restart, "few are left");
        assert_eq!(due(1_025, 769), Due::Nothing, "not few enough, and not enough for the thread");
        assert_eq!(due(1_500, 512), Due::Copy, "many are left: the thread comes first");
        assert_eq!(due(2_048, 0), Due::Copy);
        assert_eq!(due(2_049, 0), Due::Restart, "the disk does not keep up");
        let due = |all, copied| Frames { all, copied }.due(1_024, Pages::USUAL, true);
        assert_eq!(due(2_000, 0), Due::Nothing, "it copies already");
        assert_eq!(due(2_000, 1_999), Due::Nothing, "and nobody else can meanwhile");
        assert_eq!(due(2_049, 0), Due::Restart, "commits wait for it");
    }

    #[test]
    fn lengths() {
        const MIB: u64 = 1 << 20;
        assert_eq!(Length::of(16 * MIB, u64::MAX), Length::Usual);
        assert_eq!(Length::of(16 * MIB + 1, 1), Length::Long);
        assert_eq!(Length::of(64 * MIB, 256 * MIB), Length::Long);
        assert_eq!(Length::of(64 * MIB + 1, 256 * MIB), Length::TooLong);
        assert_eq!(Length::of(1_000 * MIB, 4_000 * MIB), Length::Long);
        assert_eq!(Length::of(1_001 * MIB, 4_000 * MIB), Length::TooLong);
    }

    #[test]
    fn where_another_program_reads_it_is_tried_again_later() {
        // The WAL did not start over at 1,025 frames, and it is tried at 1,024 more.
        let due = |all, copied| Frames { all, copied }.due(2_049, Pages::USUAL, false);
        assert_eq!(due(1_100, 1_100), Due::Nothing);
        assert_eq!(due(2_049, 1_100), Due::Copy);
        assert_eq!(due(2_050, 2_049), Due::Restart);
    }
}
