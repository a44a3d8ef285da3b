//! The keys that a batch looks up: those stored, those that wait for a fold, and those of the batch itself, which
//! nobody else may see before its commit.

use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::common::{self, TOUCH};
use super::fold::{StoredWindow, stored_window};
use super::message_key::MessageKey;
use super::schema::{integer, number};
use super::unfolded::{Prints, Recent, Unfolded};
use crate::store::Scope;
use crate::store::idempotency::{Entry, Seen, WINDOW, Window};
use crate::types::{Digest, IdempotencyKey, Seq, SessionId, WallMillis};

/// The keys of one batch.
#[derive(Default)]
pub(super) struct Windows {
    windows: BTreeMap<(i64, SessionId), Used>,
    /// The common keys that the batch adds.
    common: BTreeMap<(i64, IdempotencyKey), Entry>,
    /// Rooms in which a stored common key was repeated.
    repeated: BTreeSet<i64>,
}

/// A sender whose keys the batch looks up.
struct Used {
    /// The keys that the batch adds.
    added: Window,
    stored: Stored,
    /// When a key was last used, in running seconds.
    used: u64,
    home: Home,
    /// Whether a repeat has renewed it.
    is_renewed: bool,
}

/// What is known of a sender's stored window: of the keys in it that are older than those waiting in memory.
enum Stored {
    /// It was read.
    Read(Window),
    /// What is in memory tells all that is needed.
    Prints,
}

/// Where the last use of a window is kept.
#[derive(Clone, Copy)]
enum Home {
    /// Nowhere yet: the sender is new.
    Nowhere,
    /// In the stored row with this id.
    Row(i64),
    /// In memory, until the next fold.
    Memory,
}

/// A sender's place: a room, with its head, and a session.
#[derive(Clone, Copy)]
struct Sender {
    room: i64,
    head: Seq,
    session: SessionId,
}

impl Windows {
    /// Looks a key up in a room with this head; `now` in running seconds.
    pub fn lookup(
        &mut self,
        conn: &Connection,
        unfolded: &Unfolded,
        (room, head): (i64, Seq),
        MessageKey { key, body }: &MessageKey,
        now: u64,
    ) -> rusqlite::Result<Option<Seen>> {
        match key.scope {
            Scope::Session(session) => {
                let sender = Sender { room, head, session };
                let recent = unfolded.recent(room, session);
                let used = match self.windows.entry((room, session)) {
                    Occupied(entry) => entry.into_mut(),
                    Vacant(entry) => entry.insert(Used::load(conn, sender, recent, now)?),
                };
                let seen = used.lookup(conn, sender, recent, key.key, *body)?;
                if seen.is_some() && now >= used.used + TOUCH {
                    (used.used, used.is_renewed) = (now, true);
                }
                Ok(seen)
            }
            Scope::Common => {
                let waiting = self.common.get(&(room, key.key)).or_else(|| unfolded.common(room, key.key));
                let found = match waiting {
                    Some(entry) => Some(*entry),
                    None => {
                        let stored = stored_common(conn, room, key.key)?;
                        if stored.is_some() {
                            self.repeated.insert(room);
                        }
                        stored
                    }
                };
                Ok(found.map(|entry| entry.compare(*body)))
            }
        }
    }

    /// Adds a new key, after [`Windows::lookup`] has found nothing.
    pub fn remember(&mut self, room: i64, key: &MessageKey, seq: Seq, at: WallMillis) {
        let entry = key.entry(seq, at);
        match key.key.scope {
            Scope::Session(session) => {
                if let Some(used) = self.windows.get_mut(&(room, session)) {
                    used.added.push(entry);
                }
            }
            Scope::Common => {
                self.common.insert((room, entry.key), entry);
            }
        }
    }

