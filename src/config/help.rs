//! The text of `--help`, from the declaration.

use super::{GROUPS, Kind, Setting};
use std::fmt::Write;

/// Widest line, in columns.
const WIDTH: usize = 96;

/// Every setting with its default, variable and text, by group.
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

fn describe(out: &mut String, setting: &Setting) {
    let left = format!("--{} {}", setting.flag(), setting.kind.placeholder());
    let default = match (setting.default, setting.kind) {
        ("", _) => "none",
        (_, Kind::Flag) => "off",
        (text, _) => text,
    };
    let line = format!("  {left:<38} {default:<15} {}", setting.variable());
    let _ = writeln!(out, "{}", line.trim_end());
    let mut text = setting.doc.trim().to_string();
    match setting.kind {
        Kind::Size { .. } | Kind::Duration { .. } | Kind::Count { .. } => {
            let _ = write!(text, " {}.", setting.kind.allowed());
        }
        Kind::Rate { per, .. } => {
            let unit = if per == "min" { "minute" } else { "second" };
            let _ = write!(text, " Per {unit}; 0: no limit.");
        }
        Kind::List { .. } => text.push_str(" Repeatable, or with commas."),
        Kind::Choice(words) => {
            let _ = write!(text, " One of {}.", words.join(", "));
        }
        Kind::Flag | Kind::Path => {}
    }
    for line in wrap(&text, WIDTH - 6) {
        let _ = writeln!(out, "      {line}");
    }
}

/// Breaks at spaces into lines of at most `width` characters; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_every_setting_is_there() {
        let text = help();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for setting in crate::config::all() {
            assert!(text.contains(&format!("  --{} ", setting.flag())), "{}", setting.flag());
            assert!(text.contains(&setting.variable()));
        }
        assert!(text.contains("32KiB"));
    }

    #[test]
    fn wrapping() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aaaaaaaa b", 5), ["aaaaaaaa", "b"]);
        assert!(wrap("", 5).is_empty());
    }
}
