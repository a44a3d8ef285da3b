//! The structure of the sources: which modules each module may name, what the pure ones may not name, and a few rules
//! for every file. The tables below are the rules; edit them there.
//!
//! A call that could panic (`unwrap`, `expect`, `unreachable!`, `panic!`) outside tests needs a comment that begins
//! with `// proof:` directly above its statement, or at the end of its line, and says why it cannot.
//!
//! Sources are read as text: comments and literals are blanked, then names and paths are searched. Renamed imports
//! (`use std as s`) would evade the check; it guards against mistakes, not against malice.

use std::fs;
use std::path::Path;

/// The modules that each module may `use crate::`, from the bottom up: a module names only modules above it in this
/// table. `lib.rs` and `main.rs` may name all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("json", &[]),
    ("http", &["types", "json"]),
    ("ws", &["http"]),
    ("crypto", &["types"]),
    ("store", &["types"]),
    ("testing", &[]),
    ("sqlite", &["types", "crypto", "store"]),
    ("key_file", &["types", "config", "crypto", "sqlite"]),
    ("hub", &["types", "store"]),
    ("protocol", &["types", "json", "hub", "store"]),
    ("web", &["types", "http"]),
    ("api", &["types", "json", "http", "ws", "hub", "protocol", "store", "web"]),
    ("conn", &["types", "http", "ws", "crypto"]),
    ("engine", &["types", "http", "ws", "store", "conn", "crypto"]),
    ("chat", &["types", "http", "ws", "crypto", "store", "hub", "protocol", "api", "conn", "engine"]),
    ("limits", &["types", "config", "http", "ws", "hub", "protocol", "api", "store", "conn", "engine", "chat"]),
    (
        "server",
        &[
            "types", "config", "http", "ws", "crypto", "store", "sqlite", "hub", "protocol", "api", "conn", "engine",
            "chat", "limits", "key_file",
        ],
    ),
    ("client", &["types", "ws", "crypto"]),
    ("cmd", &["types", "config", "key_file", "sqlite", "server", "crypto", "protocol", "client"]),
    (
        "fuzzing",
        &[
            "types", "config", "http", "ws", "crypto", "store", "sqlite", "hub", "protocol", "api", "conn", "engine",
            "chat", "limits", "server", "client", "cmd", "testing",
        ],
    ),
];

/// Names that a module may not use although it may use the module or crate that has them: only `chat` connects
/// connections and rooms.
const MAY_NOT_NAME: &[(&str, &[&str])] = &[("conn", &ROOMS_AND_JSON), ("engine", &ROOMS_AND_JSON)];
const ROOMS_AND_JSON: [&str; 5] = ["RoomId", "Seq", "MemberId", "SessionId", "serde_json"];

/// Folders, and files of other folders, that know no socket, file, thread, clock, process or log.
const PURE: &[&str] = &[
    "types",
    "config",
    "http",
    "json",
    "ws",
    "hub",
    "crypto",
    "protocol",
    "web",
    "api",
    "conn",
    "engine",
    "chat",
    "limits",
    "client/outbox",
    "client/server_message",
    "client/session",
    "client/target",
    "store",
    "fuzzing/at_rest",
    "fuzzing/client_hears",
    "fuzzing/client_json",
    "fuzzing/engine",
    "fuzzing/http_request",
    "fuzzing/late_store",
    "fuzzing/listener",
    "fuzzing/strict_http",
    "fuzzing/world",
    "fuzzing/ws_stream",
];

/// Names that pure modules may not use outside their tests.
const NOT_PURE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    // `UNIX_EPOCH` is allowed: it is no clock.
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
    "std::process",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "mio",
    "rusqlite",
    "getrandom",
    "socket2",
    "rustix",
    "signal_hook",
    "signal_hook_mio",
    "log",
    "libc",
];

/// Names that pure modules may not use in their tests either: time is passed in.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "sleep"];

