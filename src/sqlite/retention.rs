//! Deletes expired and excess messages, the oldest of a room first, in steps bounded in rows and bytes, and returns
//! free pages to the file system. A room's row stays, so that no seq is assigned twice. Independent of threads, files
//! and clocks.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::damage::is_damage;
use super::fold;
use super::oldest;
use super::pages::Pages;
use super::rounds::{Grown, Mark, Next, Round};
use super::schema::{last_id, number, seq_of};
use super::sealed_bodies;
use super::sizes;
use super::space::Space;
use crate::types::{Seq, WallMillis};

/// Maximum number of rooms in one step.
const ROOMS: usize = 256;

/// Maximum number of messages that one step deletes ...
const ROWS: usize = 1_000;

/// ... and maximum size of their bodies in bytes, not counting the last one.
const BYTES: u64 = 1 << 20;

/// If the whole database is too large, each visit deletes one in this many of a room's messages. The largest room gives
/// way first, again and again; rooms that are not large shrink alike.
const SHARE: u64 = 16;

/// While the whole database is too large, a step deletes about this part of its maximum size in bodies, but at least so
/// many bytes.
const SQUEEZED_PART: u64 = 256;
const SQUEEZED: u64 = 64 << 10;

/// Minimum size in bytes of the free pages that the file keeps for new messages; it keeps an eighth of its pages if
/// that is more.
const SLACK: i64 = 1 << 20;

/// Size in bytes of the pages returned in one step.
const VACUUMED: i64 = 512 << 10;

/// Maximum number of rooms that are left alone.
const LEFT_ALONE: usize = 1_000;

/// The rules by which messages are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Number of messages that each room keeps; 0 keeps all.
    pub keep_messages: u64,
    /// How long a message is kept, in milliseconds; 0 means forever.
    pub keep_for: u64,
    /// Whether the whole database is too large, so that every room must shrink.
    pub shortage: Shortage,
}

/// Whether the whole database is too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shortage {
    #[default]
    No,
    /// Large rooms give way, and all others but for their last message.
    Near,
    /// Nothing else was left: large rooms give way, then the oldest messages of all, whatever room they are in.
    Utmost,
}

/// How far a timestamp may be ahead of now, in milliseconds; beyond it the clock was wrong.
const AHEAD: u64 = 86_400_000;

/// The result of a step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    pub dropped: usize,
    /// Number of messages that stay for now, since their timestamps are far ahead or not dates.
    pub misdated: usize,
    /// Rooms with messages that are to be deleted, but wait for a fold: nothing else tells their keys, and the room's
    /// head.
    pub waiting: Vec<i64>,
    /// Rooms whose oldest message is another one now.
    pub changed: Vec<i64>,
    /// A room that is damaged. Nothing was deleted in this step, and the next ones leave it alone.
    pub damaged: Option<(i64, rusqlite::Error)>,
    /// Whether a round through the rooms has ended without finding anything to delete.
    pub done: bool,
}

/// What the writer knows of rooms that retention is to look at.
pub(super) struct Hints<'a> {
    pub grown: &'a mut Grown,
    pub space: &'a mut Space,
}

#[cfg(test)]
impl Retention {
    /// Takes a step, in a database without a maximum size.
    pub fn step_in_tests(
        &mut self,
        conn: &Connection,
        policy: &Policy,
        now: Option<WallMillis>,
        grown: &mut Grown,
    ) -> Step {
        self.step(conn, policy, (now, 0), Hints { grown, space: &mut Space::default() }).unwrap()
    }
}

/// How much of a room is to go since the whole database is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Squeeze {
    Nothing,
    /// A part of its messages, but not the last one.
    Part,
    /// A part of its messages, and the last one, too.
    PartAndLast,
    All,
}

/// Goes through the rooms in rounds.
#[derive(Debug, Default)]
pub(super) struct Retention {
    round: Round,
    /// Where the last step began.
    begun: Option<(Mark, Option<Search>)>,
    dropped_in_round: usize,
    /// Rooms that are not visited, since something there is damaged.
    left_alone: BTreeSet<i64>,
    /// The room that is being visited.
    visited: Option<i64>,
    /// The unfinished search in a room, whose oldest messages have implausible timestamps.
    search: Option<Search>,
}

