//! The text of `--print-config`: a configuration file with every setting, from the declaration. Each value is commented
//! out with `#`, so that the unchanged file means the defaults, also those of a later racerd; texts begin with `# `.

use super::text::wrap;
use super::{GROUPS, Kind, Setting};
use std::fmt::Write;

/// Widest line, in columns.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Settings of racerd, for --config FILE or RACERD_CONFIG. What stands here are the defaults; take
# the # before a line away to change it. A variable (RACERD_PING_PERIOD=20s) is stronger than this
# file, a flag (--ping-period 20s) stronger than both. Sizes are \"64KiB\" or bytes, durations
# \"250ms\", \"10s\", \"2m\" or \"7d\". After a change: racerd --check-config --config FILE, then
# send SIGHUP to the running racerd.
";

/// Returns the whole file.
pub fn example() -> String {
    let mut out = HEAD.to_string();
    for group in &GROUPS {
        let _ = write!(out, "\n# ---- {} ----\n", group.title);
        for setting in group.settings {
            describe(&mut out, setting);
        }
    }
    out
}

fn describe(out: &mut String, setting: &Setting) {
    let live = if setting.live { "SIGHUP takes a new value." } else { "A new value needs a restart." };
    let allowed = match setting.kind {
        Kind::Flag | Kind::Path | Kind::PathOrNone | Kind::List { .. } => String::new(),
        Kind::Choice(words) | Kind::SizeChoice(words) => format!("One of {}. ", words.join(", ")),
        kind => format!("{}. ", kind.allowed()),
    };
    out.push('\n');
    for line in wrap(&format!("{} {allowed}{live}", setting.doc), WIDTH - 2) {
        let _ = writeln!(out, "# {line}");
    }
    let value = setting.parse(&[setting.default]).map(|value| setting.kind.toml(&value));
    let _ = writeln!(out, "#{} = {}", setting.field, value.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Parsed, Settings, Source, all, parse};

    fn read(text: &str) -> Parsed {
        parse(Some(File { name: "racerd.toml", text }), [], []).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn it_means_the_defaults_with_and_without_its_values() {
        let text = example();
        let parsed = read(&text);
        assert_eq!(parsed.settings, Settings::default());
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_string() + "\n")
            .collect();
        let parsed = read(&uncommented);
        assert_eq!(parsed.settings, Settings::default());
        for setting in all() {
            assert!(matches!(parsed.source(setting.field), Source::File { .. }), "{}", setting.field);
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