/// Macros that no source may use: unfinished work, and output that panics when its reader is gone.
const BANNED_MACROS: &[&str] = &["todo", "unimplemented", "dbg", "print", "println", "eprint", "eprintln"];

/// The most lines of a file.
const LONGEST: usize = 700;

#[test]
fn the_sources_keep_their_structure() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "fuzz"] {
        collect(Path::new(env!("CARGO_MANIFEST_DIR")), folder, &mut files);
    }
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "found no sources");
    let faults = check(&files);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Shipped and fuzzed code has no unsafe code, and no number that overflows silently.
#[test]
fn the_compiler_keeps_watch() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, "fuzz", &mut files);
    assert!(!files.is_empty(), "found no fuzz targets");
    for path in ["src/lib.rs", "src/main.rs"] {
        files.push(File { path: path.to_string(), text: fs::read_to_string(root.join(path)).unwrap() });
    }
    for file in &files {
        assert!(file.text.contains("\n#![forbid(unsafe_code)]\n"), "{}: no `#![forbid(unsafe_code)]`", file.path);
    }
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let text = fs::read_to_string(root.join(manifest)).unwrap();
        let release = text.split("[profile.release]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or("");
        assert!(release.lines().any(|line| line == "overflow-checks = true"), "{manifest}: no overflow checks");
    }
}

/// proptest looks for the seeds of earlier failures below the path of their source; if the source was moved, it finds
/// none.
#[test]
fn kept_seeds_have_their_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("proptest-regressions")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = path.strip_prefix(root.join("proptest-regressions")).unwrap().with_extension("rs");
            assert!(
                root.join("src").join(&source).is_file(),
                "{}: its source is not src/{}",
                path.display(),
                source.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "found no seeds");
}

#[test]
fn the_table_points_down() {
    for (index, (module, allowed)) in MAY_USE.iter().enumerate() {
        for name in *allowed {
            let is_above = MAY_USE[..index].iter().any(|(earlier, _)| earlier == name);
            assert!(is_above, "{module} names {name}, which is not above it");
        }
    }
    for pure in PURE {
        let module = pure.split('/').next().unwrap();
        assert!(MAY_USE.iter().any(|(name, _)| *name == module), "{pure} is no module");
    }
}

struct File {
    /// Relative to the crate's root, with slashes.
    path: String,
    text: String,
}

fn collect(root: &Path, folder: &str, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            collect(root, &path, files);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(root.join(&path)).unwrap();
            files.push(File { path, text });
        }
    }
}

/// Returns every fault of these files, as `path:line: what`.
fn check(files: &[File]) -> Vec<String> {
    let test_modules: Vec<String> = files.iter().flat_map(test_modules).collect();
    let mut faults = Vec::new();
    for file in files {
        let below = |path: &String| file.path == format!("{path}.rs") || file.path.starts_with(&format!("{path}/"));
        let is_test = !file.path.starts_with("src/") || test_modules.iter().any(below);
        check_file(file, is_test, &mut faults);
    }
    faults
}

fn check_file(file: &File, is_test: bool, faults: &mut Vec<String>) {
    let mut fault = |line: usize, what: String| faults.push(format!("{}:{line}: {what}", file.path));
    if !file.text.starts_with("//!") {
        fault(1, "does not begin with `//!` and what it is for".to_string());
    }
    let length = file.text.lines().count();
    if length > LONGEST {
        fault(length, format!("has {length} lines; split it before {LONGEST}"));
    }

    let code = strip(&file.text);
    let tokens = tokens(&code);
    for (index, token) in tokens.iter().enumerate() {
        let text = |offset: usize| tokens.get(index + offset).map_or("", |token| token.text);
        if token.text == "unsafe" {
            fault(token.line, "`unsafe`".to_string());
        }
        // `#[ignore]`, `#[ignore = "..."]`, `#[cfg_attr(x, ignore)]`
        if ["[", ","].contains(&token.text) && text(1) == "ignore" && ["]", "=", ")"].contains(&text(2)) {
            fault(token.line, "an ignored test; mend it or take it out".to_string());
        }
        if is_pure(file) && CLOCKS.contains(&token.text) {
            fault(token.line, format!("a pure module names `{}`; time is passed in, in tests too", token.text));
        }
    }
    if !is_test {
        let code = without_tests(&code);
        check_calls(file, &code, &mut fault);
        check_paths(file, &code, &mut fault);
    }
}

