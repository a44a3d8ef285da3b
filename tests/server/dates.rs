//! Cases 94 and 95: a clock that was never set, is years ahead, or steps while the server runs, with messages that
//! expire by age. Checks the promises of docs/operate.md about `at`, `--keep-for`, `/readyz` and the log, on the real
//! binary.

use serde_json::Value;

use crate::clock::FakeClock;
use crate::support::*;

const NEVER_SET: &str = "the clock was never set: no message goes by its age until it is";
const LEAPT: &str = "years ahead of what racerd's own running explains";
const BELIEVED: &str = "the clock is believed again";
const MISDATED: &str = "a clock was wrong when some messages were stored";

/// A server with its own clock.
struct Dated {
    server: Server,
    clock: FakeClock,
    arguments: Vec<String>,
}

impl Dated {
    fn start(date: &str, arguments: &[&str]) -> Dated {
        let folder = TempDir::new();
        let clock = FakeClock::showing(&folder, date);
        let command = clock.over(Server::command(&folder, "127.0.0.1:0", arguments));
        let server = Server::start_as(folder, command);
        Dated { server, clock, arguments: arguments.iter().map(|argument| argument.to_string()).collect() }
    }

    /// Stops the server and starts it at this date.
    fn restart(&mut self, date: &str) {
        assert!(self.server.stop().success());
        self.clock.set(date);
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let command = Server::command(&self.server.folder, &self.server.address.to_string(), &arguments);
        self.server.restart_as(self.clock.over(command));
    }

    /// Publishes a message. Returns its date, in seconds since 1970.
    fn post(&self, room: &str) -> u64 {
        let answer = self.server.post(&format!("/rooms/{room}/messages"), "1");
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["at"].as_u64().expect("a date") / 1000
    }

    /// Returns the oldest seq that the room keeps, and its head.
    fn kept(&self, room: &str) -> (u64, u64) {
        let page = self.server.get(&format!("/rooms/{room}/messages?limit=1000")).json();
        let messages = page["messages"].as_array().expect("messages");
        let head = page["head"].as_u64().expect("a head");
        (messages.first().map_or(head + 1, |message| message["seq"].as_u64().expect("a seq")), head)
    }

    /// Returns the log from this offset on.
    fn log_from(&self, before: usize) -> String {
        self.server.log().split_off(before)
    }

    fn note(&self) -> Value {
        let answer = self.server.get("/readyz");
        assert_eq!(answer.status, 200, "a clock stops nothing: {}", answer.body);
        answer.json()["note"].clone()
    }
}

/// Length of a year in seconds, for rough comparisons with 1970 and 2099.
const YEAR: u64 = 31_556_952;

/// The opposite case: in 1970 no message expires, however short `--keep-for` is. Once the clock is set and has held,
/// messages expire again, those of 1970 among them.
#[test]
fn a_start_in_1970_drops_nothing_until_the_clock_is_set() {
    let mut dated = Dated::start("+0", &["--keep-for", "4s"]);
    dated.post("r");
    dated.restart("@1970-01-01 00:00:09");
    eventually("the log", || dated.server.log().contains(NEVER_SET));
    for seq in 2..=4 {
        assert!(dated.post("r") < 1_000, "a date by the clock as it is");
        assert_eq!(dated.kept("r"), (1, seq));
    }
    assert!(dated.note().as_str().is_some_and(|note| note.contains("never set")), "{}", dated.note());
    let before = dated.server.log().len();
    dated.clock.set("+0");
    assert!(dated.post("r") > 55 * YEAR);
    eventually("the end of the note", || dated.log_from(before).contains(BELIEVED));
    // By today's clock the first message is old; those of 1970 are treated as being as old as the one behind them.
    within(SOON * 3, "they go", || dated.kept("r") == (6, 5));
    assert!(dated.note().is_null(), "{}", dated.note());
}