/// A search for the first message of a room with a plausible timestamp. The messages before it count as equally old.
#[derive(Clone, Copy, Debug)]
struct Search {
    room: i64,
    /// Where it continues: everything in the room up to this id is misdated.
    after: i64,
    /// Set once it has ended: messages up to this seq are too old.
    too_old: Seq,
}

impl Search {
    fn new(room: i64) -> Search {
        Search { room, after: last_id(room, Seq::ZERO), too_old: Seq::ZERO }
    }
}

/// The age of a message, judged by its timestamp.
enum Age {
    TooOld,
    Young,
    /// Unknown: the clock was wrong.
    Unknown,
}

/// The reference time for ages, and how long a message is kept, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Ages {
    now: WallMillis,
    keep_for: u64,
}

impl Ages {
    fn of(ages: Option<Ages>, at: WallMillis) -> Age {
        match ages {
            None => Age::Young,
            Some(ages) if !at.is_date() || at.0 > ages.latest() => Age::Unknown,
            Some(ages) if at.0 < ages.too_old_before() => Age::TooOld,
            Some(_) => Age::Young,
        }
    }

    /// Returns the time before which a message is too old.
    pub fn too_old_before(self) -> u64 {
        self.now.0.saturating_sub(self.keep_for)
    }

    /// Returns the last time that is plausible.
    pub fn latest(self) -> u64 {
        self.now.0.saturating_add(AHEAD)
    }
}

impl Retention {
    /// Restarts the walk, after the limits have changed.
    pub fn restart(&mut self) {
        *self = Retention { left_alone: std::mem::take(&mut self.left_alone), ..Retention::default() };
    }

    /// Visits this room no more in this run: damage does not heal.
    pub fn leave_alone(&mut self, room: i64) {
        if self.left_alone.len() < LEFT_ALONE {
            self.left_alone.insert(room);
        }
    }

    /// Goes back to where the last step began: the rooms that waited were folded.
    pub fn go_back(&mut self) {
        if let Some((mark, search)) = self.begun.take() {
            self.round.go_back(mark);
            self.search = search;
        }
    }

    /// Visits the next rooms and deletes what may be deleted, in one transaction. `now` is the reference time for ages;
    /// without it nothing expires. `running` is the running second. A message whose timestamp is more than a day ahead
    /// of `now`, or not a date, counts as old as the next message of its room with a plausible one.
    ///
    /// # Errors
    /// Nothing was deleted, and the walk starts over.
    pub fn step(
        &mut self,
        conn: &Connection,
        policy: &Policy,
        (now, running): (Option<WallMillis>, u64),
        hints: Hints<'_>,
    ) -> rusqlite::Result<Step> {
        self.visited = None;
        self.transact(conn, policy, (now, running), hints).or_else(|error| {
            let visited = self.visited.filter(|_| is_damage(&error));
            // What was deleted in other rooms is undone, so they are visited once more.
            self.restart();
            match visited {
                Some(room) if self.left_alone.len() < LEFT_ALONE => {
                    self.leave_alone(room);
                    Ok(Step { damaged: Some((room, error)), ..Step::default() })
                }
                _ => Err(error),
            }
        })
    }

    fn transact(
        &mut self,
        conn: &Connection,
        policy: &Policy,
        (now, running): (Option<WallMillis>, u64),
        Hints { grown, space }: Hints<'_>,
    ) -> rusqlite::Result<Step> {
        let keep_for = policy.keep_for;
        let ages = now.filter(|_| keep_for > 0).map(|now| Ages { now, keep_for });
        let shortage = policy.shortage;
        if self.round.turn_to(shortage) {
            self.dropped_in_round = 0;
        }
        let transaction = rusqlite::Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
        // Where space is needed, no more goes than that: the caller looks again after each step.
        let bytes = match shortage {
            Shortage::No => BYTES,
            Shortage::Near | Shortage::Utmost => (space.max() / SQUEEZED_PART).clamp(SQUEEZED, BYTES),
        };
        let mut budget = Budget { rows: ROWS, bytes };
        let mut step = Step::default();
        let mut is_over = false;
        self.begun = Some((self.round.mark(), self.search));
        for _ in 0..ROOMS {
            let search = match self.search.take() {
                Some(search) => search,
                None => match self.round.next(&transaction, ages, (&mut *grown, &*space), !step.waiting.is_empty())? {
                    Next::Room(room) => Search::new(room),
                    Next::Waiting => break,
                    Next::End { again } => {
                        step.done = self.dropped_in_round + step.dropped == 0 && !again;
                        is_over = true;
                        break;
                    }
                },
            };
            if self.left_alone.contains(&search.room) {
                continue;
            }
            let squeeze = self.round.squeeze();
            let (waiting, dropped) = (step.waiting.len(), step.dropped);
            self.visited = Some(search.room);
            let rest = visit(&transaction, (policy, ages, squeeze, running), search, (&mut budget, &mut step))?;
            self.visited = None;
            if squeeze != Squeeze::Nothing {
                self.round.has_given(search.room, step.dropped > dropped, space);
            }
            if rest.is_some() || step.waiting.len() > waiting {
                self.round.keep_last(search.room, grown);
            }
            // An interrupted room continues with the next step, unless every room is to shrink.
            self.search = rest.filter(|_| squeeze == Squeeze::Nothing);
            if budget.is_spent() {
                break;
            }
        }
        transaction.commit()?;
        self.dropped_in_round = if is_over { 0 } else { self.dropped_in_round + step.dropped };
        if !step.waiting.is_empty() {
            self.round.miss();
        }
        Ok(step)
    }
}

