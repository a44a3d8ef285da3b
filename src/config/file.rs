//! The configuration file: TOML, a flat list of settings by name. Works on the text only; the file is read elsewhere.

use super::error::{ConfigError, shown, unknown};
use super::{Kind, Setting, all, spelling};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// The path as the user wrote it.
    pub name: &'a str,
    pub text: &'a str,
}

/// One entry of the file.
pub(super) struct Entry {
    pub setting: &'static Setting,
    /// Counted from 1.
    pub line: u32,
    /// The argument of [`Setting::parse`].
    pub texts: Vec<String>,
}

impl File<'_> {
    /// Returns the entries in the order of the file.
    ///
    /// # Errors
    /// The first place that is malformed TOML, an unknown setting, or a value of the wrong type for its setting.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| self.syntax(error))?.into_inner();
        let mut entries = Vec::new();
        let mut first_fault: Option<(usize, ConfigError)> = None;
        // The table is sorted by name, but people read from the top, so the topmost fault is reported.
        for (key, value) in &table {
            let start = key.span().start;
            match self.entry(key.get_ref(), start, value) {
                Ok(entry) => entries.push((start, entry)),
                Err(_) if first_fault.as_ref().is_some_and(|(before, _)| *before < start) => {}
                Err(error) => first_fault = Some((start, error)),
            }
        }
        if let Some((_, error)) = first_fault {
            return Err(error);
        }
        entries.sort_by_key(|(start, _)| *start);
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Returns a place in the file as `racerd.toml:12`.
    pub(super) fn place(&self, line: u32) -> String {
        format!("{}:{line}", self.name)
    }

    /// Returns the place of a byte of the text, as `access.toml:12`.
    pub fn place_at(&self, at: usize) -> String {
        self.place(self.line_at(at))
    }

    /// Returns the error for text that is not TOML, without quoting the text: it may be secret.
    pub fn malformed(&self, error: toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        let text = format!("{}: {}", self.place_at(start), error.message());
        ConfigError::with(&text, error)
    }

    fn entry(&self, key: &str, start: usize, value: &Spanned<DeValue<'_>>) -> Result<Entry, ConfigError> {
        let line = self.line_at(start);
        let wrong = |text: &str| ConfigError::new(&format!("{}: {}: {text}", self.place(line), shown(key)));
        let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_));
        let has_tables = |value: &DeValue<'_>| matches!(value, DeValue::Array(items) if items.iter().any(|item| is_table(item.get_ref())));
        if is_table(value.get_ref()) || has_tables(value.get_ref()) {
            return Err(wrong("the file has no tables; write each setting on a line of its own, without a [header]"));
        }
        if key == "config" {
            return Err(wrong("only --config and RACERD_CONFIG name the file"));
        }
        let Some(setting) = all().find(|setting| setting.field == key) else {
            let near = spelling::nearest_name(key, &[]).map(|near| near.replace('-', "_"));
            return Err(wrong(&unknown(near, "racerd print-config shows all")));
        };
        let texts = texts(&setting.kind, value.get_ref()).map_err(|text| wrong(&text))?;
        Ok(Entry { setting, line, texts })
    }

    fn syntax(&self, error: toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let there = self.text.get(span.clone()).unwrap_or("").trim();
        let there =
            if there.is_empty() || there.contains('\n') { String::new() } else { format!(": {}", shown(there)) };
        let text = format!("{}: {}{there}", self.place_at(span.start), error.message());
        ConfigError::with(&text, error)
    }

    /// Returns the line, counted from 1, of a byte offset in the text.
    fn line_at(&self, at: usize) -> u32 {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let breaks = before.iter().filter(|byte| **byte == b'\n').count();
        u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Returns a value as the texts that flags would have given.
fn texts(kind: &Kind, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let takes_numbers = matches!(
        kind,
        Kind::Size { .. } | Kind::SizeChoice(_) | Kind::Duration { .. } | Kind::Count { .. } | Kind::Rate { .. }
    );
    match value {
        DeValue::String(text) => Ok(vec![text.to_string()]),
        DeValue::Integer(number) if takes_numbers => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix()).map(|number| number.to_string());
            Ok(vec![decimal.unwrap_or_else(|_| number.to_string())])
        }
        DeValue::Boolean(on) if matches!(kind, Kind::Flag) => Ok(vec![on.to_string()]),
        DeValue::Array(items) if matches!(kind, Kind::List { .. }) => {
            let item = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!("a list of strings is wanted, and one of them is {}", kind_of(other))),
            };
            items.iter().map(item).collect()
        }
        other => Err(format!("{} is wanted, not {}", wanted(kind), kind_of(other))),
    }
}

fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Size { .. } | Kind::SizeChoice(_) => "a number of bytes, or a string such as \"32KiB\",",
        Kind::Duration { .. } => "a string such as \"20s\"",
        Kind::Count { .. } | Kind::Rate { .. } => "a whole number",
        Kind::Flag => "true or false",
        Kind::Choice(_) | Kind::Path | Kind::PathOrNone => "a string",
        Kind::List { .. } => "a list of strings",
    }
}

