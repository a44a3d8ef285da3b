//! The writer's use of [`Ages`]: loads the recorded history of the clock once messages may expire, stores it as it
//! changes, and reports doubts about the clock. Independent of threads and of the real clock.

use rusqlite::Connection;

use super::ages::{Ages, Doubt};
use super::schema;
use crate::store::{About, StoreEvent};
use crate::types::WallMillis;

/// Interval in running seconds at which the state is stored even if unchanged, with the running time: after a crash, at
/// most this much running time is lost, and counts as a leap.
const AGAIN: u64 = 3_600;

/// Change of a reported leap, in milliseconds, above which it is reported again.
const OTHER: u64 = 3_600_000;

/// The writer's knowledge about the time.
#[derive(Debug, Default)]
pub(super) struct Dating {
    /// `None` until messages may expire.
    ages: Option<Ages>,
    /// Whether it differs from the stored state.
    is_other: bool,
    /// The running seconds when it was last stored.
    stored: u64,
    /// Number of times it was stored.
    pub writes: u32,
    /// The doubt that was reported last.
    told: Option<Doubt>,
    has_told_of_misdated: bool,
}

/// The clocks at one moment, and how long messages are kept, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub wall: WallMillis,
    /// Running milliseconds.
    pub running: u64,
    pub keep_for: u64,
}

impl Dating {
    /// Records the clock's reading, and returns the reference time for ages; `None` if messages do not expire. Adds
    /// events that report doubts to `told`.
    pub fn now(
        &mut self,
        conn: &Connection,
        moment: Moment,
        told: &mut Vec<StoreEvent>,
    ) -> rusqlite::Result<Option<WallMillis>> {
        let Moment { wall, running, keep_for } = moment;
        if keep_for == 0 {
            self.report(None, 0, told);
            return Ok(None);
        }
        let hold = Ages::hold(keep_for);
        let seconds = running / 1000;
        let ages = match &mut self.ages {
            Some(ages) => ages,
            none => {
                let ages = Ages::from_bytes(&schema::clock(conn)?);
                none.insert(if ages.is_empty() { Ages::since(schema::newest(conn)?, running) } else { ages })
            }
        };
        self.is_other |= ages.observe(wall, running, hold);
        let is_due = self.is_other || seconds >= self.stored.saturating_add(AGAIN);
        // A failure is ignored: the disk may be full until old messages are deleted.
        if is_due && schema::put_clock(conn, &ages.to_bytes(), seconds).is_ok() {
            (self.is_other, self.stored) = (false, seconds);
            self.writes = self.writes.wrapping_add(1);
        }
        let (now, doubt) = (ages.now(running), ages.doubt(hold));
        self.report(doubt, hold, told);
        Ok(now)
    }

    fn report(&mut self, doubt: Option<Doubt>, hold: u64, told: &mut Vec<StoreEvent>) {
        let is_told = match (self.told, doubt) {
            (Some(Doubt::Leapt { ahead: before }), Some(Doubt::Leapt { ahead })) => before.abs_diff(ahead) <= OTHER,
            (before, doubt) => before == doubt,
        };
        if is_told {
            return;
        }
        self.told = doubt;
        let text = doubt.map(|doubt| match doubt {
            Doubt::Unset => "the clock was never set: no message goes by its age until it is".to_owned(),
            Doubt::Leapt { ahead } => format!(
                "the clock is {} ahead of what racerd's own running explains: until it has held for {} more of running \
                 time, messages go by age as if it had not leapt",
                words(ahead),
                words(hold)
            ),
        });
        told.push(StoreEvent::Note { about: About::Clock, text });
    }

    /// Reports, once, that messages have timestamps that a trusted clock shows to be wrong.
    pub fn misdated(&mut self, told: &mut Vec<StoreEvent>) {
        if self.told.is_none() && !std::mem::replace(&mut self.has_told_of_misdated, true) {
            let line = "a clock was wrong when some messages were stored (their times are more than a day ahead, or before \
                        2026): each goes by age together with the next one of its room whose time can be right";
            told.push(StoreEvent::Remark(line.to_owned()));
        }
    }
}

