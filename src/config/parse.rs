//! Reads file, environment and flags into `Settings`. A flag overrides a variable, a variable the file, and the file
//! the default; the source of each value is kept.

use super::error::{ConfigError, shown, unknown};
use super::file::File;
use super::parsed::{Parsed, Source};
use super::{Kind, Setting, all, relations, spelling};
use lexopt::{Arg, Parser};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The flag and the variable that name the file. Not a setting, since the file cannot name itself.
const CONFIG: (&str, &str) = ("config", "RACERD_CONFIG");

/// Flags that are not settings.
const OTHERS: [&str; 5] = [CONFIG.0, "check-config", "print-config", "help", "version"];

/// Returns the file name from `--config`, or else from `RACERD_CONFIG`; the caller reads the file and passes it to
/// [`parse`]. The last of several flags wins.
///
/// # Errors
/// The flag has no value, or the value is not UTF-8.
pub fn file_name(args: &[OsString], environment: &[(OsString, OsString)]) -> Result<Option<String>, ConfigError> {
    let mut found = None;
    for (name, value) in environment {
        if name == CONFIG.1 && !value.is_empty() {
            found = Some(unicode(CONFIG.1, value.clone())?);
        }
    }
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(unexpected)? {
        let is_config = matches!(arg, Arg::Long(name) if name == CONFIG.0);
        // The values of other flags are skipped: none of them begins with two dashes.
        let value = parser.optional_value();
        if is_config {
            let value = value.or_else(|| separate_value(&mut parser)).filter(|value| !value.is_empty());
            found = Some(unicode("--config", value.ok_or_else(|| needs_value(CONFIG.0, "a path"))?)?);
        }
    }
    Ok(found)
}

