//! The order in which retention visits rooms. A round first finds, by the index of oldest messages, the rooms where
//! something is too old, the one with the oldest message first; then those whose clock was wrong; then those that have
//! grown past what each keeps. While the whole database is too large, those in which only senders over their share
//! have written give way next, then the largest, again and again. All rooms are walked through only after a start or a
//! change of limits, and where the database is too large without a large room. Where that is not enough, those with the
//! oldest messages give way. Independent of threads, files and clocks.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _};

use super::retention::{Ages, Shortage, Squeeze};
use super::schema::integer;
use super::sizes::{self, Large};
use super::space::Space;
use crate::types::{Seq, WallMillis};

/// Maximum number of rooms that are remembered as having grown, which takes some 2 MB. Beyond it all rooms are walked
/// through.
const GROWN: usize = 65_536;

/// The rooms that have more messages than each keeps, since they were last visited.
#[derive(Debug, Default)]
pub(super) struct Grown {
    /// Number of messages that each room keeps; 0 keeps all.
    pub keep: u64,
    rooms: BTreeSet<i64>,
    /// Whether a room had no place in the set.
    is_beyond: bool,
}

impl Grown {
    /// Takes over a new limit. All rooms are to be walked through then.
    pub fn keep(&mut self, keep: u64) {
        *self = Grown { keep, ..Grown::default() };
    }

    /// Notes that a message was stored as this seq of a room with this oldest message.
    pub fn note(&mut self, room: i64, oldest: Seq, seq: Seq) {
        if self.keep == 0 || seq.0.saturating_sub(oldest.0) < self.keep {
            return;
        }
        if self.rooms.len() < GROWN {
            self.rooms.insert(room);
        } else {
            self.is_beyond = true;
        }
    }

    /// Notes that a visited room still has too many messages.
    fn note_again(&mut self, room: i64) {
        self.rooms.insert(room);
    }

    fn take_after(&mut self, room: i64) -> Option<i64> {
        let next = self.rooms.range(room.saturating_add(1)..).next().copied()?;
        self.rooms.remove(&next);
        Some(next)
    }
}

/// Rooms whose oldest message has a time in a part of all times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is a plausible time, and too old.
    Due,
    /// It was stamped before any date, by a clock that was not set.
    Unset,
    /// It is far ahead.
    Ahead,
}

/// A place in the index of oldest messages: a time and a room.
type AgePlace = (i64, i64);

/// Where a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Aged(Part, AgePlace),
    /// Behind this room, among those that have grown.
    Grown(i64),
    /// Behind this room, among those that give way first.
    Giving(i64),
    /// At the largest room; at the largest below this one, if that gave nothing.
    Large(Option<Large>),
    /// Behind this place, by the age of the oldest message.
    Oldest(AgePlace),
    /// Behind this room, among all.
    All(i64),
}

const FIRST: AgePlace = (i64::MIN, 0);

/// A round through the rooms.
#[derive(Debug)]
pub(super) struct Round {
    place: Place,
    /// Whether all rooms are still to be walked through for the number of their messages.
    is_all_due: bool,
    /// Whether a room has to be visited once more.
    has_missed: bool,
    /// The last large room that was returned.
    tried: Option<Large>,
    shortage: Shortage,
}

impl Default for Round {
    fn default() -> Round {
        Round { place: START, is_all_due: true, has_missed: false, tried: None, shortage: Shortage::No }
    }
}

const START: Place = Place::Aged(Part::Due, FIRST);

/// The next of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Room(i64),
    /// No further room until the ones that wait were folded.
    Waiting,
    /// The round is over, and a new one begins. `again`: a room was missed.
    End {
        again: bool,
    },
}

/// A place to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(Place);

impl Round {
    /// Sets the shortage for which rooms are visited. A round for another one is given up, and a new one begins: what
    /// it has found says nothing of this one. Returns whether there was such a round.
    pub fn turn_to(&mut self, shortage: Shortage) -> bool {
        let is_other = std::mem::replace(&mut self.shortage, shortage) != shortage;
        if is_other {
            self.place = START;
        }
        is_other
    }

