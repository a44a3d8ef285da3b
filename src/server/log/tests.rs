//! Tests of the log: dates, escapes, and outputs that accept no data.

use super::parts::civil_date;
use super::*;
use proptest::prelude::*;
use std::fs::OpenOptions;
use std::io::Read;
use std::time::{Duration, UNIX_EPOCH};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn timestamps() {
    // The right-hand sides are the output of GNU date.
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399, "2000-02-28T23:59:59.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_868_800, "2000-03-01T00:00:00.000Z"),
        (1_709_164_800, "2024-02-29T00:00:00.000Z"),
        (1_767_225_599, "2025-12-31T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(timestamp(at(seconds)), text);
    }
    assert_eq!(timestamp(UNIX_EPOCH + Duration::from_millis(1_790_000_000_123)), "2026-09-21T14:13:20.123Z");
    assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
}

#[test]
fn every_day_follows_the_one_before() {
    let mut last = civil_date(0);
    for days in 1..200_000 {
        let (year, month, day) = civil_date(days);
        let divides = |n: u64| last.0.is_multiple_of(n);
        let leap = divides(4) && (!divides(100) || divides(400));
        let length = match last.1 {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let expected = match last {
            (y, 12, 31) => (y + 1, 1, 1),
            (y, m, d) if d == length => (y, m + 1, 1),
            (y, m, d) => (y, m, d + 1),
        };
        assert_eq!((year, month, day), expected);
        last = expected;
    }
}

#[test]
fn lines() {
    let plain = line(at(0), LogLevel::Info, "listening", &[("address", &"127.0.0.1:7077"), ("n", &3)]);
    assert_eq!(plain, "1970-01-01T00:00:00.000Z INFO  listening address=127.0.0.1:7077 n=3\n");
    let quoted = line(at(0), LogLevel::Error, "x", &[("a", &"b c"), ("d", &""), ("e", &"f=g"), ("h", &"\"\\")]);
    assert_eq!(quoted, "1970-01-01T00:00:00.000Z ERROR x a=\"b c\" d=\"\" e=\"f=g\" h=\"\\\"\\\\\"\n");
}

#[test]
fn what_others_wrote_cannot_forge_a_line_or_steer_a_terminal() {
    let hostile = "x\n2026-01-01 ERROR forged \u{1b}[2J \u{9b}2J \u{202e}evil\u{2028}\u{85}\r\0";
    let line = line(at(0), LogLevel::Info, hostile, &[("name", &hostile)]);
    assert_eq!(line.lines().count(), 1);
    assert!(line.contains(r"name=") && line.contains(r"\n2026") && line.contains(r"\u{1b}[2J"), "{line}");
    assert!(line.contains(r"\u{202e}evil\u{2028}\u{85}\r\u{0}"), "{line}");
}

#[test]
fn long_values_and_long_lines_are_cut() {
    let marks = "e\u{301}".repeat(10_000);
    let cut = line(at(0), LogLevel::Info, "x", &[("name", &marks)]);
    assert!(cut.ends_with("...\n") && cut.len() < 1200, "{}", cut.len());
    let cut = line(at(0), LogLevel::Info, &"\u{1b}é".repeat(4000), &[]);
    assert!(cut.ends_with("...\n") && cut.len() <= LONGEST_LINE, "{}", cut.len());
}

proptest! {
    #[test]
    fn any_text_makes_one_bounded_line(message in any::<String>(), value in any::<String>()) {
        let line = line(at(0), LogLevel::Warn, &message, &[("value", &value)]);
        prop_assert!(line.len() <= LONGEST_LINE);
        prop_assert!(line.ends_with('\n'));
        prop_assert!(!line.trim_end_matches('\n').chars().any(is_unsafe));
    }
}

#[test]
fn less_important_lines_are_left_out() {
    let (mut reader, writer) = io::pipe().unwrap();
    let log = Log::to(LogLevel::Warn, LogFormat::Text, File::from(std::os::fd::OwnedFd::from(writer)));
    log.info("no", &[]);
    log.debug("no", &[]);
    log.warn("yes", &[]);
    log.error("yes", &[]);
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.lines().count(), text.matches(" yes").count()), (2, 2), "{text}");
}

#[test]
fn nobody_reads() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let log = Log::to(LogLevel::Info, LogFormat::Text, File::from(std::os::fd::OwnedFd::from(writer)));
    log.info("into a closed pipe", &[]);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let full = Log::to(LogLevel::Info, LogFormat::Text, full);
    full.info("onto a full disk", &[]);
    assert_eq!((log.lost.into_inner(), full.lost.into_inner()), (1, 1));
}

#[test]
fn a_reader_that_stalls_does_not_block_and_is_told_what_it_missed() {
    let (mut reader, writer) = io::pipe().unwrap();
    let log = Log::to(LogLevel::Info, LogFormat::Text, File::from(std::os::fd::OwnedFd::from(writer)));
    let long = "x".repeat(250);
    let total = 2000;
    for _ in 0..total {
        log.info("line", &[("value", &long)]);
    }
    let lost = log.lost.load(Ordering::Relaxed);
    assert!(lost > 0, "the pipe never filled");
    // There is room again: the count precedes the next line.
    let mut some = vec![0; 32 << 10];
    reader.read_exact(&mut some).unwrap();
    log.info("after", &[]);
    drop(log);
    let mut rest = some;
    reader.read_to_end(&mut rest).unwrap();
    let text = String::from_utf8(rest).unwrap();
    assert!(text.contains(&format!("log lines were lost lines={lost}\n")), "{}", &text[text.len() - 300..]);
    assert!(text.trim_end().ends_with("INFO  after"));
    assert_eq!(text.matches(" line value=").count() + lost, total);
}

#[test]
fn one_line_a_minute() {
    let mut throttle = Throttle::minute();
    assert_eq!(throttle.pass(Millis(0)), Some(0));
    assert_eq!(throttle.pass(Millis(1)), None);
    assert_eq!(throttle.pass(Millis(59_999)), None);
    assert_eq!(throttle.pass(Millis(60_000)), Some(2));
    assert_eq!(throttle.pass(Millis(60_001)), None);
    assert_eq!(throttle.pass(Millis(600_000)), Some(1));
    assert_eq!(throttle.pass(Millis(u64::MAX)), Some(0));
}