/// Deletes in one room what may be deleted. Returns the search to continue with, if the budget has run out.
fn visit(
    conn: &Connection,
    (policy, ages, squeeze, running): (&Policy, Option<Ages>, Squeeze, u64),
    search: Search,
    (budget, step): (&mut Budget, &mut Step),
) -> rusqlite::Result<Option<Search>> {
    let room = search.room;
    let found = conn
        .prepare_cached("SELECT head, oldest, oldest_at FROM rooms WHERE id = ?1")?
        .query_row([room], |row| Ok((Seq(number(row.get(0)?)), oldest::of_row(row.get(1)?, row.get(2)?))))
        .optional()?;
    let Some((folded, known)) = found else { return Ok(None) };
    let head = fold::last_behind(conn, room, folded)?.map_or(folded, |(last, _)| last);
    let rules = Rules::new((policy, squeeze), ages, head, folded);
    let rest = rules.drop_oldest(conn, search, budget, step)?;
    if oldest::correct(conn, room, known, running)? {
        step.changed.push(room);
    }
    Ok(rest)
}

struct Budget {
    rows: usize,
    bytes: u64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }
}

/// The rules by which messages of one room are deleted.
struct Rules {
    ages: Option<Ages>,
    head: Seq,
    /// Messages behind this seq wait for a fold.
    folded: Seq,
    /// Messages up to this seq exceed the number to keep.
    too_many: Seq,
    squeeze: Squeeze,
}

impl Rules {
    fn new((policy, squeeze): (&Policy, Squeeze), ages: Option<Ages>, head: Seq, folded: Seq) -> Rules {
        let too_many =
            if policy.keep_messages == 0 { Seq::ZERO } else { Seq(head.0.saturating_sub(policy.keep_messages)) };
        Rules { ages, head, folded, too_many, squeeze }
    }

    /// Returns the last seq to delete for the room's share, given its oldest message, if the database is too large.
    fn share(&self, oldest: Seq) -> Seq {
        let kept = self.head.0.saturating_sub(oldest.0).saturating_add(1);
        let part = (oldest.0 - 1).saturating_add((kept / SHARE).max(1));
        match self.squeeze {
            Squeeze::Nothing => Seq::ZERO,
            Squeeze::Part => Seq(part.min(self.head.0.saturating_sub(1))),
            Squeeze::PartAndLast => Seq(part),
            Squeeze::All => self.head,
        }
    }