/// Finds unfinished work, output that could panic, and calls that could panic without a proof that they cannot.
fn check_calls(file: &File, code: &str, fault: &mut impl FnMut(usize, String)) {
    let lines: Vec<&str> = file.text.lines().collect();
    let tokens = tokens(code);
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1).map_or("", |token| token.text);
        let before = index.checked_sub(1).map_or("", |before| tokens[before].text);
        if next == "!" && BANNED_MACROS.contains(&token.text) {
            fault(token.line, format!("`{}!`", token.text));
        }
        let earlier = index.checked_sub(2).map_or("", |earlier| tokens[earlier].text);
        // `self.expect(...)` is a method of the type's own.
        let method = [".", "::"].contains(&before)
            && earlier != "self"
            && ["unwrap", "expect", "unwrap_err", "expect_err", "unwrap_unchecked"].contains(&token.text);
        let panics = next == "!" && ["panic", "unreachable"].contains(&token.text);
        if (method || panics) && !is_proven(&lines, token.line) {
            fault(token.line, format!("`{}` without `// proof:` above it", token.text));
        }
    }
}

/// Returns whether the statement at this line (from 1) has its proof, above it or at the end of a line.
fn is_proven(lines: &[&str], line: usize) -> bool {
    let is_proof = |text: &str| text.contains("// proof:");
    let mut at = line - 1;
    if is_proof(lines[at]) {
        return true;
    }
    while at > 0 {
        at -= 1;
        let above = lines[at].trim();
        if above.starts_with("//") {
            if is_proof(above) {
                return true;
            }
        } else if above.is_empty() || above.ends_with([';', '{', '}', ',']) || above.contains("//") {
            return false;
        }
    }
    false
}

/// Checks the modules and crates that are named.
fn check_paths(file: &File, code: &str, fault: &mut impl FnMut(usize, String)) {
    let module = module_of(&file.path);
    let Some(own) = module.first() else { return };
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == own) else {
        fault(1, format!("the module `{own}` is not in this test's table MAY_USE"));
        return;
    };
    for (line, path) in paths(code) {
        if is_pure(file) {
            let joined = path.join("::");
            let named = |name: &str| joined == name || joined.starts_with(&format!("{name}::"));
            if let Some(name) = NOT_PURE.iter().find(|name| named(name)) {
                fault(line, format!("a pure module names `{name}`"));
            }
        }
        let unknown = MAY_NOT_NAME.iter().find(|(name, _)| name == own).map_or(&[] as &[&str], |(_, names)| names);
        if let Some(name) = path.iter().find(|name| unknown.contains(&name.as_str())) {
            fault(line, format!("`{own}` may not name `{name}`"));
        }
        let Some(target) = from_root(&path, &module) else { continue };
        let Some(other) = target.first().filter(|other| *other != own) else { continue };
        if !allowed.contains(&other.as_str()) {
            fault(line, format!("`{own}` may not name `{other}`"));
        }
    }
}

fn is_pure(file: &File) -> bool {
    let path = file.path.strip_prefix("src/").unwrap_or("");
    PURE.iter().any(|entry| path.strip_suffix(".rs") == Some(*entry) || path.starts_with(&format!("{entry}/")))
}

/// Maps a path to its module: `src/hub/room.rs` is `hub::room`; `lib.rs` and `main.rs` are the root.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if ["lib", "main"].contains(&path) {
        return Vec::new();
    }
    path.split('/').map(str::to_string).collect()
}