    /// Writes the last use of common keys, and of the stored windows that were renewed and have nothing that waits for
    /// a fold.
    pub fn write_renewed(&self, conn: &Connection, now: u64) -> rusqlite::Result<()> {
        for used in self.windows.values().filter(|used| used.is_renewed) {
            if let Home::Row(id) = used.home {
                conn.prepare_cached("UPDATE keys SET used = ?2 WHERE id = ?1")?.execute([id, integer(used.used)])?;
            }
        }
        self.repeated.iter().try_for_each(|room| common::renew(conn, *room, now))
    }

    /// Renews the other windows in memory, and what is known of the stored ones, after the batch's commit.
    pub fn renew_recent(self, unfolded: &mut Unfolded) {
        for ((room, session), used) in self.windows {
            if let (true, Home::Memory) = (used.is_renewed, used.home) {
                unfolded.renew(room, session, used.used);
            }
            if let Stored::Read(window) = &used.stored {
                unfolded.know_stored(room, session, Prints::of(window));
            }
        }
    }
}

impl Used {
    /// Loads what is known of a sender, with the stored window if nothing in memory replaces it.
    fn load(conn: &Connection, sender: Sender, recent: Option<&Recent>, now: u64) -> rusqlite::Result<Used> {
        let known = |stored, used, home| Used { added: Window::default(), stored, used, home, is_renewed: false };
        if let Some(Recent { used, window, stored }) = recent
            && (stored.is_some() || window.count() == WINDOW)
        {
            return Ok(known(Stored::Prints, *used, Home::Memory));
        }
        let found = stored_window(conn, sender.room, sender.session)?;
        Ok(match (recent, found) {
            (Some(recent), found) => {
                let older = found.map_or_else(Window::default, |found| older(&found.window, sender, recent));
                known(Stored::Read(older), recent.used, Home::Memory)
            }
            (None, Some(StoredWindow { id, used, window })) => known(Stored::Read(window), used, Home::Row(id)),
            (None, None) => known(Stored::Read(Window::default()), now, Home::Nowhere),
        })
    }

    /// Looks a key up among the last 64: those of the batch, those that wait in memory, and the newest stored ones.
    fn lookup(
        &self,
        conn: &Connection,
        sender: Sender,
        recent: Option<&Recent>,
        key: IdempotencyKey,
        body: Digest,
    ) -> rusqlite::Result<Option<Seen>> {
        if let Some(seen) = self.added.lookup(key, body) {
            return Ok(Some(seen));
        }
        let waiting = recent.map(|recent| &recent.window);
        let left = WINDOW - self.added.count();
        let count = waiting.map_or(0, Window::count);
        if let Some(seen) = waiting.and_then(|window| window.lookup_newest(key, body, left)) {
            return Ok(Some(seen));
        }
        let left = left.saturating_sub(count);
        if left == 0 {
            return Ok(None);
        }
        match (&self.stored, recent) {
            (Stored::Read(window), _) => Ok(window.lookup_newest(key, body, left)),
            (Stored::Prints, Some(recent))
                if recent.stored.as_ref().is_none_or(|prints| prints.may_hold(key, left)) =>
            {
                let found = stored_window(conn, sender.room, sender.session)?;
                let window = found.map(|found| older(&found.window, sender, recent));
                Ok(window.and_then(|window| window.lookup_newest(key, body, left)))
            }
            (Stored::Prints, _) => Ok(None),
        }
    }
}

/// Returns the keys of a stored window that are older than those waiting in memory. A fold that a kill has cut short
/// may have written some of these already. Keys beyond the head are damage.
fn older(window: &Window, sender: Sender, recent: &Recent) -> Window {
    let first = recent.window.entries().next().map_or(sender.head.next(), |entry| entry.seq);
    window.before(first)
}

fn stored_common(conn: &Connection, room: i64, key: IdempotencyKey) -> rusqlite::Result<Option<Entry>> {
    conn.prepare_cached("SELECT body, seq, at FROM common_keys WHERE room = ?1 AND key = ?2")?
        .query_row(params![room, key.0.0], |row| {
            Ok(Entry {
                key,
                body: Digest(row.get(0)?),
                seq: Seq(number(row.get(1)?)),
                at: WallMillis(number(row.get(2)?)),
            })
        })
        .optional()
}
