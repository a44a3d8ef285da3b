//! Floods of lines, counted in bytes.

use super::*;
use crate::config::LogFormat;
use crate::testing::TempDir;
use std::fs::{self, File};

const CONN: ConnId = ConnId { index: 1, generation: 2 };

fn refused(n: u64, status: u16, detail: &str) -> Fact {
    let peer = SocketAddr::from(([203, 0, 113, 7], 4_000));
    let asked = Some(format!("GET /{n}/{}", "\u{e0001}".repeat(300)));
    Fact::Refused { conn: CONN, peer, client: None, status, detail: detail.to_owned(), asked }
}

fn closed(protocol: Protocol) -> Fact {
    let peer = SocketAddr::from(([203, 0, 113, 7], 4_000));
    Fact::Closed { conn: CONN, peer, client: None, ending: Ending::Reset, protocol }
}

/// Refused requests of each kind with the longest lines, 7,000 a second, and connections that end: in no second are
/// more than 100 KB written, each line is there or counted, and an error comes through.
#[test]
fn a_flood_of_refusals_writes_little_and_hides_no_error() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let folder = TempDir::new();
        let path = folder.path().join("log");
        let log = Log::to(LogLevel::Debug, format, File::create(&path).unwrap());
        let mut facts = Facts::default();
        let detail = "\u{1b}".repeat(300);
        let (mut wanted, mut before) = (0, 0);
        for millisecond in 0..10_000 {
            let now = Millis(millisecond);
            for (n, status) in [400, 404, 405, 413, 429, 503].into_iter().enumerate() {
                facts.log(&log, refused(n as u64, status, &detail), now);
                wanted += 1;
            }
            facts.log(&log, closed(Protocol::Http), now);
            wanted += 1;
            facts.tell_left_out(&log, now);
            if millisecond == 9_500 {
                facts.log(&log, Fact::StoreFailed { reason: "the disk is full".to_owned() }, now);
            }
            if millisecond % 1_000 == 999 {
                let length = fs::metadata(&path).unwrap().len();
                assert!(length - before <= 100_000, "{} bytes in second {}", length - before, millisecond / 1_000);
                before = length;
            }
        }
        for second in 10..20 {
            facts.tell_left_out(&log, Millis(second * 10_000));
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("the store takes no messages").count(), 1);
        assert!(text.contains("lines left out"));
        if format == LogFormat::Json {
            // A line that is cut has lost what stands at its end.
            continue;
        }
        let lines = text.lines().filter(|line| !line.contains("lines left out") && !line.contains("takes no messages"));
        assert!(lines.count() < 1_000 && wanted == 70_000);
    }
}

/// Short lines are all there, or told.
#[test]
fn every_line_is_written_or_counted() {
    let folder = TempDir::new();
    let path = folder.path().join("log");
    let log = Log::to(LogLevel::Debug, LogFormat::Text, File::create(&path).unwrap());
    let mut facts = Facts::default();
    for millisecond in 0..5_000 {
        facts.log(&log, closed(Protocol::Http), Millis(millisecond));
        facts.log(&log, closed(Protocol::WebSocket), Millis(millisecond));
        facts.log_tls(&log, CONN, &"no certificate", Millis(millisecond));
    }
    for second in 10..20 {
        facts.tell_left_out(&log, Millis(second * 1_000));
    }
    let text = fs::read_to_string(&path).unwrap();
    let left_out = |line: &str| line.split("lines_left_out=").nth(1).map_or(0, |number| number.parse::<u64>().unwrap());
    let (lines, told): (u64, u64) = text.lines().fold((0, 0), |(lines, told), line| {
        (lines + u64::from(!line.contains("lines left out")), told + left_out(line))
    });
    assert_eq!(lines + told, 15_000);
    assert!(lines < 1_200, "{lines} lines");
}

/// Unless it is asked for, an HTTP connection that ends has no line.
#[test]
fn the_end_of_an_http_connection_is_a_detail() {
    let folder = TempDir::new();
    let path = folder.path().join("log");
    let log = Log::to(LogLevel::Info, LogFormat::Text, File::create(&path).unwrap());
    let mut facts = Facts::default();
    for protocol in [Protocol::Http, Protocol::ExcessHttp, Protocol::WebSocket, Protocol::EventStream] {
        facts.log(&log, closed(protocol), Millis(0));
    }
    let text = fs::read_to_string(&path).unwrap();
    let kinds: Vec<&str> = text.split_whitespace().filter_map(|word| word.strip_prefix("kind=")).collect();
    assert_eq!(kinds, ["websocket", "events"]);
}
