//! Generates the tables of docs/settings.md from the declaration. A test compares them with the file; `WRITE_SETTINGS=1
//! cargo test --lib settings_md` rewrites them.

use super::{GROUPS, Kind, Setting};
use std::fmt::Write;

/// Returns one table per group, in Markdown.
pub fn table() -> String {
    let mut out = String::new();
    for group in &GROUPS {
        let _ = write!(
            out,
            "\n### {}\n\n| setting | default | allowed | live | what it does |\n|---|---|---|---|---|\n",
            group.title
        );
        for setting in group.settings {
            row(&mut out, setting);
        }
    }
    out
}

fn row(out: &mut String, setting: &Setting) {
    let live = if setting.live { "yes" } else { "restart" };
    let doc = setting.doc.trim().replace('|', "\\|");
    let allowed = match setting.kind {
        Kind::Rate { per, .. } => format!("per {}; 0: no limit", if per == "min" { "minute" } else { "second" }),
        Kind::PathOrNone => "a path".to_string(),
        _ => setting.kind.allowed(),
    };
    let _ = writeln!(out, "| `--{}` | {} | {allowed} | {live} | {doc} |", setting.flag(), setting.shown_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const BEGIN: &str = "<!-- settings: generated from src/config, see src/config/table.rs -->\n";
    const END: &str = "<!-- settings: end -->";

    #[test]
    fn settings_md_has_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
        let text = fs::read_to_string(&path).unwrap();
        let begin = text.find(BEGIN).expect("the marker where the table begins") + BEGIN.len();
        let end = begin + text[begin..].find(END).expect("the marker where the table ends");
        let wanted = table();
        if std::env::var_os("WRITE_SETTINGS").is_some() {
            fs::write(&path, format!("{}{wanted}{}", &text[..begin], &text[end..])).unwrap();
            return;
        }
        let fault =
            "docs/settings.md differs from the declaration; WRITE_SETTINGS=1 cargo test --lib settings_md writes it";
        assert!(text[begin..end] == wanted, "{fault}");
    }

    #[test]
    fn every_setting_has_one_row() {
        let table = table();
        for setting in crate::config::all() {
            assert_eq!(table.matches(&format!("| `--{}` |", setting.flag())).count(), 1, "{}", setting.flag());
        }
        for line in table.lines().filter(|line| line.starts_with('|')) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 6, "{line}");
        }
    }
}