    /// Returns the next room. Rooms of one kind that wait for a fold come before any of the next kind.
    pub fn next(
        &mut self,
        conn: &Connection,
        ages: Option<Ages>,
        (grown, space): (&mut Grown, &Space),
        is_waiting: bool,
    ) -> rusqlite::Result<Next> {
        self.is_all_due |= std::mem::take(&mut grown.is_beyond);
        let is_short = self.shortage != Shortage::No;
        loop {
            let (found, following) = match self.place {
                Place::Aged(part, after) => {
                    let found = ages.map(|ages| part.next(conn, after, ages)).transpose()?.flatten();
                    let following = match part {
                        Part::Due => Place::Aged(Part::Unset, FIRST),
                        Part::Unset => Place::Aged(Part::Ahead, FIRST),
                        Part::Ahead => Place::Grown(0),
                    };
                    (found.map(|(at, room)| (room, Place::Aged(part, (at, room)))), Some(following))
                }
                Place::Grown(after) => {
                    (grown.take_after(after).map(|room| (room, Place::Grown(room))), Some(Place::Giving(0)))
                }
                Place::Giving(after) => {
                    let found = if is_short { space.giving_after(after) } else { None };
                    (found.map(|room| (room, Place::Giving(room))), Some(Place::Large(None)))
                }
                Place::Large(below) => {
                    self.tried = if is_short { sizes::largest(conn, below)? } else { None };
                    let following = match self.shortage {
                        Shortage::Utmost => Place::Oldest(FIRST),
                        Shortage::No | Shortage::Near => Place::All(0),
                    };
                    (self.tried.map(|large| (large.room, Place::Large(below))), Some(following))
                }
                Place::Oldest(after) => {
                    let is_meant = self.shortage == Shortage::Utmost;
                    let found = if is_meant { oldest_after(conn, after, i64::MAX)? } else { None };
                    (found.map(|(at, room)| (room, Place::Oldest((at, room)))), None)
                }
                Place::All(after) => {
                    let is_meant = is_short || self.is_all_due && grown.keep > 0;
                    let found = if is_meant { room_after(conn, after)? } else { None };
                    (found.map(|room| (room, Place::All(room))), None)
                }
            };
            match (found, following) {
                (Some((room, place)), _) => {
                    self.place = place;
                    return Ok(Next::Room(room));
                }
                (None, _) if is_waiting => return Ok(Next::Waiting),
                (None, Some(following)) => self.place = following,
                (None, None) => {
                    let again = std::mem::take(&mut self.has_missed);
                    (self.place, self.is_all_due) = (START, self.is_all_due && again);
                    return Ok(Next::End { again });
                }
            }
        }
    }

    /// Returns how much of the last room is to go since the whole database is too large, if it is.
    pub fn squeeze(&self) -> Squeeze {
        match self.place {
            _ if self.shortage == Shortage::No => Squeeze::Nothing,
            Place::Giving(_) => Squeeze::All,
            Place::Large(_) | Place::Oldest(_) => Squeeze::PartAndLast,
            Place::All(_) => Squeeze::Part,
            Place::Aged(..) | Place::Grown(_) => Squeeze::Nothing,
        }
    }

    /// Notes whether the last room, from which something was to go, gave anything.
    pub fn has_given(&mut self, room: i64, gave: bool, space: &mut Space) {
        match self.place {
            Place::Giving(_) if !gave => space.has_given(room),
            // Otherwise it would be the next one again.
            Place::Large(_) if !gave => self.place = Place::Large(self.tried),
            _ => {}
        }
    }

    /// Notes that the last room was not finished.
    pub fn keep_last(&self, room: i64, grown: &mut Grown) {
        if let Place::Grown(_) = self.place {
            grown.note_again(room);
        }
    }

    /// Notes that some rooms wait, and are to be visited in another round, unless the caller goes back to them.
    pub fn miss(&mut self) {
        self.has_missed = true;
    }

    /// Marks this place.
    pub fn mark(&self) -> Mark {
        Mark(self.place)
    }

    pub fn go_back(&mut self, mark: Mark) {
        self.place = mark.0;
    }
}

impl Part {
    /// Returns the next room of this part, with the time of its oldest message.
    fn next(self, conn: &Connection, after: AgePlace, ages: Ages) -> rusqlite::Result<Option<AgePlace>> {
        let earliest = integer(WallMillis::EARLIEST.0);
        let (from, to) = match self {
            Part::Due => (earliest, integer(ages.too_old_before())),
            Part::Unset => (i64::MIN, earliest),
            Part::Ahead => (integer(ages.latest()).saturating_add(1), i64::MAX),
        };
        oldest_after(conn, after.max((from, 0)), to)
    }
}