/// One message stamped by a clock years ahead does not stop pruning, neither in its room nor in others.
#[test]
fn one_message_of_the_future_does_not_end_retention() {
    let mut dated = Dated::start("@2099-01-01 00:00:00", &["--keep-for", "4s"]);
    assert!(dated.post("other") > 128 * YEAR);
    dated.restart("+0");
    for _ in 0..3 {
        assert!(dated.post("r") < 100 * YEAR, "`at` went back");
    }
    within(SOON * 3, "the room's messages go by age", || dated.kept("r") == (4, 3));
    assert_eq!(dated.kept("other"), (1, 1), "nothing says how old it is");
    assert!(dated.post("other") < 100 * YEAR);
    within(SOON * 3, "it goes with the next of its room", || dated.kept("other") == (3, 2));
    assert!(dated.server.log().contains(MISDATED), "{}", dated.server.log());
    assert!(!dated.server.log().contains(LEAPT), "a clock that was put back is believed at once");
}

/// A start years ahead drops nothing and is reported in the log and in `/readyz`; the report ends when the clock is
/// right.
#[test]
fn a_start_that_is_years_ahead_drops_nothing() {
    let mut dated = Dated::start("+0", &["--keep-for", "30d"]);
    for _ in 0..5 {
        dated.post("r");
    }
    dated.restart("@2099-01-01 00:00:00");
    eventually("the log", || dated.server.log().contains(LEAPT));
    assert!(dated.note().as_str().is_some_and(|note| note.contains(LEAPT)), "{}", dated.note());
    // Each message makes the writer look for expired ones.
    for seq in 6..=9 {
        assert!(dated.post("r") > 128 * YEAR);
        assert_eq!(dated.kept("r"), (1, seq));
    }
    let before = dated.server.log().len();
    dated.restart("+0");
    assert!(dated.post("r") < 100 * YEAR);
    eventually("a start", || dated.log_from(before).contains(" started "));
    assert!(dated.note().is_null(), "{}", dated.note());
    assert_eq!(dated.kept("r"), (1, 10));
    assert!(!dated.log_from(before).contains(LEAPT));
}

/// Clock steps during a conversation: order follows seq, `at` holds over a step back of up to a minute and follows a
/// longer one, and durations are unaffected.
#[test]
fn steps_while_serving_move_dates_and_nothing_else() {
    let dated = Dated::start("@2030-06-01 12:00:00", &["--keep-for", "30d"]);
    let mut member = dated.server.member("r", "ann");
    let start = dated.post("r");
    let mut heard: Vec<u64> = vec![member.next_of("message")["at"].as_u64().unwrap() / 1000];
    let mut told = Vec::new();
    // Seconds since the first message, which a busy machine may store some time after the clock's first date.
    for (date, least, most, words) in [
        // Back by half a minute: the last stamp is kept.
        ("@2030-06-01 11:59:30", 0, 30, ""),
        // Back by two hours: the stamp follows the clock.
        ("@2030-06-01 10:00:00", -7_400, -7_000, ""),
        ("@2030-06-04 12:00:00", 259_000, 259_400, "days ahead of what racerd's own running explains"),
        ("@2099-01-01 00:00:00", 68 * 31_536_000, 70 * 31_556_952, LEAPT),
        ("@1970-01-01 00:00:09", -61 * 31_622_400, -60 * 31_536_000, NEVER_SET),
        ("@2030-06-01 12:00:00", -200, 200, BELIEVED),
    ] {
        let before = dated.server.log().len();
        dated.clock.set(date);
        let at = dated.post("r");
        let passed = at as i64 - start as i64;
        assert!((least..=most).contains(&passed), "{date}: {passed}");
        let message = member.next_of("message");
        assert_eq!(message["seq"], heard.len() + 1, "in order, by seq");
        heard.push(message["at"].as_u64().unwrap() / 1000);
        assert_eq!(heard.last(), Some(&at));
        member.sync();
        // The writer notices at its next check, after a write.
        eventually(words, || dated.log_from(before).contains(words));
        told.push(dated.kept("r"));
    }
    let heads: Vec<(u64, u64)> = (2..=7).map(|head| (1, head)).collect();
    assert_eq!(told, heads, "nothing went by age");
    assert!(dated.note().is_null(), "{}", dated.note());
}
