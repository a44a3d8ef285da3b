//! The text of `--help`, from the declaration.

use super::text::wrap;
use super::{GROUPS, Kind, Setting, spelling};
use std::fmt::Write;

/// Widest line, in columns.
const WIDTH: usize = 80;

/// Returns every setting with its default, bounds and text, by group.
pub fn help() -> String {
    let mut out = String::new();
    for group in &GROUPS {
        let _ = writeln!(out, "{}:", group.title);
        for setting in group.settings {
            describe(&mut out, setting);
        }
        out.push('\n');
    }
    out
}

/// Returns one setting with all of its spellings. The name may be written as a flag, a variable or a key of the file.
///
/// # Errors
/// One line for the user, if there is no such setting.
pub fn help_on(name: &str) -> Result<String, String> {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let plain = lower.trim_start_matches("--");
    let plain = plain.strip_prefix("racerd-").unwrap_or(plain);
    let found = GROUPS.iter().flat_map(|group| group.settings).find(|setting| setting.flag() == plain);
    let Some(setting) = found else {
        let near = spelling::nearest_name(plain, &[]);
        return Err(super::error::ConfigError::new(&format!(
            "{}: {}",
            super::error::shown(name),
            super::error::unknown(near, "see racerd help settings")
        ))
        .to_string());
    };
    let mut out = String::new();
    describe(&mut out, setting);
    let default = match setting.parse(&[setting.default]) {
        Ok(value) => setting.kind.toml(&value),
        Err(_) => setting.default.to_string(),
    };
    let live =
        if setting.live { "A running server takes a new value at SIGHUP." } else { "A new value needs a restart." };
    let _ = writeln!(out, "      Variable: {}   File: {} = {default}\n      {live}", setting.variable(), setting.field);
    Ok(out)
}

fn describe(out: &mut String, setting: &Setting) {
    let left = format!("--{} {}", setting.flag(), setting.kind.placeholder());
    let line = format!("  {left:<34} {:<15} {}", setting.shown_default(), bounds(setting));
    let _ = writeln!(out, "{}", line.trim_end());
    for line in wrap(setting.doc, WIDTH - 6) {
        let _ = writeln!(out, "      {line}");
    }
}

/// Returns the allowed values in short form.
fn bounds(setting: &Setting) -> String {
    match setting.kind {
        Kind::List { .. } => "repeatable, or with commas".to_string(),
        Kind::Rate { per, .. } => format!("per {}; 0: no limit", if per == "min" { "minute" } else { "second" }),
        Kind::Flag | Kind::Path | Kind::PathOrNone => String::new(),
        Kind::Size { .. } | Kind::Duration { .. } | Kind::Count { .. } | Kind::Choice(_) | Kind::SizeChoice(_) => {
            setting.kind.allowed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_every_setting_is_there() {
        let text = help();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line);
        }
        for setting in crate::config::all() {
            let line = text.lines().find(|line| line.starts_with(&format!("  --{} ", setting.flag())));
            assert!(line.is_some_and(|line| line.contains(setting.shown_default())), "{}", setting.flag());
        }
    }

    #[test]
    fn one_setting_by_each_of_its_names() {
        for name in ["ping-period", "--ping-period", "ping_period", "RACERD_PING_PERIOD"] {
            let text = help_on(name).unwrap();
            assert!(text.contains("RACERD_PING_PERIOD") && text.contains("ping_period = \"25s\""), "{text}");
            assert!(text.contains("SIGHUP") && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
        assert!(help_on("data").unwrap().contains("restart"));
        assert_eq!(help_on("pong_wiat").unwrap_err(), "pong_wiat: unknown setting; did you mean pong-wait?");
        assert!(!help_on("\u{1b}\n").unwrap_err().contains('\n'));
        for setting in crate::config::all() {
            assert!(help_on(&setting.variable()).is_ok());
        }
    }
}