/// Returns the next room whose oldest message is from before this time, with its time.
fn oldest_after(conn: &Connection, (at, room): AgePlace, to: i64) -> rusqlite::Result<Option<AgePlace>> {
    conn.prepare_cached(
        "SELECT oldest_at, id FROM rooms WHERE (oldest_at, id) > (?1, ?2) AND oldest_at < ?3
         ORDER BY oldest_at, id LIMIT 1",
    )?
    .query_row([at, room, to], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

fn room_after(conn: &Connection, room: i64) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM rooms WHERE id > ?1 ORDER BY id LIMIT 1")?
        .query_row([room], |row| row.get(0))
        .optional()
}

#[cfg(test)]
mod tests {
    use super::super::oldest::{self, Oldest};
    use super::super::retention::{Policy, Retention};
    use super::super::schema::{message_id, migrate};
    use super::*;

    const NOW: WallMillis = WallMillis(1_790_000_000_000);
    const DAY: u64 = 86_400_000;

    /// Creates so many rooms with two messages each, of now.
    fn log(rooms: i64) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        for room in 1..=rooms {
            let sql = "INSERT INTO rooms (id, name, head, at, common) VALUES (?1, 'r' || ?1, 2, 0, 0)";
            conn.execute(sql, [room]).unwrap();
            say(&conn, room, 1, NOW.0);
            say(&conn, room, 2, NOW.0);
        }
        conn
    }

    fn say(conn: &Connection, room: i64, seq: u64, at: u64) {
        let sql = "INSERT OR REPLACE INTO messages (id, at, name, body) VALUES (?1, ?2, 'x', '1')";
        conn.execute(sql, [message_id(room, Seq(seq)).unwrap(), at as i64]).unwrap();
        if seq == 1 {
            oldest::put(conn, room, Oldest { seq: Seq(1), at: WallMillis(at) }).unwrap();
        }
        conn.execute("UPDATE rooms SET head = max(head, ?2) WHERE id = ?1", [room, seq as i64]).unwrap();
    }

    /// A room among thousands is found by the first step, whatever its number, and its oldest message is known again.
    #[test]
    fn what_is_too_old_is_found_without_a_look_at_other_rooms() {
        let conn = log(5_000);
        let policy = Policy { keep_for: DAY, ..Policy::default() };
        let (mut retention, mut grown) = (Retention::default(), Grown::default());
        let mut step = || retention.step_in_tests(&conn, &policy, Some(NOW), &mut grown);
        assert!(step().done, "one step is a round");
        for room in [4_999, 17, 3_000] {
            say(&conn, room, 1, NOW.0 - 2 * DAY);
            let found = step();
            assert_eq!((found.dropped, found.changed), (1, vec![room]));
        }
        // So is one whose clock was not set, and one whose clock was ahead; what follows them says how old they are.
        for (room, wrong) in [(18, 5), (3_001, NOW.0 + 9 * DAY)] {
            say(&conn, room, 1, wrong);
            step();
            say(&conn, room, 2, NOW.0 - 2 * DAY);
            let dropped: usize = (0..3).map(|_| step().dropped).sum();
            assert_eq!(dropped, 2, "{room}");
        }
        assert!((0..2).any(|_| step().done));
        let sql = "SELECT count(*) FROM rooms WHERE oldest_at IS NULL OR oldest <> 1";
        assert_eq!(conn.query_row(sql, [], |row| row.get::<_, i64>(0)), Ok(5));
    }

    /// All rooms are walked through once; from then on, those that grow are known.
    #[test]
    fn a_room_that_has_grown_is_found_without_a_look_at_other_rooms() {
        let conn = log(1_000);
        let policy = Policy { keep_messages: 2, ..Policy::default() };
        let (mut retention, mut grown) = (Retention::default(), Grown::default());
        grown.keep(2);
        say(&conn, 900, 3, NOW.0);
        let steps: Vec<usize> =
            (0..5).map(|_| retention.step_in_tests(&conn, &policy, None, &mut grown).dropped).collect();
        assert_eq!(steps, [0, 0, 0, 1, 0], "a fourth of them in each step");
        for room in [999, 1, 500] {
            say(&conn, room, 3, NOW.0);
            grown.note(room, Seq(1), Seq(3));
            assert_eq!(retention.step_in_tests(&conn, &policy, None, &mut grown).changed, [room]);
        }
        // One that has to be folded first is found again.
        say(&conn, 5, 3, NOW.0);
        grown.note(5, Seq(1), Seq(3));
        conn.execute("UPDATE rooms SET head = 0 WHERE id = 5", []).unwrap();
        assert_eq!(retention.step_in_tests(&conn, &policy, None, &mut grown).waiting, [5]);
        conn.execute("UPDATE rooms SET head = 3 WHERE id = 5", []).unwrap();
        let dropped: usize = (0..3).map(|_| retention.step_in_tests(&conn, &policy, None, &mut grown).dropped).sum();
        assert_eq!(dropped, 1);
        grown.note(7, Seq(1), Seq(2));
        assert!(retention.step_in_tests(&conn, &policy, None, &mut grown).changed.is_empty());
        assert!(retention.step_in_tests(&conn, &policy, None, &mut grown).done);
        // More than are remembered: all are walked through once more.
        say(&conn, 700, 3, NOW.0);
        grown.is_beyond = true;
        let found: Vec<i64> =
            (0..5).flat_map(|_| retention.step_in_tests(&conn, &policy, None, &mut grown).changed).collect();
        assert_eq!(found, [700]);
    }
}
