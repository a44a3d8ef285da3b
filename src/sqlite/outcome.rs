//! What became of a batch: the answers to its requests, and whether the log can be written, with the reason if it
//! cannot.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::ErrorCode;

use super::batch::{Decision, Write};
use super::checkpoint::Length;
use super::limits::Limit;
use super::writer::{Health, WriterLoop, WriterParts, is_full};
use crate::store::{
    Append, Appended, Claim, Claimed, Found, Outage, Outcome, Parked, Removed, Seek, Sought, Standing, StoreEvent, Why,
};
use crate::types::Message;

/// Time without a refusal after which a full database counts as one that accepts messages again: while it is full, the
/// small ones may still fit.
const RELIEF: Duration = Duration::from_secs(1);

impl WriterLoop {
    /// Answers a batch that could not be stored because of this error.
    pub fn refuse_for(&mut self, batch: Vec<Write>, error: &rusqlite::Error) {
        let at_bound = is_full(error) && self.is_at_bound();
        let outage = self.explain(error, at_bound);
        self.refuse(batch, outage, at_bound);
    }

    /// Answers a batch that was committed.
    pub fn answer(&mut self, batch: Vec<Write>, decisions: Vec<Decision>) {
        let recovered = if self.is_relieved_by(&decisions) { self.recovered() } else { None };
        let mut appended = Vec::with_capacity(batch.len());
        let mut others = Vec::new();
        let (mut rooms_full, mut removed, mut over) = (false, false, false);
        for (write, decision) in batch.into_iter().zip(decisions) {
            match write {
                Write::Append(append) => {
                    rooms_full |= decision == Decision::RoomsFull;
                    over |= decision == Decision::OverShare;
                    appended.push(self.decided(append, decision));
                }
                Write::Claim(Claim { ticket, session }) => {
                    let (parked, standing) = match decision {
                        Decision::Claimed(parked, standing) => (parked, standing),
                        _ => (None, None),
                    };
                    let standing = standing.max(self.late_marks.get(session).map(|late| late.standing));
                    let parked = parked.map(|parked| *parked);
                    others.push(StoreEvent::Claimed(Claimed { ticket, session, parked, standing }));
                }
                Write::Mark(mark) => others.extend(mark.asker.map(StoreEvent::Marked)),
                Write::Seek(Seek { ticket, room, body, .. }) => {
                    let outcome = if let Decision::Sought(found) = decision { found } else { Found::Unknown };
                    others.push(StoreEvent::Sought(Sought { ticket, room, body, outcome }));
                }
                Write::Remove(room) => {
                    let is_gone = decision == Decision::Removed { is_gone: true };
                    removed |= is_gone;
                    others.push(StoreEvent::Removed(Removed { room, is_gone }));
                }
                Write::Park(_) | Write::Use(_) => {}
            }
        }
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        let note = rooms_full.then(|| self.note_rooms(true)).flatten();
        let shares = self.note_shares(over);
        self.answers.send(note.into_iter().chain(shares));
        let lost = recovered.is_some().then(|| self.lost_marks()).flatten();
        self.answers.send(appended.into_iter().chain(others).chain(recovered).chain(lost));
        if removed {
            self.bound_rooms();
        }
    }

    fn decided(&self, append: Append, decision: Decision) -> Appended {
        let Append { ticket, room, author, body, .. } = append;
        let bytes = body.len();
        let (era, outcome) = match decision {
            Decision::Stored { seq, at, era } => {
                (Some(era), Outcome::Stored(Message { room: room.clone(), seq, at, author, body }))
            }
            Decision::Duplicate { seq, at, era } => (Some(era), Outcome::Duplicate { seq, at }),
            Decision::KeyReused(era) => (Some(era), Outcome::KeyReused),
            Decision::BodyReused(era) => (Some(era), Outcome::BodyReused),
            Decision::RoomsFull => {
                let limit = usize::try_from(self.batches.rooms_max).unwrap_or(usize::MAX);
                (None, Outcome::RoomsFull { limit })
            }
            Decision::NotMade => (None, Outcome::NotMade),
            Decision::OverShare => (None, Outcome::OverShare),
            // The others answer no append.
            _ => (None, Outcome::Unavailable),
        };
        Appended { ticket, room, bytes, era, outcome }
    }

    /// Answers a batch that was not stored; `full` if the database has reached its maximum size. What is to be written
    /// of sessions is kept for the next batch.
    pub fn refuse(&mut self, mut batch: Vec<Write>, outage: Outage, full: bool) {
        self.take_back_late(&mut batch);
        let now = self.running();
        let mut appended = Vec::with_capacity(batch.len());
        let mut failed = Vec::new();
        for write in batch {
            match write {
                Write::Append(append) => appended.push(refused(append, full)),
                Write::Claim(claim) => failed.push(match self.late.remove(claim.session) {
                    Some(parked) => claimed(&claim, parked, self.known(claim.session)),
                    None => {
                        let standing = self.known(claim.session);
                        StoreEvent::ClaimFailed { ticket: claim.ticket, session: claim.session, standing }
                    }
                }),
                Write::Mark(mark) => failed.extend(self.mark_later(mark, now)),
                Write::Seek(Seek { ticket, room, body, .. }) => {
                    failed.push(StoreEvent::Sought(Sought { ticket, room, body, outcome: Found::Unknown }));
                }
                Write::Park(parked) => self.late.push(parked, now),
                Write::Remove(room) => failed.push(StoreEvent::Removed(Removed { room, is_gone: false })),
                Write::Use(_) => {}
            }
        }
        let appended = (!appended.is_empty()).then_some(StoreEvent::Appended(appended));
        // The reason is sent first, so that the refusals can state it.
        let outage = self.failed(outage);
        self.answers.send(outage.into_iter().chain(appended).chain(failed));
    }