    /// Deletes the oldest messages of the room within the budget. If the budget runs out, returns the search to
    /// continue with.
    fn drop_oldest(
        &self,
        conn: &Connection,
        mut search: Search,
        budget: &mut Budget,
        step: &mut Step,
    ) -> rusqlite::Result<Option<Search>> {
        let (none, all) = (last_id(search.room, Seq::ZERO), last_id(search.room, Seq(u64::MAX)));
        // The last message to delete, the number of them, and the misdated ones that the search has passed.
        let (mut last, mut count, mut misdated, mut bodies) = (None, 0, 0, 0);
        let mut share = None;
        let mut cut = false;
        {
            // A blob's length is stored in its row; its pages are not read for it.
            let mut statement = conn.prepare_cached(
                "SELECT id, at, length(body) FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
            )?;
            let mut rows = statement.query([search.after, all, budget.rows as i64])?;
            while let Some(row) = rows.next()? {
                let (id, at, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let seq = seq_of(id);
                let share = *share.get_or_insert_with(|| self.share(seq));
                let age = Ages::of(self.ages, WallMillis(number(at)));
                let goes = seq <= self.too_many || seq <= share || seq <= search.too_old || matches!(age, Age::TooOld);
                if goes && search.after > none {
                    // Many messages may precede it: later steps delete them within their budgets.
                    search = Search { after: none, too_old: seq, ..search };
                    cut = true;
                    break;
                }
                if !goes {
                    if matches!(age, Age::Young) {
                        break;
                    }
                    search.after = id;
                    misdated += 1;
                    budget.rows -= 1;
                    cut = budget.is_spent();
                    continue;
                }
                if seq > self.folded {
                    step.waiting.push(search.room);
                    break;
                }
                (last, count, bodies) = (Some(id), count + 1, bodies + number(bytes));
                budget.rows -= 1;
                budget.bytes = budget.bytes.saturating_sub(number(bytes));
                cut = budget.is_spent();
                if cut {
                    break;
                }
            }
        }
        if let Some(last) = last {
            conn.prepare_cached("DELETE FROM messages WHERE id > ?1 AND id <= ?2")?.execute([none, last])?;
            sealed_bodies::forget(conn, none, last)?;
            sizes::shrink(conn, search.room, sizes::of(count as u64, bodies))?;
        }
        step.dropped += count;
        step.misdated += misdated;
        Ok(cut.then_some(search))
    }
}

/// Returns the number of pages of the database, and of its free pages.
pub(super) fn pages(conn: &Connection) -> rusqlite::Result<(i64, i64)> {
    let read = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok((read("PRAGMA page_count")?, read("PRAGMA freelist_count")?))
}

/// Returns some free pages to the file system, if there are more than the file needs. Returns whether there are still
/// more. A database without `auto_vacuum` cannot shrink.
pub(super) fn give_back(conn: &Connection, size: Pages) -> rusqlite::Result<bool> {
    let (all, free) = pages(conn)?;
    let slack = size.in_bytes(SLACK).max(all / 8);
    if free <= slack || !can_shrink(conn)? {
        return Ok(false);
    }
    // Each row of the result has returned one page.
    let vacuumed = size.in_bytes(VACUUMED);
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({vacuumed})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free - vacuumed > slack)
}

