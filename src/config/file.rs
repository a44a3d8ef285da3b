//! The configuration file: TOML, one flat list of the settings' names. Knows the text only; who reads it from a disk is
//! elsewhere.

use super::parse::{ConfigError, shown, unknown};
use super::{Kind, Setting, all, spelling};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// As the person who started racerd wrote it.
    pub name: &'a str,
    pub text: &'a str,
}

/// One entry of the file.
pub(super) struct Entry {
    pub setting: &'static Setting,
    /// Counted from 1.
    pub line: u32,
    /// What [`Setting::parse`] takes.
    pub texts: Vec<String>,
}

impl File<'_> {
    /// The entries in the order in which they stand.
    ///
    /// # Errors
    /// The first place that is no TOML, no setting, or of a type that the setting does not take.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?.into_inner();
        let mut entries = Vec::new();
        let mut first_fault: Option<(usize, ConfigError)> = None;
        // The table is sorted by name; people read from the top.
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

    /// `racerd.toml:12`
    pub(super) fn place(&self, line: u32) -> String {
        format!("{}:{line}", self.name)
    }

    fn entry(&self, key: &str, start: usize, value: &Spanned<DeValue<'_>>) -> Result<Entry, ConfigError> {
        let line = self.line_at(start);
        let wrong = |text: &str| ConfigError::new(&format!("{}: {}: {text}", self.place(line), shown(key)));
        if let DeValue::Table(_) = value.get_ref() {
            return Err(wrong("the file has no tables; write each setting on a line of its own, without a [header]"));
        }
        if key == "config" {
            return Err(wrong("only --config and RACERD_CONFIG name the file"));
        }
        let Some(setting) = all().find(|setting| setting.field == key) else {
            let near = spelling::nearest_setting(key).map(|setting| setting.field.to_string());
            return Err(wrong(&unknown(near, "racerd --print-config shows all")));
        };
        let texts = texts(&setting.kind, value.get_ref()).map_err(|text| wrong(&text))?;
        Ok(Entry { setting, line, texts })
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let there = self.text.get(span.clone()).unwrap_or("").trim();
        let there =
            if there.is_empty() || there.contains('\n') { String::new() } else { format!(": {}", shown(there)) };
        ConfigError::new(&format!("{}: {}{there}", self.place(self.line_at(span.start)), error.message()))
    }

    /// The line, from 1, of a byte of the text.
    fn line_at(&self, at: usize) -> u32 {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let breaks = before.iter().filter(|byte| **byte == b'\n').count();
        u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// A value as the texts that a flag would have given.
fn texts(kind: &Kind, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let takes_numbers =
        matches!(kind, Kind::Size { .. } | Kind::Duration { .. } | Kind::Count { .. } | Kind::Rate { .. });
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
                other => Err(format!("a list of strings is wanted, and one of them is {}", name_of(other))),
            };
            items.iter().map(item).collect()
        }
        other => Err(format!("{} is wanted, not {}", wanted(kind), name_of(other))),
    }
}

fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Size { .. } => "a number of bytes, or a string such as \"32KiB\",",
        Kind::Duration { .. } => "a string such as \"20s\"",
        Kind::Count { .. } | Kind::Rate { .. } => "a whole number",
        Kind::Flag => "true or false",
        Kind::Choice(_) | Kind::Path => "a string",
        Kind::List { .. } => "a list of strings",
    }
}

fn name_of(value: &DeValue<'_>) -> &'static str {
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
