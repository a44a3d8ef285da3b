//! Settings from a file, variables and flags that anyone may have written: nothing panics, a refusal is one line fit
//! for a terminal, and accepted settings keep within their bounds, can be written out and read again, and can be used.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::access::Doors;
use crate::config::{Change, ConfigError, File, Parsed, Settings, all, exposed, file_name, parse};
use crate::http::authority::Host;
use crate::limits;

/// Most characters of a refusal: a few lines of a terminal.
const LONGEST: usize = 600;

/// Splits the input at bytes 0xff. The first part is the file's text; an empty part means no file. Of the others, parts
/// that begin with `RACERD_` are variables, all else are arguments.
pub fn config(data: &[u8]) {
    let mut parts = data.split(|&byte| byte == 0xff);
    let text = parts.next().and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
    let file = (!text.is_empty()).then_some(File { name: "racerd.toml", text });
    let (mut environment, mut args) = (Vec::new(), Vec::new());
    for part in parts {
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        match part.iter().position(|&byte| byte == b'=') {
            Some(equals) if part.starts_with(b"RACERD_") => {
                environment.push((os(&part[..equals]), os(&part[equals + 1..])))
            }
            _ => args.push(os(part)),
        }
    }
    if let Err(error) = file_name(&args, &environment) {
        check_error(&error);
    }
    match parse(file, args, environment) {
        Err(error) => check_error(&error),
        Ok(parsed) => check_settings(&parsed),
    }
}

fn check_error(error: &ConfigError) {
    let line = error.to_string();
    assert!(!line.is_empty() && !line.contains(char::is_control), "not one line: {line:?}");
    assert!(line.chars().count() <= LONGEST, "a line of {} characters: {line:?}", line.chars().count());
}

fn check_settings(parsed: &Parsed) {
    let settings = &parsed.settings;
    for setting in all() {
        let shown = setting.show(settings);
        let origin = parsed.origin(setting);
        assert!(!origin.contains(char::is_control), "{origin:?}");
        // The type's own parser enforces the bounds.
        let value = setting.parse(&[&shown]);
        let mut again = settings.clone();
        // proof: this must not fail; the fuzzer looks for it.
        setting.apply(&mut again, value.expect("what is shown can be read")).expect("what was a value is one");
        assert_eq!(again, *settings, "{} is shown as {shown}", setting.field);
    }
    check_relations(settings);
    check_round_trips(settings);
    if let Err(error) = exposed(parsed) {
        let line = error.to_string();
        assert!(!line.contains(char::is_control), "not one line: {line:?}");
    }
    assert!(
        limits::engine(settings, Doors::open()).is_ok(),
        "an origin for one reader only: {:?}",
        settings.listening.allow_origin
    );
    for host in settings.listening.host.iter().filter(|host| *host != "*") {
        let read = Host::parse(host);
        assert_eq!(read.map(|read| read.to_string()).as_ref(), Some(host), "a host that no request can name");
    }
    // Read while running: the resulting settings must be valid as well.
    let running = Settings::default();
    let change = Change::between(&running, settings);
    check_relations(&change.settings);
    let again = Change::between(&change.settings, settings);
    assert!(again.taken.is_empty() && again.waiting == change.waiting, "taken in part");
}

/// Checks the relations between settings.
fn check_relations(settings: &Settings) {
    let Settings { listening, storage, limits, time, .. } = settings;
    let envelope = crate::types::size::MAX_ENVELOPE;
    assert!(time.ping_period as u128 * 10 <= time.pong_wait as u128 * 9);
    for (larger, smaller) in [
        (limits.queue_bytes, limits.max_message_size + envelope),
        (limits.queue_bytes, limits.page_bytes + envelope),
        (limits.reply_bytes, limits.max_message_size + envelope),
        (limits.reply_bytes, limits.page_bytes + envelope),
        (limits.append_bytes, limits.max_message_size + envelope),
        (limits.tail_bytes_total, limits.tail_bytes),
    ] {
        assert!(larger >= smaller, "{larger} bytes where {smaller} must fit: {limits:?}");
    }
    assert!((1..=64).contains(&limits.in_flight) && !listening.listen.is_empty());
    assert!(storage.max_database_size == 0 || storage.max_database_size >= 1 << 20);
}

/// Checks that the settings are the same after writing them as flags, as variables and as a file.
fn check_round_trips(settings: &Settings) {
    let shown = || all().map(|setting| (setting, setting.show(settings)));
    let flags = shown().map(|(setting, text)| OsString::from(format!("--{}={text}", setting.flag())));
    let variables = shown().map(|(setting, text)| (OsString::from(setting.variable()), OsString::from(text)));
    // Every character as an escape, since that is the hardest to read.
    let quoted = |text: String| text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect::<String>();
    let text: String = shown().map(|(setting, text)| format!("{} = \"{}\"\n", setting.field, quoted(text))).collect();
    let file = File { name: "racerd.toml", text: &text };
    let read = [parse(None, flags, []), parse(None, [], variables), parse(Some(file), [], [])];
    for (way, read) in ["flags", "variables", "a file"].iter().zip(read) {
        // proof: this must not fail; the fuzzer looks for it.
        let read = read.expect("what is shown can be read");
        assert_eq!(read.settings, *settings, "written as {way}");
    }
}
