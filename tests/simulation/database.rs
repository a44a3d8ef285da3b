//! SQLite as the log of a run: the server's own writer and reader, stepped on the simulator's thread and by its clocks,
//! over real files in memory (tmpfs where available). A kill leaves the files as they are; a power cut under `normal`
//! restores an earlier state of them and starts another boot.
//!
//! Faults are injected where racerd hands a batch to the writer and takes its answer, so disk faults below SQLite are
//! out of scope: torn pages, a sync that lies, a write that fails inside a transaction, a WAL with holes. So are races
//! between the two threads: a page is read between two commits, never during one. `tests/server` and the store's own
//! tests cover full and failing disks, and `kill -9` at random moments.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use racerd::engine::Now;
use racerd::sqlite::{SetClock, SteppedLog, StoreOptions};
use racerd::store::{Bounds, Read, StoreEvent, StoreRequest};
use racerd::testing::{Random, TempDir};
use racerd::types::Durability;
use rusqlite::config::DbConfig;
use rusqlite::params;

use super::scene::{Checked, violation};

const CHECKER: &str = "store: a database that was served opens again";

/// Running seconds since the last commit that a crash may lose.
const FORGOTTEN: u64 = 60;

pub struct Database {
    directory: TempDir,
    options: StoreOptions,
    /// `None` while no server is up.
    log: Option<SteppedLog>,
    clock: SetClock,
    /// The server's monotonic clock when the log was opened, and at the last commit.
    began: u64,
    committed: u64,
    /// The least and the most running seconds that the next opening must report.
    running: (u64, u64),
    /// Milliseconds that earlier servers ran on this log, whether or not it recorded them.
    ran: u64,
    boots: u32,
    /// Original name and body of damaged plain rows, by id.
    written: BTreeMap<i64, (String, Vec<u8>)>,
}

impl Database {
    pub fn new(options: StoreOptions) -> Database {
        let directory = TempDir::in_memory();
        fs::create_dir(directory.path().join("saved")).expect("a directory for a database");
        let options =
            StoreOptions { path: directory.path().join("racerd.db"), boot_id: "boot 0".to_owned(), ..options };
        Database {
            directory,
            options,
            log: None,
            clock: SetClock::default(),
            began: 0,
            committed: 0,
            running: (0, 0),
            ran: 0,
            boots: 0,
            written: BTreeMap::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.log.is_some()
    }

    /// Opens the database for the next server.
    pub fn open(&mut self, now: Now, random: &mut Random) -> Checked {
        self.options.new_epoch = random.array();
        self.options.new_token_salt = random.array();
        self.options.new_log_salt = random.array();
        self.clock = SetClock::default();
        self.clock.set(now.mono, now.wall);
        (self.began, self.committed) = (now.mono.0, now.mono.0);
        let log = match SteppedLog::open(&self.options, self.clock.clone()) {
            Ok(log) => log,
            Err(error) => return violation(CHECKER, error.to_string()),
        };
        let (known, (least, most)) = (log.running_seconds(), self.running);
        if !(least..=most).contains(&known) {
            return violation(
                "store: running seconds outlive the server",
                format!("{known} are known, of {least} to {most}"),
            );
        }
        self.running = (known, known);
        self.log = Some(log);
        if self.options.durability == Durability::Normal {
            self.save();
        }
        Ok(())
    }

    /// Returns the opened log, with its clocks set to `now`.
    fn at(&mut self, now: Now) -> &mut SteppedLog {
        self.clock.set(now.mono, now.wall);
        self.log.as_mut().expect("a log, while a server is up")
    }

    pub fn opened(&self) -> &SteppedLog {
        self.log.as_ref().expect("a log, while a server is up")
    }

    pub fn answer(&mut self, now: Now, requests: &mut Vec<StoreRequest>, events: &mut Vec<StoreEvent>) {
        // Without a request there is no commit.
        if !requests.is_empty() {
            self.committed = now.mono.0;
        }
        self.at(now).answer(requests, events);
    }

    pub fn read(&mut self, read: Read, events: &mut Vec<StoreEvent>) {
        self.log.as_mut().expect("a log, while a server is up").read(read, events);
    }

    /// Damages a message's row: flips a bit of a sealed one; gives a plain one a name or body that no client can have
    /// sent.
    pub fn damage(&mut self, room: &str, seq: u64, random: &mut Random) -> rusqlite::Result<()> {
        const SEQ_BITS: u32 = 39;
        let conn = rusqlite::Connection::open(&self.options.path)?;
        let id: i64 = conn.query_row("SELECT id FROM rooms WHERE name = ?1", [room], |row| row.get(0))?;
        let id = id << SEQ_BITS | seq as i64;
        if self.options.data_key.is_none() {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let row = conn.query_row("SELECT name, body FROM messages WHERE id = ?1", [id], row)?;
            let (name, body): &(String, Vec<u8>) = self.written.entry(id).or_insert(row);
            let (name, body): (&str, &[u8]) =
                *random.pick(&[("", &body[..]), (name, b"{\"n\":"), (name, b"\"\xff\""), (name, b"")]);
            let update = "UPDATE messages SET name = ?2, body = ?3 WHERE id = ?1";
            return conn.execute(update, params![id, name, body]).map(drop);
        }
        let mut body: Vec<u8> = conn.query_row("SELECT body FROM messages WHERE id = ?1", [id], |row| row.get(0))?;
        if let Some(last) = body.last_mut() {
            *last ^= 1;
        }
        // A second flip would restore the row.
        body.push(0);
        conn.execute("UPDATE messages SET body = ?2 WHERE id = ?1", params![id, body]).map(drop)
    }

    /// Restores damaged plain rows and forgets what the server noted about them. With `in_order` the last server ended
    /// cleanly and left no WAL; otherwise its WAL stays.
    fn mend(&mut self, in_order: bool) -> rusqlite::Result<()> {
        let rows = std::mem::take(&mut self.written);
        if rows.is_empty() {
            return Ok(());
        }
        let conn = rusqlite::Connection::open(&self.options.path)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !in_order)?;
        for (id, (name, body)) in rows {
            conn.execute("UPDATE messages SET name = ?2, body = ?3 WHERE id = ?1", params![id, name, body])?;
        }
        conn.execute("UPDATE meta SET damage = NULL", []).map(drop)
    }

