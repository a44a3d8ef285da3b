//! Replays every file of the corpora through its target: an input that a fuzzer once found stays covered, on stable
//! Rust and without a fuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::*;

/// Returns all targets, by name.
fn targets() -> Vec<(&'static str, Body)> {
    let measured: Body = |data| client_json(data, |work| allocation_counter::measure(work).bytes_total);
    TARGETS.iter().copied().chain([("client_json", measured)]).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// Returns the files of a folder, by name; none if the folder does not exist.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_corpora_hold() {
    let mut failed = Vec::new();
    for (name, body) in targets() {
        let files = files(&folder("corpus").join(name));
        assert!(!files.is_empty(), "fuzz/corpus/{name} has no files");
        for file in files {
            let data = fs::read(&file).unwrap();
            if catch_unwind(|| body(&data)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "these fail, see above: {failed:#?}");
}

/// No target is without a replay, no corpus without a target, and no file without a telling name.
#[test]
fn every_target_has_its_body_its_corpus_and_telling_names() {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let replayed: Vec<String> = targets().iter().map(|(name, _)| (*name).to_owned()).collect();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let script = fs::read_to_string(folder("../tests/fuzz")).unwrap();
    let all = script.lines().find_map(|line| line.strip_prefix("all=(")?.strip_suffix(')')).unwrap();
    assert_eq!(sorted(all.split(' ').map(str::to_owned).collect()), sorted(replayed.clone()));
    let corpora: Vec<String> = files(&folder("corpus")).iter().map(stem).collect();
    assert_eq!(corpora, sorted(replayed));
    for corpus in files(&folder("corpus")) {
        for file in files(&corpus) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let is_hash = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let telling = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            assert!(telling && !is_hash, "{}: a name of small letters, digits and hyphens", file.display());
        }
    }
}

/// The planted failure is found, and nothing else triggers it.
#[test]
fn the_canary_sings_when_found() {
    let sings = |data: &[u8]| catch_unwind(AssertUnwindSafe(|| canary(data))).is_err();
    assert!(sings(b"canary\x0f\xf0"));
    for silent in [&b""[..], b"canary", b"canary\x0f\x0f", b"canary\x0f", b"canarx\x0f\xf0"] {
        assert!(!sings(silent), "{silent:?}");
    }
}
