//! The declaration of a setting: its name, kind, default and text, and where its value lives in `Settings`. The
//! `settings!` macro makes a group's struct and its table from one list, so that nothing is stated twice.

use super::{Settings, text};
use crate::types::{Durability, Network, OnDamage, PageSize, Place};
use std::path::PathBuf;

/// One setting, as declared.
pub struct Setting {
    /// The field's name, with underscores. [`Setting::flag`] and [`Setting::variable`] are derived from it.
    pub field: &'static str,
    /// The help text, a sentence or two.
    pub doc: &'static str,
    pub kind: Kind,
    /// The default as a user would write it; empty for an empty list.
    pub default: &'static str,
    /// Whether a running server can take a new value.
    pub live: bool,
    pub(super) read: fn(&Settings) -> Value,
    pub(super) write: fn(&mut Settings, Value) -> Option<()>,
}

/// The syntax of a value, with its bounds (inclusive).
#[derive(Clone, Copy)]
pub enum Kind {
    /// Bytes: `60000`, `64k`, `32KiB`, `8MiB`, `1GiB`; all units are powers of 1024.
    Size {
        min: u64,
        max: u64,
    },
    /// Milliseconds: `250ms`, `10s`, `2m`, `1h`, `7d`.
    Duration {
        min: u64,
        max: u64,
    },
    Count {
        min: u64,
        max: u64,
    },
    /// Events per unit of time; 0 is no limit.
    Rate {
        per: &'static str,
        max: u64,
    },
    Choice(&'static [&'static str]),
    /// One of a few sizes, each in its normal form.
    SizeChoice(&'static [&'static str]),
    Flag,
    Path,
    /// A path, or none if empty.
    PathOrNone,
    /// A list, given by several flags or with commas. The function reads one item and returns it in its normal form.
    List {
        item: &'static str,
        one_at_least: bool,
        read: fn(&str) -> Result<String, String>,
    },
}

/// A value that was read and lies within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Text(String),
    Flag(bool),
    List(Vec<String>),
}

impl Setting {
    /// Returns the flag's name without the leading dashes: `max-message-size`.
    pub fn flag(&self) -> String {
        self.field.replace('_', "-")
    }

    /// Returns the variable's name: `RACERD_MAX_MESSAGE_SIZE`.
    pub fn variable(&self) -> String {
        format!("RACERD_{}", self.field.to_ascii_uppercase())
    }

    /// Reads a value. `texts` is one text, or any number of them for a list.
    ///
    /// # Errors
    /// The fault and the allowed values, in words, without the setting's name.
    pub fn parse(&self, texts: &[&str]) -> Result<Value, String> {
        self.kind.parse(texts)
    }

    /// Stores a value from [`Setting::parse`] in its field.
    ///
    /// # Errors
    /// The number is too large for this machine.
    pub fn apply(&self, settings: &mut Settings, value: Value) -> Result<(), String> {
        (self.write)(settings, value).ok_or_else(|| "too large for this machine".to_string())
    }

    /// Returns the default for display: `off` for a flag that is false, `none` for an empty value.
    pub fn shown_default(&self) -> &'static str {
        match (self.kind, self.default) {
            (Kind::Flag, "false") => "off",
            (_, "") => "none",
            (_, text) => text,
        }
    }

    /// Returns the value in `settings`, as a user would write it.
    pub fn show(&self, settings: &Settings) -> String {
        self.kind.show(&(self.read)(settings))
    }
}

