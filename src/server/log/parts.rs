//! Parts of a log line that are the same in each format: its bounds, and the time.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest line in bytes, with its newline. A pipe that polls as writable takes this many (PIPE_BUF) without blocking.
pub(super) const LONGEST_LINE: usize = 4096;

/// Longest value in characters; the rest is cut off and shown as `...`.
pub(super) const LONGEST_VALUE: usize = 300;

/// Accepts the first `left` characters, then writes dots and refuses the rest.
pub(super) struct Bounded<'a> {
    pub out: &'a mut String,
    pub left: usize,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.left {
            // It has no more characters than bytes.
            self.left -= if text.is_ascii() { text.len() } else { text.chars().count() };
            self.out.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            if self.left == 0 {
                self.out.push_str("...");
                return Err(fmt::Error);
            }
            self.out.push(c);
            self.left -= 1;
        }
        Ok(())
    }
}

/// Formats a time as RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`. A clock before 1970 reads as 1970,
/// one after 9999 as 9999.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let mut text = String::with_capacity("2026-01-02T03:04:05.678Z".len());
    digits(&mut text, year.min(9999), 4);
    for (before, number) in
        [('-', month), ('-', day), ('T', second / 3600), (':', second / 60 % 60), (':', second % 60)]
    {
        text.push(before);
        digits(&mut text, number, 2);
    }
    text.push('.');
    digits(&mut text, since.subsec_millis().into(), 3);
    text.push('Z');
    text
}

/// Appends the last `count` digits of a number.
fn digits(text: &mut String, number: u64, count: u32) {
    for place in (0..count).rev() {
        // proof: a digit fits.
        text.push(char::from(b'0' + (number / 10u64.pow(place) % 10) as u8));
    }
}

/// Returns year, month and day of the Gregorian calendar for a number of days since 1970-01-01.
pub(super) fn civil_date(days: u64) -> (u64, u64, u64) {
    // Days count from 0000-03-01: with the year beginning in March the leap day is its last, and the cycle is 400
    // years.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March in groups of five with 153 days: 31, 30, 31, 30, 31.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, month, day)
}