/// Returns a path from the crate's root, without `crate`; `None` for one that stays in its module or leaves the crate.
fn from_root(path: &[String], module: &[String]) -> Option<Vec<String>> {
    if path[0] == "crate" {
        return Some(path[1..].to_vec());
    }
    let path = if path[0] == "self" { &path[1..] } else { path };
    let up = path.iter().take_while(|name| *name == "super").count();
    (up > 0 && up >= module.len()).then(|| path[up..].to_vec())
}

/// Returns the modules that have a file of their own and are compiled for tests only, as paths without `.rs`.
fn test_modules(file: &File) -> Vec<String> {
    let code = strip(&file.text);
    let own = file.path.trim_end_matches(".rs");
    let folder = match own.rsplit_once('/') {
        Some((folder, "mod" | "lib" | "main")) => folder,
        _ => own,
    };
    let mut found = Vec::new();
    for (start, mark) in code.match_indices("#[cfg(test)]") {
        let item = code[start + mark.len()..].split(['{', ';']).next().unwrap_or("");
        let words: Vec<&str> = item.split_whitespace().collect();
        let is_file = code[start + mark.len() + item.len()..].starts_with(';');
        if let (true, [.., "mod", name]) = (is_file, words.as_slice()) {
            found.push(format!("{folder}/{name}"));
        }
    }
    found
}

/// Returns the code with every item under `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (start, _) in code.match_indices(mark) {
            let mut depth = 0;
            for (index, byte) in code.bytes().enumerate().skip(start) {
                match byte {
                    b'{' | b'(' | b'[' => depth += 1,
                    b'}' | b')' | b']' => depth -= 1,
                    _ => {}
                }
                if depth < 0 {
                    break;
                }
                if out[index] != b'\n' {
                    out[index] = b' ';
                }
                if depth == 0 && (byte == b';' || byte == b'}') {
                    break;
                }
            }
        }
    }
    String::from_utf8(out).unwrap()
}

/// Blanks comments and literals, byte for byte; newlines stay. Non-ASCII characters are blanked, too.
fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let end = match (at(index), at(index + 1)) {
            (b'/', b'/') => index + text[index..].find('\n').unwrap_or(bytes.len() - index),
            (b'/', b'*') => block_comment_end(bytes, index),
            (b'"', _) => string_end(bytes, index),
            (b'r', b'"' | b'#') if begins_literal(bytes, index) => raw_string_end(text, index),
            (b'\'', b'\\') => index + 4 + text[index + 3..].find('\'').unwrap_or(0),
            // A lifetime has no quote after its first letter.
            (b'\'', _) => {
                let width = text[index + 1..].chars().next().map_or(1, char::len_utf8);
                if at(index + 1 + width) == b'\'' { index + width + 2 } else { index + 1 }
            }
            (byte, _) => {
                out.push(if byte.is_ascii() { byte } else { b' ' });
                index += 1;
                continue;
            }
        };
        let end = end.clamp(index + 1, bytes.len());
        out.extend(bytes[index..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        index = end;
    }
    String::from_utf8(out).unwrap()
}