impl Kind {
    fn parse(&self, texts: &[&str]) -> Result<Value, String> {
        // If a single-valued setting is given twice, the last value wins.
        let last = texts.last().copied().unwrap_or("");
        match *self {
            Kind::Size { min, max } => text::size(last).and_then(|n| within(n, min, max, self)),
            Kind::Duration { min, max } => text::duration(last).and_then(|n| within(n, min, max, self)),
            Kind::Count { min, max } => text::count(last).and_then(|n| within(n, min, max, self)),
            Kind::Rate { per, max } => text::rate(last, per).and_then(|n| within(n, 0, max, self)),
            Kind::Choice(words) => match words.iter().find(|word| **word == last) {
                Some(word) => Ok(Value::Text(word.to_string())),
                None => Err(format!("allowed: {}", words.join(", "))),
            },
            Kind::SizeChoice(sizes) => {
                let size = text::size(last).map(text::show_size)?;
                match sizes.contains(&size.as_str()) {
                    true => Ok(Value::Text(size)),
                    false => Err(format!("allowed: {}", sizes.join(", "))),
                }
            }
            Kind::Flag => text::flag(last).map(Value::Flag),
            Kind::PathOrNone if last.is_empty() => Ok(Value::Text(String::new())),
            Kind::Path if last.is_empty() => Err("a path is missing".to_string()),
            Kind::Path | Kind::PathOrNone if last.contains('\0') => Err("a path has no zero byte in it".to_string()),
            Kind::Path | Kind::PathOrNone => Ok(Value::Text(last.to_string())),
            Kind::List { one_at_least, read, .. } => {
                let items =
                    texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty());
                let mut list = Vec::new();
                for item in items {
                    let item = read(item)?;
                    if !list.contains(&item) {
                        list.push(item);
                    }
                }
                if list.is_empty() && one_at_least {
                    return Err("at least one is needed".to_string());
                }
                Ok(Value::List(list))
            }
        }
    }

    fn show(&self, value: &Value) -> String {
        match (self, value) {
            (Kind::Size { .. }, Value::Number(n)) => text::show_size(*n),
            (Kind::Duration { .. }, Value::Number(n)) => text::show_duration(*n),
            (Kind::Rate { per, .. }, Value::Number(n)) if *n > 0 => format!("{n}/{per}"),
            (_, Value::Number(n)) => n.to_string(),
            (_, Value::Text(text)) => text.clone(),
            (_, Value::Flag(on)) => on.to_string(),
            (_, Value::List(items)) => items.join(","),
        }
    }

    /// Returns the value as written in the configuration file: counts, rates and flags bare, everything else in quotes.
    pub(super) fn toml(&self, value: &Value) -> String {
        match value {
            Value::Number(number) if matches!(self, Kind::Count { .. } | Kind::Rate { .. }) => number.to_string(),
            Value::Flag(on) => on.to_string(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| text::quoted(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Number(_) | Value::Text(_) => text::quoted(&self.show(value)),
        }
    }

    /// Returns the allowed values, in words for the user.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Size { min, max } | Kind::Duration { min, max } | Kind::Count { min, max } => {
                format!("{} to {}", self.show(&Value::Number(*min)), self.show(&Value::Number(*max)))
            }
            Kind::Rate { max, per } => format!("0 (no limit) to {max}/{per}"),
            Kind::Choice(words) | Kind::SizeChoice(words) => words.join(", "),
            Kind::Flag => "true or false".to_string(),
            Kind::Path => "a path".to_string(),
            Kind::PathOrNone => "a path, or empty for none".to_string(),
            Kind::List { item, .. } => format!("a list of {item}"),
        }
    }

    /// Returns the placeholder of the value in `--help`; empty for a flag.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Kind::Size { .. } | Kind::SizeChoice(_) => "SIZE",
            Kind::Duration { .. } => "DURATION",
            Kind::Count { .. } => "COUNT",
            Kind::Rate { .. } => "RATE",
            Kind::Choice(_) => "WORD",
            Kind::Flag => "",
            Kind::Path | Kind::PathOrNone => "PATH",
            Kind::List { item, .. } => item,
        }
    }
}

fn within(number: u64, min: u64, max: u64, kind: &Kind) -> Result<Value, String> {
    match (min..=max).contains(&number) {
        true => Ok(Value::Number(number)),
        false => Err(format!("allowed: {}", kind.allowed())),
    }
}

/// A type that can store a setting's value.
pub(super) trait Field: Sized {
    /// Converts a value; `None` if it does not fit, or has the wrong kind (a declaration mistake that a test finds).
    fn take(value: Value) -> Option<Self>;
    fn give(&self) -> Value;
}

macro_rules! number_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn take(value: Value) -> Option<$type> {
                match value {
                    Value::Number(number) => number.try_into().ok(),
                    _ => None,
                }
            }

            fn give(&self) -> Value {
                // proof: no target has a usize of more than 64 bits.
                Value::Number(u64::try_from(*self).expect("64 bits hold every setting"))
            }
        }
    )*};
}
number_fields!(u32, u64, usize);

impl Field for bool {
    fn take(value: Value) -> Option<bool> {
        match value {
            Value::Flag(on) => Some(on),
            _ => None,
        }
    }