    /// Returns how long the writer would wait now before it uses the pause.
    pub fn patience(&mut self, now: Now) -> Option<Duration> {
        self.at(now).patience()
    }

    pub fn use_the_pause(&mut self, now: Now, events: &mut Vec<StoreEvent>) {
        self.at(now).use_the_pause(events);
    }

    pub fn set_bounds(&mut self, now: Now, bounds: Bounds, events: &mut Vec<StoreEvent>) {
        self.options.bounds = bounds;
        if self.log.is_some() {
            self.at(now).set_bounds(bounds, events);
        }
    }

    /// Returns how often the writer has read the date since it was opened.
    pub fn dates_read(&self) -> u64 {
        self.clock.dates_read()
    }

    /// Returns the milliseconds that racerd has run on this log, as the log counts them.
    pub fn running_millis(&self, now: Now) -> u64 {
        self.running.0 * 1000 + now.mono.0 - self.began
    }

    /// Returns the true number of these milliseconds, including any that crashes made the log forget.
    pub fn ran(&self, now: Now) -> u64 {
        self.ran + now.mono.0 - self.began
    }

    /// Returns the total size of the files in bytes, which is the smallest bound that the database fits.
    pub fn bytes(&self) -> u64 {
        let length = |name: &str| fs::metadata(self.directory.path().join(name)).map_or(0, |file| file.len());
        length("racerd.db") + length("racerd.db-wal")
    }

    /// Where nothing is synced at once, saves the present state as the one that a power cut restores.
    pub fn save(&self) {
        self.copy(self.directory.path(), &self.directory.path().join("saved"));
    }

    fn copy(&self, from: &Path, to: &Path) {
        for name in ["racerd.db", "racerd.db-wal"] {
            if fs::copy(from.join(name), to.join(name)).is_err() {
                let _ = fs::remove_file(to.join(name));
            }
        }
    }

    /// Closes the log as the server ends: cleanly, by a kill, or by a power cut.
    pub fn close(&mut self, now: Now, in_order: bool, with_power: bool) -> Checked {
        self.end(now, in_order, with_power)?;
        self.mend(in_order).or_else(|error| violation("simulation", format!("rows cannot be mended: {error}")))
    }

    fn end(&mut self, now: Now, in_order: bool, with_power: bool) -> Checked {
        let Some(log) = self.log.take() else { return Ok(()) };
        self.clock.set(now.mono, now.wall);
        let ran = |mono: u64| self.running.0 + (mono - self.began) / 1000;
        let all = ran(now.mono.0);
        self.ran = self.ran(now);
        if in_order {
            self.running = (all, all);
            return log.finish().or_else(|what| violation("store: it ends in order", what));
        }
        drop(log);
        self.running = (ran(self.committed).saturating_sub(FORGOTTEN).max(self.running.0), all);
        if !with_power {
            self.boots += 1;
            self.options.boot_id = format!("boot {}", self.boots);
            if self.options.durability == Durability::Normal {
                self.copy(&self.directory.path().join("saved"), self.directory.path());
                let _ = fs::remove_file(self.directory.path().join("racerd.db-shm"));
                self.running.0 = 0;
            }
        }
        Ok(())
    }
}