/// Formats a duration for people, rounded down.
fn words(milliseconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(31_556_952, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    let seconds = milliseconds / 1000;
    let (count, unit) = UNITS
        .into_iter()
        .find(|(length, _)| seconds >= 2 * length)
        .map_or((seconds, "second"), |(length, unit)| (seconds / length, unit));
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

#[cfg(test)]
mod tests {
    use super::super::schema::migrate;
    use super::*;

    const NOW: u64 = 1_790_000_000_000;
    const YEAR: u64 = 31_556_952_000;
    const KEEP: u64 = 40 * 3_600_000;

    fn at(wall: u64, running: u64) -> Moment {
        Moment { wall: WallMillis(wall), running, keep_for: KEEP }
    }

    fn log() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        conn.execute(
            "INSERT INTO meta (id, epoch, clean, boot, durability, running) VALUES (1, 'e', 1, '', 'full', 0)",
            [],
        )
        .unwrap();
        conn
    }

    /// Returns the texts of the notes; an empty text ends a note.
    fn told(events: &mut Vec<StoreEvent>) -> Vec<String> {
        events
            .drain(..)
            .map(|event| match event {
                StoreEvent::Note { about: About::Clock, text } => text.unwrap_or_default(),
                StoreEvent::Remark(line) => line,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_leap_outlives_the_process_and_is_told_when_it_begins_and_ends() {
        let conn = log();
        let mut events = Vec::new();
        let mut dating = Dating::default();
        assert_eq!(dating.now(&conn, at(NOW, 0), &mut events).unwrap(), Some(WallMillis(NOW)));
        assert_eq!(told(&mut events), [] as [&str; 0]);
        // Another process, whose clock is years ahead.
        let mut dating = Dating::default();
        assert_eq!(dating.now(&conn, at(NOW + 12 * YEAR, 5_000), &mut events).unwrap(), Some(WallMillis(NOW + 5_000)));
        assert_eq!(
            dating.now(&conn, at(NOW + 12 * YEAR + 1, 5_001), &mut events).unwrap(),
            Some(WallMillis(NOW + 5_001))
        );
        let lines = told(&mut events);
        assert_eq!(lines.len(), 1, "once: {lines:?}");
        assert!(lines[0].contains("11 years ahead") && lines[0].contains("held for 10 hours"), "{lines:?}");
        dating.misdated(&mut events);
        assert_eq!(told(&mut events), [] as [&str; 0], "not while it is in doubt");
        let mut dating = Dating::default();
        let later = 5_000 + KEEP / 4;
        let wall = NOW + 12 * YEAR + KEEP / 4;
        dating.now(&conn, at(wall - 1_000, later - 1_000), &mut events).unwrap();
        assert_eq!(dating.now(&conn, at(wall, later), &mut events).unwrap(), Some(WallMillis(wall)));
        let lines = told(&mut events);
        assert!(lines.len() == 2 && lines[1].is_empty(), "{lines:?}");
        for _ in 0..2 {
            dating.misdated(&mut events);
        }
        assert_eq!(told(&mut events).len(), 1);
    }

    #[test]
    fn running_time_is_stored_though_nobody_writes() {
        let conn = log();
        let mut dating = Dating::default();
        for minute in 0..=240 {
            dating.now(&conn, at(NOW + minute * 60_000, minute * 60_000), &mut Vec::new()).unwrap();
        }
        let running: i64 = conn.query_row("SELECT running FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(running, 4 * 3_600);
    }

    #[test]
    fn an_unset_clock_is_told_and_where_nothing_goes_by_age_no_clock_is() {
        let conn = log();
        let mut events = Vec::new();
        let mut dating = Dating::default();
        assert_eq!(dating.now(&conn, at(1_000, 0), &mut events).unwrap(), None);
        assert!(told(&mut events)[0].contains("never set"));
        let for_ever = Moment { keep_for: 0, ..at(2_000, 1_000) };
        assert_eq!(dating.now(&conn, for_ever, &mut events).unwrap(), None);
        assert_eq!(told(&mut events), [""]);
    }

    #[test]
    fn durations_read_well() {
        let cases = [(999, "0 seconds"), (1_000, "1 second"), (119_000, "119 seconds"), (120_000, "2 minutes")];
        for (milliseconds, expected) in cases.into_iter().chain([(86_400_000, "24 hours"), (3 * YEAR, "3 years")]) {
            assert_eq!(words(milliseconds), expected);
        }
    }
}