/// Reads the file, if there is one, variables (`RACERD_NAME=VALUE`) and flags (`--name VALUE`, `--name=VALUE`, `--name`
/// alone for yes).
///
/// A list's flag may be repeated, and each value may hold several items separated by commas; the flags replace the
/// variable's list. If any other flag is given twice, the last one wins. An empty variable counts as not set.
///
/// # Errors
/// The first malformed value, unknown name, or relation that does not hold.
pub fn parse<A, E>(file: Option<File<'_>>, args: A, environment: E) -> Result<Parsed, ConfigError>
where
    A: IntoIterator<Item = OsString>,
    E: IntoIterator<Item = (OsString, OsString)>,
{
    let mut parsed = Parsed::default();
    if let Some(file) = file {
        parsed.file = Some(file.name.to_string());
        entries(&mut parsed, &file)?;
    }
    variables(&mut parsed, environment)?;
    flags(&mut parsed, args)?;
    relations::check(&parsed).map_err(|text| ConfigError::new(&text))?;
    Ok(parsed)
}

fn entries(parsed: &mut Parsed, file: &File<'_>) -> Result<(), ConfigError> {
    for entry in file.entries()? {
        let texts: Vec<&str> = entry.texts.iter().map(String::as_str).collect();
        let given = format!("{}: {} = {}", file.place(entry.line), entry.setting.field, shown(&texts.join(",")));
        set(parsed, entry.setting, &texts, Source::File { line: entry.line }, &given)?;
    }
    Ok(())
}

fn variables(
    parsed: &mut Parsed,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    for (name, value) in environment {
        // A name that is not Unicode cannot be a setting's, and must not cause an error.
        let Some(name) = name.to_str().filter(|name| name.starts_with("RACERD_")) else { continue };
        let value = unicode(name, value)?;
        if name == CONFIG.1 {
            continue;
        }
        let Some(setting) = all().find(|setting| setting.variable() == name) else {
            if is_foreign(name, &value) {
                parsed.ignored.push(name.to_string());
                continue;
            }
            let near = spelling::nearest_name(&name["RACERD_".len()..], &[CONFIG.0]);
            let near = near.map(|near| format!("RACERD_{}", near.replace('-', "_").to_ascii_uppercase()));
            return Err(ConfigError::new(&format!("{}: {}", shown(name), unknown(near, HELP))));
        };
        if !value.is_empty() {
            set(parsed, setting, &[&value], Source::Environment, &format!("{name}={}", shown(&value)))?;
        }
    }
    Ok(())
}

fn flags(parsed: &mut Parsed, args: impl IntoIterator<Item = OsString>) -> Result<(), ConfigError> {
    let mut lists: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(unexpected)? {
        let name = match arg {
            Arg::Long(name) => name.to_string(),
            Arg::Short(letter) => return Err(no_flag(&format!("-{letter}"))),
            Arg::Value(word) => return Err(no_flag(&unicode("an argument", word)?)),
        };
        let joined = parser.optional_value();
        if name == CONFIG.0 {
            // Already read by `file_name`.
            joined.or_else(|| separate_value(&mut parser)).ok_or_else(|| needs_value(&name, "a path"))?;
            continue;
        }
        let Some(setting) = all().find(|setting| setting.flag() == name) else {
            let near = spelling::nearest_name(&name, &OTHERS).map(|near| format!("--{near}"));
            return Err(ConfigError::new(&format!("--{}: {}", shown(&name), unknown(near, HELP))));
        };
        let value = match (joined, &setting.kind) {
            (Some(value), _) => unicode(&format!("--{name}"), value)?,
            (None, Kind::Flag) => "true".to_string(),
            (None, kind) => match separate_value(&mut parser) {
                Some(value) => unicode(&format!("--{name}"), value)?,
                None => return Err(needs_value(&name, &kind.allowed())),
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

/// Returns whether a variable was set for another purpose, and not as a setting by the user.
fn is_foreign(name: &str, value: &str) -> bool {
    // The tests and benches set these for themselves, and the server inherits them.
    if matches!(name, "RACERD_ARGS" | "RACERD_PYTHON" | "RACERD_NODE_PATH") {
        return true;
    }
    // Kubernetes sets these in every pod in the namespace of a service named `racerd`.
    let is_port = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name == "RACERD_SERVICE_HOST"
        || name == "RACERD_SERVICE_PORT"
        || name.starts_with("RACERD_SERVICE_PORT_")
        || name.strip_prefix("RACERD_PORT_").is_some_and(is_port)
        || name == "RACERD_PORT" && value.contains("://")
}

const HELP: &str = "see racerd help settings";

fn needs_value(name: &str, allowed: &str) -> ConfigError {
    ConfigError::new(&format!("--{name} needs a value ({allowed})"))
}

/// Returns whether a word after a setting's flag is its value. A word that looks like the next flag is not; such a
/// value has to be written as `--name=--value`.
fn is_value(word: &OsStr) -> bool {
    !word.as_encoded_bytes().starts_with(b"--")
}

/// Returns whether the flag of this name, without its dashes, takes a value; `None` if there is no such flag.
pub fn flag_takes_value(name: &str) -> Option<bool> {
    if name == CONFIG.0 {
        return Some(true);
    }
    all().find(|setting| setting.flag() == name).map(|setting| !matches!(setting.kind, Kind::Flag))
}

/// Returns the name of every flag that [`parse`] accepts, without its dashes.
pub fn flag_names() -> Vec<String> {
    all().map(Setting::flag).chain([CONFIG.0.to_string()]).collect()
}

/// Takes the next word as a flag's value, unless it looks like another flag; `--name=--value` remains for that.
pub fn separate_value(parser: &mut Parser) -> Option<OsString> {
    parser.try_raw_args()?.next_if(is_value)
}

fn no_flag(word: &str) -> ConfigError {
    let hint = "settings begin with two dashes; see racerd help settings";
    ConfigError::new(&format!("unexpected argument {}; {hint}", shown(word)))
}

fn unexpected(error: lexopt::Error) -> ConfigError {
    ConfigError::with(&error.to_string(), error)
}

fn unicode(what: &str, text: OsString) -> Result<String, ConfigError> {
    text.into_string().map_err(|text| {
        ConfigError::new(&format!("{} is not valid UTF-8: {}", shown(what), shown(&text.display().to_string())))
    })
}
