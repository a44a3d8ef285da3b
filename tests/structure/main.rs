//! The structure of the sources: which modules each module may name, what the pure ones may not name, and a few rules
//! for every file. The tables below are the rules; edit them there.
//!
//! A call that could panic (`unwrap`, `expect`, `unreachable!`, `panic!`) outside tests needs a comment that begins
//! with `// proof:` directly above its statement, or at the end of its line, and says why it cannot.

mod circles;
mod functions;
mod source;
mod statements;

use std::fs;
use std::path::Path;

use circles::Graph;
use source::{File, collect, from_root, module_of, paths, strip, test_modules, tokens, without_tests};

/// The modules that each module may `use crate::`, from the bottom up: a module names only modules above it in this
/// table. `lib.rs` and `main.rs` may name all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("access", &["types", "config"]),
    ("json", &[]),
    ("http", &["types", "json"]),
    ("ws", &["http"]),
    ("crypto", &["types"]),
    ("random", &[]),
    ("store", &["types"]),
    ("testing", &["types", "random", "store"]),
    ("sqlite", &["types", "crypto", "random", "store"]),
    ("named_file", &[]),
    ("key_file", &["types", "config", "crypto", "sqlite", "named_file"]),
    ("hub", &["types", "store", "access"]),
    ("protocol", &["types", "json", "access", "hub", "store"]),
    ("web", &["types", "http"]),
    ("api", &["types", "json", "access", "http", "ws", "hub", "protocol", "store", "web"]),
    ("conn", &["types", "json", "http", "ws", "crypto"]),
    ("engine", &["types", "http", "ws", "store", "conn", "crypto"]),
    (
        "chat",
        &["types", "access", "http", "ws", "crypto", "random", "store", "hub", "protocol", "api", "conn", "engine"],
    ),
    (
        "limits",
        &["types", "config", "access", "http", "ws", "hub", "protocol", "api", "store", "conn", "engine", "chat"],
    ),
    (
        "server",
        &[
            "types",
            "testing",
            "config",
            "access",
            "http",
            "ws",
            "crypto",
            "store",
            "sqlite",
            "hub",
            "protocol",
            "api",
            "conn",
            "engine",
            "chat",
            "limits",
            "named_file",
            "key_file",
        ],
    ),
    ("client", &["types", "ws", "crypto", "named_file"]),
    (
        "cmd",
        &["types", "config", "access", "named_file", "key_file", "sqlite", "server", "crypto", "protocol", "client"],
    ),
    (
        "fuzzing",
        &[
            "types", "config", "access", "http", "ws", "crypto", "store", "sqlite", "hub", "protocol", "api", "conn",
            "engine", "chat", "limits", "server", "client", "cmd", "testing",
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
    "access",
    "http",
    "json",
    "random",
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
    "client/heard",
    "client/host",
    "client/outbox",
    "client/server_message",
    "client/session",
    "client/target",
    "cmd/reader",
    "store",
    "testing/judge",
    "testing/late_store",
    "testing/log",
    "testing/random",
    "testing/store",
    "fuzzing/access",
    "fuzzing/at_rest",
    "fuzzing/client_hears",
    "fuzzing/client_json",
    "fuzzing/engine",
    "fuzzing/http_request",
    "fuzzing/listener",
    "fuzzing/room_body",
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

/// Returns every fault of these files, as `path:line: what`.
fn check(files: &[File]) -> Vec<String> {
    let test_modules: Vec<String> = files.iter().flat_map(test_modules).collect();
    let mut faults = Vec::new();
    let mut shipped = Vec::new();
    for file in files {
        let below = |path: &String| file.path == format!("{path}.rs") || file.path.starts_with(&format!("{path}/"));
        let is_test = !file.path.starts_with("src/") || test_modules.iter().any(below);
        check_file(file, is_test, &mut faults);
        if !is_test {
            shipped.push(file);
        }
    }
    let graph = Graph::of(&shipped);
    faults.extend(graph.circles());
    faults.extend(graph.wrong_ways());
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
    for (line, name, length) in functions::too_long(&code) {
        fault(line, format!("`{name}` has {length} lines; split it before {}", functions::LONGEST + 1));
    }
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