    /// Returns whether these decisions, which were committed, mean that writing works. What writes nothing says
    /// nothing, and while a database is full, some messages may still fit.
    fn is_relieved_by(&self, decisions: &[Decision]) -> bool {
        let stored = |decision: &Decision| matches!(decision, Decision::Stored { .. });
        let wrote = |decision: &Decision| match decision {
            Decision::Claimed(parked, _) => parked.is_some(),
            Decision::Removed { is_gone } => *is_gone,
            Decision::Stored { .. } | Decision::Parked | Decision::Marked => true,
            _ => false,
        };
        match self.health {
            Health::Failing { why: Why::AtBound, since, .. } => {
                self.parts.clock.since(since) >= RELIEF && decisions.iter().any(stored)
            }
            Health::Failing { .. } => decisions.iter().any(wrote),
            Health::Well | Health::Gone(_) => false,
        }
    }

    /// Records that writing works. Returns the event that reports it, if it failed before.
    pub fn recovered(&mut self) -> Option<StoreEvent> {
        match self.health {
            Health::Failing { .. } => {
                self.health = Health::Well;
                Some(StoreEvent::Available(Ok(())))
            }
            Health::Well | Health::Gone(_) => None,
        }
    }

    /// Returns the remark that there was no place for what became of some sessions while nothing could be written.
    fn lost_marks(&mut self) -> Option<StoreEvent> {
        let lost = match self.late_marks.take_lost() {
            0 => return None,
            1 => "one session".to_owned(),
            lost => format!("{lost} sessions"),
        };
        Some(StoreEvent::Remark(format!(
            "while the database could not be written, the ends and returns of {lost} were not recorded: their older \
             tokens may be good after a crash"
        )))
    }

    /// Records that writing fails. Returns the event that reports it, if it worked before or the reason has changed.
    fn failed(&mut self, outage: Outage) -> Option<StoreEvent> {
        let now = self.parts.clock.now();
        match &mut self.health {
            Health::Well => {
                self.health = Health::Failing { retry: self.parts.timing.probe_first, why: outage.why, since: now };
                Some(StoreEvent::Available(Err(outage)))
            }
            Health::Failing { why, since, .. } => {
                *since = now;
                let is_new = std::mem::replace(why, outage.why) != outage.why;
                is_new.then_some(StoreEvent::Available(Err(outage)))
            }
            Health::Gone(_) => None,
        }
    }

    /// Describes a failure: what happened, where, and what to do. `at_bound` means that the database, not the disk, has
    /// reached its limit.
    pub fn explain(&self, error: &rusqlite::Error, at_bound: bool) -> Outage {
        let WriterParts { files, bounds, .. } = &self.parts;
        let path = files.database.display();
        if at_bound {
            let may_prune = bounds.keep_messages > 0 || bounds.keep_for > 0;
            let expire = if may_prune {
                ", or wait: all has given way but what was just written, and that does so after a minute"
            } else {
                ", or let old messages expire with keep_messages or keep_for"
            };
            let (reached, advice) = match bounds.max_database_size {
                0 => ("its share of the free disk space", "free some, or set max_database_size"),
                _ => ("max_database_size", "raise it"),
            };
            let detail = format!("cannot write to {path}: it has reached {reached}; {advice}{expire}");
            return Outage { why: Why::AtBound, detail };
        }
        if let Some(limit) = Limit::behind(error, files.directory()) {
            let detail = format!("cannot write to {path}: {error}; {}", limit.advice());
            return Outage { why: limit.why(), detail };
        }
        let (why, advice) = match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                (Why::NotWritable, "make the file and its directory writable")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (Why::Busy, "another program has the database locked; end that program")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.parts.damaged.store(true, Ordering::Relaxed);
                (Why::Damaged, crate::sqlite::error::DAMAGED)
            }
            Some(ErrorCode::SystemIoFailure) => (Why::Disk, "the disk reports errors; check the kernel log"),
            _ => (Why::Unknown, "racerd keeps retrying"),
        };
        Outage { why, detail: format!("cannot write to {path}: {error}; {advice}") }
    }

    /// Describes why nothing is written to a WAL that is too long.
    pub fn held_open(&self) -> Outage {
        let path = self.parts.files.database.display();
        let mebibytes = Length::allowed(self.max_bytes()) >> 20;
        let detail = format!(
            "cannot write to {path}: its -wal file has passed {mebibytes} MiB, since another program holds a read of the \
             database open; end that program"
        );
        Outage { why: Why::HeldOpen, detail }
    }
}

/// Answers a claim with the session that waited to be parked.
pub(super) fn claimed(claim: &Claim, parked: Parked, standing: Option<Standing>) -> StoreEvent {
    StoreEvent::Claimed(Claimed { ticket: claim.ticket, session: claim.session, parked: Some(parked), standing })
}

fn refused(append: Append, full: bool) -> Appended {
    let outcome = if full { Outcome::Full } else { Outcome::Unavailable };
    Appended { ticket: append.ticket, room: append.room, bytes: append.body.len(), era: None, outcome }
}