/// Returns what a value is, with its article.
pub fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, Settings, Source, parse};
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Settings, String> {
        let file = File { name: "racerd.toml", text };
        parse(Some(file), [], []).map(|parsed| parsed.settings).map_err(|error: ConfigError| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = read(text).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }

    #[test]
    fn numbers_strings_and_lists() {
        let text = "# mine\r\nqueue_bytes = 0x8_0000\nreply_bytes = \"128KiB\"\nping_period = '20s'\ndrain_timeout = 0\n\
                    open = true\nin_flight = 3_2\nrequest_rate = \"5/s\"\nlog_level = \"warn\"\n\
                    host = [\"A.example\", \"b.example,c.example\"]\nallow_origin = \"https://a\"\n\"data\" = \"x.db\"";
        let settings = read(text).unwrap();
        assert_eq!((settings.limits.queue_bytes, settings.limits.reply_bytes), (0x8_0000, 128 << 10));
        assert_eq!((settings.time.ping_period, settings.time.drain_timeout), (20_000, 0));
        assert_eq!((settings.limits.in_flight, settings.limits.request_rate), (32, 5));
        assert!(settings.listening.open);
        assert_eq!(settings.listening.host, ["a.example", "b.example", "c.example"]);
        assert_eq!(settings.listening.allow_origin, ["https://a"]);
        assert_eq!(settings.storage.data.to_str(), Some("x.db"));
        assert_eq!(read("\u{feff}").as_ref(), Ok(&Settings::default()), "an editor's mark at the beginning");
    }

    #[test]
    fn each_fault_with_its_line() {
        refused("\n\nping_perod = 1", "racerd.toml:3: ping_perod: unknown setting; did you mean ping_period?");
        refused("ping-period = '1s'", "racerd.toml:1: ping-period: unknown setting; did you mean ping_period?");
        refused("colour = 1", "racerd.toml:1: colour: unknown setting; racerd print-config shows all");
        // The first in the file, not in alphabetical order.
        refused("zzz = 1\naaa = 2", "racerd.toml:1: zzz");
        refused("in_flight = 3\nin_flight = 4", "racerd.toml:2: duplicate key: in_flight");
        refused("\n[limits]\nin_flight = 3", "racerd.toml:2: limits: the file has no tables");
        refused("[[x]]\n", "racerd.toml:1: x: the file has no tables");
        refused("limits.in_flight = 3", "racerd.toml:1: limits: the file has no tables");
        refused("limits = { in_flight = 3 }", "racerd.toml:1: limits: the file has no tables");
        refused("ping_period = 20", "racerd.toml:1: ping_period = 20: not a duration; write a number with a unit");
        refused("in_flight = 65", "racerd.toml:1: in_flight = 65: allowed: 1 to 64");
        refused("in_flight = -1", "racerd.toml:1: in_flight = -1: not a whole number");
        refused("in_flight = 1.0", "racerd.toml:1: in_flight: a whole number is wanted, not a number with a fraction");
        refused("in_flight = true", "racerd.toml:1: in_flight: a whole number is wanted, not true or false");
        refused("open = 1", "racerd.toml:1: open: true or false is wanted, not a number");
        refused("data = ['a']", "racerd.toml:1: data: a string is wanted, not a list");
        refused("data = 1979-05-27", "racerd.toml:1: data: a string is wanted, not a date");
        refused("host = [1]", "racerd.toml:1: host: a list of strings is wanted, and one of them is a number");
        refused("listen = []", "racerd.toml:1: listen = : at least one is needed");
        refused("config = 'x'", "racerd.toml:1: config: only --config and RACERD_CONFIG name the file");
        refused("data = 'a", "racerd.toml:1: ");
        refused("open = true false", "racerd.toml:1: ");
        refused("\"\\u001b[2J\" = 1", "racerd.toml:1: \\u{1b}[2J: unknown setting");
        refused(&format!("in_flight = {}", "9".repeat(10_000)), "racerd.toml:1: in_flight = 999");
        refused("ping_period = '60s'", "racerd.toml:1: ping_period = 60s and pong-wait 60s (default): the first must");
    }

    #[test]
    fn an_error_of_the_parser_is_the_source() {
        let error = parse(Some(File { name: "f", text: "open = yes" }), [], []).unwrap_err();
        assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<toml::de::Error>()), "{error:?}");
    }

    #[test]
    fn the_line_is_kept() {
        let file = File { name: "f", text: "\n\nopen = true\n" };
        let parsed = parse(Some(file), [], []).unwrap();
        assert_eq!((parsed.source("open"), parsed.file.as_deref()), (Source::File { line: 3 }, Some("f")));
        assert!(Source::Default < Source::File { line: 9 } && Source::File { line: 9 } < Source::Environment);
    }

    proptest! {
        #[test]
        fn any_text_gives_settings_or_one_line(
            lines in prop::collection::vec(
                (prop::sample::select(all().map(|setting| setting.field).collect::<Vec<_>>()), prop_oneof![
                    "[0-9]{1,22}", "'[0-9]{1,9}(k|KiB|ms|s|m|/s)?'", "(true|false)", r#"\[("[a-z0-9:./]{0,9}",?){0,3}\]"#, "\\PC{0,12}", ".{0,12}",
                ]),
                0..5,
            ),
            rest in ".{0,40}",
        ) {
            let text: String = lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            for text in [&text, &rest, &format!("{text}{rest}")] {
                if let Err(error) = read(text) {
                    prop_assert!(!error.chars().any(char::is_control) && error.contains("racerd.toml:"), "{}", error);
                }
            }
        }
    }
}