/// Returns whether an `r` stands at the beginning of a word, or after the `b` or `c` of `br"..."` and `cr"..."`.
fn begins_literal(bytes: &[u8], index: usize) -> bool {
    let is_name = |back: usize| {
        let byte = index.checked_sub(back).map_or(b' ', |index| bytes[index]);
        byte.is_ascii_alphanumeric() || byte == b'_'
    };
    !is_name(1) || matches!(bytes[index - 1], b'b' | b'c') && !is_name(2)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut index = start;
    while index < bytes.len() {
        match &bytes[index..] {
            [b'/', b'*', ..] => (depth, index) = (depth + 1, index + 2),
            [b'*', b'/', ..] => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut index = start + 1;
    while index < bytes.len() && bytes[index] != b'"' {
        index += if bytes[index] == b'\\' { 2 } else { 1 };
    }
    index + 1
}

/// Returns the end of `r#"..."#`, or the next byte for `r#name`.
fn raw_string_end(text: &str, start: usize) -> usize {
    let hashes = text[start + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let open = start + 1 + hashes;
    if text.as_bytes().get(open) != Some(&b'"') {
        return start + 1;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |length| open + 1 + length + close.len())
}

#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Splits the code into names, `::`, and every other character alone.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut index = 0;
    while index < code.len() {
        let rest = &code[index..];
        let name = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let length = if name > 0 { name } else { 1 + usize::from(rest.starts_with("::")) };
        let text = &rest[..length];
        if text == "\n" {
            line += 1;
        } else if !text.trim().is_empty() {
            tokens.push(Token { text, line });
        }
        index += length;
    }
    tokens
}

/// Returns every path of two or more names, and every name that is used, with its line; the trees of `use` are
/// expanded.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let begins = is_word(tokens[index].text) && tokens.get(index + 1).is_some_and(|next| next.text == "::");
        let is_used = index > 0 && ["use", "crate"].contains(&tokens[index - 1].text) && is_word(tokens[index].text);
        let is_tree = index > 0 && tokens[index - 1].text == "use" && tokens[index].text == "{";
        if begins || is_used || is_tree {
            index = spread(&tokens, index, &[], &mut found);
        } else {
            index += 1;
        }
    }
    found
}

