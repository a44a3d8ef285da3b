//! The bash completion, in a real bash.

use std::process::Command;

use crate::support::*;

/// Returns bash's completions for these words, the last of which is still being typed.
fn offers(folder: &TempDir, words: &[&str]) -> Vec<String> {
    const SCRIPT: &str = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _racerd
        printf '%s\n' "${COMPREPLY[@]}""#;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/completions/racerd.bash");
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-uc", SCRIPT, "bash", file, "racerd"]).args(words).current_dir(folder.path());
    let output = bash.output().expect("bash");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut offers: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_string).collect();
    offers.sort();
    offers
}

#[test]
fn bash_completes_commands_options_values_and_files() {
    let folder = TempDir::new();
    for name in ["racerd.db", "a key"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let of = |words: &[&str]| offers(&folder, words);
    assert_eq!(of(&["sen"]), ["send"]);
    assert!(of(&[""]).contains(&"check-config".to_string()));
    assert_eq!(of(&["--lis"]), ["--listen"]);
    assert_eq!(of(&["send", "--"]).len(), 10, "its own eight, --help and --version");
    assert_eq!(of(&["send", "http://a/rooms/b", "--jso"]), ["--json"]);
    assert_eq!(of(&["backup", "--fo"]), ["--force"]);
    assert_eq!(of(&["backup", "--da"]), ["--data", "--data-key-file"]);
    assert_eq!(of(&["serve", "--durability", ""]), ["full", "memory", "normal"]);
    assert_eq!(of(&["--durability", "=", "no"]), ["normal"]);
    assert_eq!(of(&["--log-format", "="]), ["json", "text"]);
    assert_eq!(of(&["--data", "rac"]), ["racerd.db"]);
    assert_eq!(of(&["check", "a"]), ["a key"]);
    assert_eq!(of(&["keygen", "--data", "a"]), ["a key"], "a data key's file");
    assert_eq!(of(&["help", "ping-pe"]), ["ping-period"]);
    assert_eq!(of(&["help", "set"]), ["settings"]);
    let nothing: [&str; 0] = [];
    assert_eq!(of(&["send", "--name", "a"]), nothing);
    assert_eq!(of(&["send", "--durability", ""]), nothing);
    assert_eq!(of(&["sned", "--"]), nothing);
}