    fn give(&self) -> Value {
        Value::Flag(*self)
    }
}

impl Field for PathBuf {
    fn take(value: Value) -> Option<PathBuf> {
        match value {
            Value::Text(text) => Some(PathBuf::from(text)),
            _ => None,
        }
    }

    fn give(&self) -> Value {
        Value::Text(self.display().to_string())
    }
}

impl Field for Option<PathBuf> {
    fn take(value: Value) -> Option<Option<PathBuf>> {
        PathBuf::take(value).map(|path| Some(path).filter(|path| !path.as_os_str().is_empty()))
    }

    fn give(&self) -> Value {
        Value::Text(self.as_ref().map_or_else(String::new, |path| path.display().to_string()))
    }
}

impl Field for Vec<String> {
    fn take(value: Value) -> Option<Vec<String>> {
        match value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn give(&self) -> Value {
        Value::List(self.clone())
    }
}

impl Field for Vec<Place> {
    fn take(value: Value) -> Option<Vec<Place>> {
        match value {
            Value::List(items) => items.iter().map(|item| item.parse().ok()).collect(),
            _ => None,
        }
    }

    fn give(&self) -> Value {
        Value::List(self.iter().map(Place::to_string).collect())
    }
}

impl Field for Vec<Network> {
    fn take(value: Value) -> Option<Vec<Network>> {
        match value {
            Value::List(items) => items.iter().map(|item| Network::parse(item).ok()).collect(),
            _ => None,
        }
    }

    fn give(&self) -> Value {
        Value::List(self.iter().map(Network::to_string).collect())
    }
}

/// A value that is one of a few words.
pub trait Choice: Copy + 'static {
    const ALL: &'static [Self];

    fn as_str(self) -> &'static str;
}

impl<T: Choice> Field for T {
    fn take(value: Value) -> Option<T> {
        let Value::Text(word) = value else { return None };
        T::ALL.iter().copied().find(|choice| choice.as_str() == word)
    }

    fn give(&self) -> Value {
        Value::Text(self.as_str().to_string())
    }
}

impl Choice for Durability {
    const ALL: &'static [Durability] = &[Durability::Full, Durability::Normal, Durability::Memory];

    fn as_str(self) -> &'static str {
        Durability::as_str(self)
    }
}

impl Choice for OnDamage {
    const ALL: &'static [OnDamage] = &[OnDamage::Stop, OnDamage::Salvage];

    fn as_str(self) -> &'static str {
        OnDamage::as_str(self)
    }
}

impl Choice for PageSize {
    const ALL: &'static [PageSize] = &PageSize::ALL;

    fn as_str(self) -> &'static str {
        PageSize::as_str(self)
    }
}

/// Declares a group: a struct with one public field per setting, its defaults, and the table `SETTINGS`.
///
/// A setting is its text, then `field: type = default, kind, live;`, where `live` is `true` or `false`. The group's
/// struct is stored in the named field of `Settings`.
macro_rules! settings {
    ($(#[doc = $about:literal])+ $group:ident in $place:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:literal, $kind:expr, live $live:literal;)+
    }) => {
        $(#[doc = $about])+
        // The texts are help for users: `[::]` is an address there, not a link.
        #[allow(rustdoc::broken_intra_doc_links)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $group {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        pub(super) static SETTINGS: &[$crate::config::Setting] = &[
            $($crate::config::Setting {
                field: stringify!($field),
                doc: concat!($($doc),+),
                kind: $kind,
                default: $default,
                live: $live,
                read: |settings| $crate::config::setting::Field::give(&settings.$place.$field),
                write: |settings, value| {
                    settings.$place.$field = $crate::config::setting::Field::take(value)?;
                    Some(())
                },
            },)+
        ];

        impl Default for $group {
            fn default() -> $group {
                let mut declared = SETTINGS.iter();
                // Struct fields are evaluated in the order written, which is the table's.
                $group { $($field: $crate::config::setting::default_of(declared.next()),)+ }
            }
        }
    };
}
pub(super) use settings;

/// Returns the value of a setting's declared default.
pub(super) fn default_of<T: Field>(setting: Option<&Setting>) -> T {
    let value = setting.and_then(|setting| setting.parse(&[setting.default]).ok()).and_then(T::take);
    // proof: depends on nothing but the declaration, and every run of any test or command goes through it.
    value.expect("the declared default reads")
}