/// Returns whether a name may be part of a path, and is no keyword that `::std` may follow.
fn is_word(text: &str) -> bool {
    let before = ["use", "as", "mut", "dyn", "impl", "in", "return", "else", "match", "if", "while", "where", "const"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !before.contains(&text)
}

/// Reads one path or tree from `index`; returns the index after it.
fn spread(tokens: &[Token<'_>], mut index: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
    let mut path = prefix.to_vec();
    let line = tokens[index].line;
    loop {
        if is_word(text(index)) || text(index) == "*" {
            // `{self}` is the path before it.
            if path.is_empty() || text(index) != "self" {
                path.push(text(index).to_string());
            }
            index += 1;
            if text(index) == "::" && (is_word(text(index + 1)) || ["{", "*"].contains(&text(index + 1))) {
                index += 1;
                continue;
            }
            if text(index) == "as" {
                index += 2;
            }
        } else if text(index) == "{" {
            index += 1;
            while index < tokens.len() && text(index) != "}" {
                index = if text(index) == "," { index + 1 } else { spread(tokens, index, &path, found) };
            }
            return index + 1;
        } else {
            index += 1;
        }
        if !path.is_empty() {
            found.push((line, path));
        }
        return index;
    }
}

/// Returns the faults of one file.
fn faults_of(path: &str, text: &str) -> Vec<String> {
    check(&[File { path: path.to_string(), text: format!("//! What it is for.\n{text}") }])
}

#[track_caller]
fn good(path: &str, text: &str) {
    let faults = faults_of(path, text);
    assert!(faults.is_empty(), "{path}: {text}\n{faults:?}");
}

#[track_caller]
fn bad(path: &str, text: &str, words: &str) {
    let faults = faults_of(path, text);
    assert!(faults.iter().any(|fault| fault.contains(words)), "{path}: {text}\n{faults:?}");
}

#[test]
fn samples_of_modules() {
    good("src/hub/room.rs", "use crate::types::{RoomId, Seq};\nuse super::member;\nuse crate::store::{Page};");
    good("src/hub/room.rs", "#[cfg(test)]\nmod tests {\n    use crate::engine::Engine;\n}\n");
    good("src/hub/mod.rs", "// use crate::engine::Engine;\nconst TEXT: &str = \"crate::engine\";");
    good("src/server/mod.rs", "use crate::sqlite::Sqlite;\nuse std::{fs, time::Instant};\nuse mio::Poll;");
    good("src/main.rs", "use racerd::cmd;");
    bad("src/hub/room.rs", "use crate::engine::Engine;", ":2: `hub` may not name `engine`");
    bad("src/hub/room.rs", "use crate::{types::Seq,\n conn};", ":3: `hub` may not name `conn`");
    bad("src/hub/room.rs", "use {crate::conn};", "`hub` may not name `conn`");
    bad("src/hub/room.rs", "fn f() { crate::conn::g() }", "may not name `conn`");
    bad("src/hub/room.rs", "use super::super::conn;", "may not name `conn`");
    bad("src/hub/mod.rs", "use super::conn;", "may not name `conn`");
    bad("src/hub.rs", "use self::super::{conn};", "may not name `conn`");
    bad("src/hub/room.rs", "use crate::sqlite::Sqlite;", "may not name `sqlite`");
    bad("src/store/mod.rs", "use crate::sqlite::Sqlite;", "`store` may not name `sqlite`");
    bad("src/types.rs", "use crate::http::Head;", "`types` may not name `http`");
    bad("src/cmd/serve.rs", "use crate::hub::Hub;", "`cmd` may not name `hub`");
    bad("src/engine/slot.rs", "use crate::types::{ConnId, RoomId};", "`engine` may not name `RoomId`");
    bad("src/other/mod.rs", "", "not in this test's table");
}

#[test]
fn samples_of_purity() {
    good("src/conn/mod.rs", "use core::net::SocketAddr;\nuse std::{collections::HashMap, sync::Arc};");
    good("src/conn/mod.rs", "fn f<'a>(x: &'a str) -> char { '\"' } // std::fs\nfn g() { catalog::h() }");
    good("src/sqlite/files.rs", "use std::fs;\nuse rusqlite::Connection;");
    good("src/config/mod.rs", "#[cfg(test)]\nmod tests { fn f() { std::fs::read(\"x\").unwrap(); println!(); } }");
    bad("src/conn/mod.rs", "use std::net::SocketAddr;", "names `std::net`");
    bad("src/conn/mod.rs", "use std::{sync::Arc, net};", "names `std::net`");
    bad("src/conn/mod.rs", "use ::std::{io::{self, stderr}};", "names `std::io::stderr`");
    bad("src/conn/mod.rs", "fn f(x: &mut ::std::fs::File) {}", "names `std::fs`");
    bad("src/conn/mod.rs", "fn f() { std::thread::yield_now() }", "names `std::thread`");
    good("src/http/response.rs", "use core::time::Duration;\nuse std::time::UNIX_EPOCH;");
    bad("src/http/response.rs", "use std::time::{Duration, SystemTime};", "names `std::time::SystemTime`");
    bad("src/http/response.rs", "use std::time;\nfn f() { time::SystemTime::now() }", "`SystemTime`");
    bad("src/conn/mod.rs", "use mio;", "names `mio`");
    bad("src/conn/mod.rs", "extern crate mio;", "names `mio`");
    bad("src/conn/mod.rs", "const A: char = '\\'';\nuse log::info;", "names `log`");
    bad("src/store/memory.rs", "use std::fs;", "names `std::fs`");
    bad("src/types.rs", "use std::env;", "names `std::env`");
    bad("src/hub/tests.rs", "fn f() { let now = Instant::now(); }", "`Instant`");
    bad("src/hub/mod.rs", "#[cfg(test)]\nmod tests { use std::thread::sleep; }", "`sleep`");
}

#[test]
fn samples_of_panics() {
    good("src/hub/mod.rs", "fn f() {\n    // proof: always there,\n    // since it was put there.\n    a.unwrap();\n}");
    good("src/hub/mod.rs", "fn f() { a.unwrap(); } // proof: always there");
    good(
        "src/hub/mod.rs",
        "fn f() {\n    // proof: as above.\n    let x =\n        a\n        .b()\n        .expect(\"x\");\n}",
    );
    good("src/hub/mod.rs", "fn f() { a.unwrap_or(0); b.expect_byte(); self.expect(1); \"panic!()\"; }");
    good("src/hub/mod.rs", "fn f() {}\n#[cfg(test)]\nfn g(x: [u8; 2]) { a.unwrap() }\n");
    bad("src/hub/mod.rs", "fn f() { a.unwrap(); }", "`unwrap` without");
    bad("src/hub/mod.rs", "#[cfg(test)]\nfn g() {}\nfn f() { a.unwrap(); }", ":4: `unwrap` without");
    bad("src/hub/mod.rs", "fn f() {\n    // proof: of this one.\n    a.unwrap();\n    b.unwrap();\n}", ":5: `unwrap`");
    bad("src/hub/mod.rs", "fn f() {\n    a.unwrap() // proof: of this.\n    b.unwrap()\n}", ":4: `unwrap`");
    bad("src/hub/mod.rs", "fn f() {\n    // surely\n    a.expect(\"x\");\n}", "`expect` without");
    bad("src/hub/mod.rs", "fn f() { a.map(Option::unwrap) }", "`unwrap` without");
    bad("src/hub/mod.rs", "fn f() { unreachable!() }", "`unreachable` without");
    bad("src/server/mod.rs", "fn f() { todo!() }", "`todo!`");
    bad("src/cmd/help.rs", "fn f() { println!(\"x\") }", "`println!`");
}

#[test]
fn samples_of_rules_for_every_file() {
    good("tests/x.rs", "#[test]\nfn f() { a.unwrap(); println!(); std::fs::read(\"#[ignore]\"); } // #[ignore]");
    bad("tests/x.rs", "#[test]\n#[ignore]\nfn f() {}", ":3: an ignored test");
    bad("tests/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "an ignored test");
    bad("src/hub/mod.rs", "#[cfg(test)]\nmod tests {\n #[cfg_attr(miri, ignore)] fn f() {} }", "an ignored test");
    bad("src/server/mod.rs", "fn f() { unsafe { g() } }", "`unsafe`");
    bad("src/server/mod.rs", &"\n".repeat(LONGEST), "lines; split it");
    let bare = File { path: "src/hub/mod.rs".to_string(), text: "// no\nuse crate::types;".to_string() };
    assert!(check(&[bare]).iter().any(|fault| fault.contains("does not begin with `//!`")));
}

#[test]
fn samples_of_test_modules_in_files_of_their_own() {
    let file = |path: &str, text: &str| File { path: path.to_string(), text: format!("//! x\n{text}") };
    let count = |declaring: &str, declaration: &str, path: &str| {
        check(&[file(declaring, declaration), file(path, "fn f() { a.unwrap() }")]).len()
    };
    assert_eq!(count("src/hub/mod.rs", "#[cfg(test)]\nmod tests;", "src/hub/tests.rs"), 0);
    assert_eq!(count("src/hub/mod.rs", "#[cfg(test)]\npub(crate) mod fake;", "src/hub/fake/mod.rs"), 0);
    assert_eq!(count("src/hub/a.rs", "#[cfg(test)]\nmod tests;", "src/hub/a/tests.rs"), 0);
    assert_eq!(count("src/hub/a.rs", "#[cfg(test)]\nmod tests;", "src/hub/tests.rs"), 1);
    assert_eq!(count("src/hub/mod.rs", "mod tests;", "src/hub/tests.rs"), 1);
    assert_eq!(count("src/hub/mod.rs", "#[cfg(test)]\nmod x { } mod tests;", "src/hub/tests.rs"), 1);
}

#[test]
fn literals_and_comments_are_blanked() {
    for (text, kept) in [
        ("a /* b /* c */ d */ e", "a e"),
        ("a \"b\\\"c\" d", "a d"),
        ("a r#\"b\"c\"# d br\"x\\\" e", "a d b e"),
        ("f::<'a>('b', '\\'', '\\u{1f}', '\"', b'x') c", "f::< a>( , , , , b ) c"),
        ("r#type x // y\nz", "#type x z"),
        ("'é' \"ü\" x", "x"),
        ("a \"b", "a"),
    ] {
        let stripped = strip(text);
        assert_eq!(stripped.len(), text.len());
        let words: Vec<&str> = stripped.split_whitespace().collect();
        assert_eq!(words.join(" "), kept, "{text}");
    }
}
