//! The README's table of settings, from the declaration. A test compares; `WRITE_README=1 cargo test --lib readme` writes
//! it anew.

use super::{GROUPS, Kind, Setting};
use std::fmt::Write;

/// One table for each group, in Markdown.
pub fn table() -> String {
    let mut out = String::new();
    for group in &GROUPS {
        let _ = write!(out, "\n| {} | default | live | |\n|---|---|---|---|\n", group.title);
        for setting in group.settings {
            row(&mut out, setting);
        }
    }
    out
}

fn row(out: &mut String, setting: &Setting) {
    let live = if setting.live { "yes" } else { "restart" };
    let mut doc = setting.doc.trim().replace('|', "\\|");
    if let Kind::Rate { per, .. } = setting.kind {
        let unit = if per == "min" { "minute" } else { "second" };
        let _ = write!(doc, " Per {unit}; 0: no limit.");
    }
    let _ = writeln!(out, "| `--{}` | {} | {live} | {doc} |", setting.flag(), setting.shown_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const BEGIN: &str = "<!-- settings: generated from src/config, see src/config/table.rs -->\n";
    const END: &str = "<!-- settings: end -->";

    #[test]
    fn the_readme_has_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = fs::read_to_string(&path).unwrap();
        let begin = readme.find(BEGIN).expect("the marker where the table begins") + BEGIN.len();
        let end = begin + readme[begin..].find(END).expect("the marker where the table ends");
        let wanted = format!("{}\n", table());
        if std::env::var_os("WRITE_README").is_some() {
            fs::write(&path, format!("{}{wanted}{}", &readme[..begin], &readme[end..])).unwrap();
            return;
        }
        let fault = "README.md's settings are not those declared; WRITE_README=1 cargo test --lib readme writes them";
        assert!(readme[begin..end] == wanted, "{fault}");
    }

    #[test]
    fn every_setting_has_one_row() {
        let table = table();
        for setting in crate::config::all() {
            assert_eq!(table.matches(&format!("| `--{}` |", setting.flag())).count(), 1, "{}", setting.flag());
        }
        for line in table.lines().filter(|line| !line.is_empty()) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
        }
    }
}