/// Returns whether the file can shrink, which is decided when a database is created.
pub(super) fn can_shrink(conn: &Connection) -> rusqlite::Result<bool> {
    const INCREMENTAL: i64 = 2;
    Ok(conn.prepare_cached("PRAGMA auto_vacuum")?.query_row([], |row| row.get::<_, i64>(0))? == INCREMENTAL)
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::super::schema::{message_id, migrate};
    use super::*;

    const NOW: u64 = 1_790_000_000_000;
    const DAY: u64 = 86_400_000;
    const YEARS: u64 = 12 * 365 * DAY;

    /// Returns the time this many milliseconds after some day.
    fn at(milliseconds: u64) -> WallMillis {
        WallMillis(NOW + milliseconds)
    }

    /// Creates rooms 1, 2, ... with these numbers of messages, each of `bytes` bytes, at the times 1, 2, ...
    fn log(rooms: &[u64], bytes: usize) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        for (room, count) in (1..).zip(rooms) {
            for seq in 1..=*count {
                let sql = "INSERT INTO messages (id, at, name, body) VALUES (?1, ?2, 'x', zeroblob(?3))";
                conn.execute(sql, params![message_id(room, Seq(seq)), at(seq).0 as i64, bytes as i64]).unwrap();
            }
            let sql = "INSERT INTO rooms (id, name, head, at, common) VALUES (?1, ?2, ?3, 0, 0)";
            conn.execute(sql, params![room, format!("r{room}"), *count as i64]).unwrap();
            oldest::correct(&conn, room, None, 0).unwrap();
        }
        conn
    }

    /// Returns the oldest seq and the count of each room.
    fn kept(conn: &Connection, rooms: i64) -> Vec<(u64, u64)> {
        let of = |room: i64| {
            let sql = "SELECT ifnull(min(id), 0), count(*) FROM messages WHERE id > ?1 AND id <= ?2";
            conn.query_row(sql, [last_id(room, Seq::ZERO), last_id(room, Seq(u64::MAX))], |row| {
                Ok((seq_of(row.get(0)?).0, number(row.get(1)?)))
            })
            .unwrap()
        };
        (1..=rooms).map(of).collect()
    }

    fn run(conn: &Connection, policy: Policy, now: Option<u64>) -> Vec<usize> {
        let (mut retention, mut grown) = (Retention::default(), Grown::default());
        grown.keep(policy.keep_messages);
        let mut steps = Vec::new();
        loop {
            let step = retention.step_in_tests(conn, &policy, now.map(at), &mut grown);
            steps.push(step.dropped);
            if step.done {
                return steps;
            }
            assert!(steps.len() < 1000, "it comes to an end");
        }
    }

    #[test]
    fn each_room_keeps_its_newest() {
        let conn = log(&[3, 2500, 0, 10], 10);
        let steps = run(&conn, Policy { keep_messages: 5, ..Policy::default() }, None);
        assert_eq!(kept(&conn, 4), [(1, 3), (2496, 5), (0, 0), (6, 5)]);
        assert_eq!(steps, [1000, 1000, 500, 0], "1000 rows a step, and a last round that finds nothing");
    }

    #[test]
    fn a_step_is_bounded_in_bytes() {
        let conn = log(&[100], 300_000);
        let steps = run(&conn, Policy { keep_messages: 90, ..Policy::default() }, None);
        assert_eq!((steps, kept(&conn, 1)), (vec![4, 4, 2, 0], vec![(11, 90)]));
    }

    #[test]
    fn by_age_goes_what_is_older_and_without_a_time_nothing() {
        let conn = log(&[100, 50], 10);
        let policy = Policy { keep_for: 60, ..Policy::default() };
        run(&conn, policy, None);
        assert_eq!(kept(&conn, 2), [(1, 100), (1, 50)]);
        run(&conn, policy, Some(100));
        assert_eq!(kept(&conn, 2), [(40, 61), (40, 11)]);
        run(&conn, policy, Some(111));
        assert_eq!(kept(&conn, 2), [(51, 50), (0, 0)], "a room may lose all that it has");
        let heads: i64 = conn.query_row("SELECT sum(head) FROM rooms", [], |row| row.get(0)).unwrap();
        assert_eq!(heads, 150, "and keeps its head");
        run(&conn, Policy { keep_messages: 10, keep_for: 60, shortage: Shortage::No }, None);
        assert_eq!(kept(&conn, 2), [(91, 10), (0, 0)], "by count it never rests");
    }

    fn restamp(conn: &Connection, room: i64, seqs: std::ops::RangeInclusive<u64>, at: u64) {
        for seq in seqs {
            let id = message_id(room, Seq(seq)).unwrap();
            assert_eq!(conn.execute("UPDATE messages SET at = ?2 WHERE id = ?1", [id, at as i64]), Ok(1));
        }
        oldest::correct(conn, room, None, 0).unwrap();
    }

    #[test]
    fn a_misdated_message_is_as_old_as_the_next_that_is_not() {
        let policy = Policy { keep_for: 60, ..Policy::default() };
        for wrong in [NOW + YEARS, NOW + 2 * DAY, 0, 17, WallMillis::EARLIEST.0 - 1] {
            let conn = log(&[100, 50, 50, 3], 10);
            // Wrong timestamps on the oldest messages of one room, the newest of another, some in the middle of a
            // third, and all of a fourth.
            restamp(&conn, 1, 1..=10, wrong);
            restamp(&conn, 2, 41..=50, wrong);
            restamp(&conn, 3, 11..=20, wrong);
            restamp(&conn, 4, 1..=3, wrong);
            run(&conn, policy, Some(61));
            assert_eq!(kept(&conn, 4), [(1, 100), (1, 50), (1, 50), (1, 3)], "{wrong}");
            run(&conn, policy, Some(71));
            assert_eq!(kept(&conn, 4), [(1, 100), (11, 40), (11, 40), (1, 3)], "{wrong}");
            run(&conn, policy, Some(72));
            assert_eq!(kept(&conn, 4), [(12, 89), (12, 39), (11, 40), (1, 3)], "{wrong}");
            run(&conn, policy, Some(82));
            assert_eq!(kept(&conn, 4), [(22, 79), (22, 29), (22, 29), (1, 3)], "{wrong}");
            run(&conn, policy, Some(300));
            assert_eq!(kept(&conn, 4), [(0, 0), (41, 10), (0, 0), (1, 3)], "{wrong}: nothing says how old these are");
        }
        // Up to a day ahead, a timestamp counts.
        let conn = log(&[100], 10);
        restamp(&conn, 1, 1..=1, NOW + 200 + DAY);
        run(&conn, policy, Some(200));
        assert_eq!(kept(&conn, 1), [(1, 100)]);
    }

    #[test]
    fn many_misdated_messages_are_passed_and_dropped_within_the_budgets() {
        let policy = Policy { keep_for: 60, ..Policy::default() };
        let conn = log(&[3_500, 2], 400);
        restamp(&conn, 1, 1..=3_200, NOW + YEARS);
        assert!(run(&conn, policy, Some(3_261)).iter().all(|dropped| *dropped == 0 || *dropped == 2));
        assert_eq!(kept(&conn, 2), [(1, 3_500), (0, 0)]);
        let steps = run(&conn, policy, Some(3_262));
        assert_eq!(kept(&conn, 2), [(3_202, 299), (0, 0)]);
        assert!(steps.iter().all(|dropped| *dropped <= ROWS), "{steps:?}");
        let large = log(&[40], 300_000);
        restamp(&large, 1, 1..=39, NOW + YEARS);
        let steps = run(&large, policy, Some(200));
        assert!(steps.iter().all(|dropped| *dropped <= 4), "{steps:?}");
        assert_eq!(kept(&large, 1), [(0, 0)]);
    }

    #[test]
    fn where_there_is_too_much_every_room_gives_its_share() {
        let conn = log(&[160, 16, 2, 1], 10);
        let mut retention = Retention::default();
        let policy = Policy { shortage: Shortage::Near, ..Policy::default() };
        let mut step = || retention.step_in_tests(&conn, &policy, None, &mut Grown::default());
        let first = Step { dropped: 12, changed: vec![1, 2, 3], ..Step::default() };
        assert_eq!((step(), kept(&conn, 4)), (first, vec![(11, 150), (2, 15), (2, 1), (1, 1)]));
        for _ in 0..1000 {
            step();
        }
        assert_eq!(kept(&conn, 4), [(160, 1), (16, 1), (2, 1), (1, 1)], "never the last one");
        assert!(step().done);
    }

    /// The upkeep looks for what goes near the maximum size, in between for what goes at it.
    #[test]
    fn a_round_that_found_nothing_says_nothing_of_another_shortage() {
        let conn = log(&[1; 600], 10);
        let mut retention = Retention::default();
        let mut step = |shortage| {
            let policy = Policy { shortage, ..Policy::default() };
            retention.step_in_tests(&conn, &policy, None, &mut Grown::default())
        };
        for room in 1..=600 {
            oldest::correct(&conn, room, None, 0).unwrap();
        }
        assert_eq!(step(Shortage::Near), Step::default(), "it is in the middle of the rooms");
        assert_eq!(step(Shortage::Utmost).changed.first(), Some(&1));
        let near: Vec<bool> = (0..4).map(|_| step(Shortage::Near).done).collect();
        assert_eq!(near, [false, false, true, false]);
    }

    #[test]
    fn where_there_is_nothing_else_the_oldest_messages_go() {
        let conn = log(&[3, 1, 1], 40_000);
        // The large room gives way before the others, whose last messages are older.
        restamp(&conn, 1, 1..=3, NOW + 30);
        restamp(&conn, 2, 1..=1, NOW + 20);
        restamp(&conn, 3, 1..=1, NOW + 10);
        conn.execute_batch("UPDATE rooms SET bytes = CASE id WHEN 1 THEN 40000 ELSE 1000 END").unwrap();
        for room in 1..=3 {
            oldest::correct(&conn, room, None, 0).unwrap();
        }
        let mut retention = Retention::default();
        let mut first = |shortage| {
            let policy = Policy { shortage, ..Policy::default() };
            retention.step_in_tests(&conn, &policy, None, &mut Grown::default()).changed
        };
        // It is small then.
        assert_eq!([first(Shortage::Utmost), first(Shortage::Utmost)], [vec![1, 3, 2, 1], vec![1]]);
    }
}
