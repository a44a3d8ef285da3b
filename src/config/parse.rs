//! Flags and environment to `Settings`. A flag is stronger than a variable, a variable than the default; where a value
//! came from is kept.

use super::{Kind, Setting, Settings, all, relations, spelling};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// What [`parse`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub settings: Settings,
    /// Variables that begin with `RACERD_`, are no setting, and are known to mean something else.
    pub ignored: Vec<String>,
    sources: BTreeMap<&'static str, Source>,
}

impl Parsed {
    /// Where the setting with this field name got its value from.
    pub fn source(&self, field: &str) -> Source {
        self.sources.get(field).copied().unwrap_or(Source::Default)
    }
}

/// Where a value comes from, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    Environment,
    Flag,
}

/// One line for the person who started racerd: which flag or variable, its value, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(text: &str) -> ConfigError {
        // A value may hold anything; the line stays one line.
        let line = text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() });
        ConfigError(line.collect())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Reads flags (`--name VALUE`, `--name=VALUE`, `--name` alone for yes) and variables (`RACERD_NAME=VALUE`).
///
/// A list's flag may be repeated, and each value may hold several items with commas between; the flags replace the
/// variable's list. Of any other flag given twice the last holds. An empty variable counts as not set.
///
/// # Errors
/// The first value that cannot be read, name that is not known, or relation that does not hold.
pub fn parse<A, E>(args: A, environment: E) -> Result<Parsed, ConfigError>
where
    A: IntoIterator<Item = OsString>,
    E: IntoIterator<Item = (OsString, OsString)>,
{
    let mut parsed = Parsed::default();
    variables(&mut parsed, environment)?;
    flags(&mut parsed, args)?;
    relations::check(&parsed.settings).map_err(|text| ConfigError::new(&text))?;
    Ok(parsed)
}

fn variables(
    parsed: &mut Parsed,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    for (name, value) in environment {
        // What is not Unicode cannot be one of ours, and must not disturb.
        let Some(name) = name.to_str().filter(|name| name.starts_with("RACERD_")) else { continue };
        let value = unicode(name, value)?;
        let Some(setting) = all().find(|setting| setting.variable() == name) else {
            if is_foreign(name, &value) {
                parsed.ignored.push(name.to_string());
                continue;
            }
            let near = nearest(&name["RACERD_".len()..]).map(Setting::variable);
            return Err(unknown(name, near));
        };
        if !value.is_empty() {
            set(parsed, setting, &[&value], Source::Environment, &format!("{name}={}", shown(&value)))?;
        }
    }
    Ok(())
}

fn flags(parsed: &mut Parsed, args: impl IntoIterator<Item = OsString>) -> Result<(), ConfigError> {
    let mut lists: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let arg = unicode("an argument", arg)?;
        let Some(flag) = arg.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            let hint = "settings begin with two dashes, see racerd --help";
            return Err(ConfigError::new(&format!("unexpected argument {}; {hint}", shown(&arg))));
        };
        let (name, joined) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (flag, None),
        };
        let Some(setting) = all().find(|setting| setting.flag() == name) else {
            let near = nearest(name).map(|setting| format!("--{}", setting.flag()));
            return Err(unknown(&format!("--{}", shown(name)), near));
        };
        let value = match (joined, &setting.kind) {
            (Some(value), _) => value,
            (None, Kind::Flag) => "true".to_string(),
            // What looks like the next flag is no value; `--name=--value` remains.
            (None, kind) => match args.next_if(|next| !next.as_encoded_bytes().starts_with(b"--")) {
                Some(value) => unicode(&format!("--{name}"), value)?,
                None => {
                    let text = format!("--{name} needs a value ({})", kind.allowed());
                    return Err(ConfigError::new(&text));
                }
            },
        };
        let given = format!("--{name} {}", shown(&value));
        if let Kind::List { .. } = setting.kind {
            let list = lists.entry(setting.field).or_default();
            list.push(value);
            let texts: Vec<&str> = list.iter().map(String::as_str).collect();
            set(parsed, setting, &texts, Source::Flag, &given)?;
        } else {
            set(parsed, setting, &[&value], Source::Flag, &given)?;
        }
    }
    Ok(())
}

fn set(
    parsed: &mut Parsed,
    setting: &'static Setting,
    texts: &[&str],
    source: Source,
    given: &str,
) -> Result<(), ConfigError> {
    let outcome = setting.parse(texts).and_then(|value| setting.apply(&mut parsed.settings, value));
    outcome.map_err(|text| ConfigError::new(&format!("{given}: {text}")))?;
    parsed.sources.insert(setting.field, source);
    Ok(())
}

/// Variables that are not settings, and that whoever starts racerd did not write for it.
fn is_foreign(name: &str, value: &str) -> bool {
    // What the tests and benches beside the server hand to themselves, and it inherits.
    if matches!(name, "RACERD_ARGS" | "RACERD_PYTHON" | "RACERD_NODE_PATH") {
        return true;
    }
    // Kubernetes sets these in every pod beside a service of the name `racerd`.
    let is_port = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name == "RACERD_SERVICE_HOST"
        || name == "RACERD_SERVICE_PORT"
        || name.starts_with("RACERD_SERVICE_PORT_")
        || name.strip_prefix("RACERD_PORT_").is_some_and(is_port)
        || name == "RACERD_PORT" && value.contains("://")
}

fn nearest(typed: &str) -> Option<&'static Setting> {
    let flags: Vec<String> = all().map(Setting::flag).collect();
    let found = spelling::nearest(typed, flags.iter().map(String::as_str))?;
    all().find(|setting| setting.flag() == found)
}

fn unknown(name: &str, near: Option<String>) -> ConfigError {
    let hint = near.map_or("see racerd --help".to_string(), |near| format!("did you mean {near}?"));
    ConfigError::new(&format!("unknown setting {name}, {hint}"))
}

fn unicode(what: &str, text: OsString) -> Result<String, ConfigError> {
    text.into_string().map_err(|text| ConfigError::new(&format!("{what} is not valid UTF-8: {}", text.display())))
}

/// A value as it is put into a message: not longer than a line.
fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_string(),
    }
}
