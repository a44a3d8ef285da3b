//! Checks the names in the documents: every setting, command, frame type, error code, close code, file, link and log
//! line that they name exists, and everything of these kinds in the code is named in the document for it.
//! tests/server/transcripts.rs tests that the exchanges in docs/protocol.md are real; src/config and src/cmd test the
//! tables of settings and of exit statuses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use racerd::config;

/// The widest line of text; tables, code blocks and URLs may be wider.
const WIDEST: usize = 120;

/// Flags that are not settings: options of commands, and of other programs that the documents call.
const OTHER_FLAGS: &[&str] = &[
    "admin",
    "against",
    "all-targets",
    "allow-downgrades",
    "base64url",
    "bench",
    "ca",
    "check",
    "check-config",
    "config",
    "databases",
    "env",
    "features",
    "follow",
    "force",
    "force-confold",
    "from",
    "full",
    "grant",
    "json",
    "key",
    "last",
    "lib",
    "list",
    "locked",
    "long",
    "max-time",
    "name",
    "new-key",
    "no-default-features",
    "now",
    "path",
    "pin",
    "ping-perod",
    "pinnedpubkey",
    "plain",
    "print-config",
    "reference",
    "release",
    "restart",
    "room-key",
    "rotate",
    "seconds",
    "seed",
    "short",
    "small",
    "test",
    "timeout",
    "token",
    "trace",
    "url",
    // An example of a mistake
    // apt and dpkg
    // cargo, rustup, git, curl and the test programs
];

/// Error codes of the HTTP API alone.
const HTTP_ONLY: [&str; 2] = ["sealed_only", "full"];

/// Close codes that no server sends yet.
const RESERVED: [&str; 2] = ["4003", "4005"];

/// Names of other programs that have the shape of our names.
const OTHER_NAMES: &[&str] = &["auth_basic"];

struct Document {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns every document that is meant for people: those at the root, and docs/.
fn documents() -> Vec<Document> {
    let markdown = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.into_string().expect("UTF-8")).filter(|name| name.ends_with(".md"));
        names.map(|name| if folder == "." { name } else { format!("{folder}/{name}") }).collect()
    };
    let mut paths = [markdown("."), markdown("docs")].concat();
    paths.sort();
    assert!(paths.len() > 8, "{paths:?}");
    paths.into_iter().map(|path| Document { text: read(&path), path }).collect()
}

/// Returns the documents that describe the present; the change log also names things that are gone.
fn present() -> Vec<Document> {
    documents().into_iter().filter(|document| document.path != "CHANGELOG.md").collect()
}

impl Document {
    /// Returns its lines, numbered from 1, with their kinds.
    fn lines(&self) -> Vec<(usize, Kind, &str)> {
        let mut fenced = false;
        let mut kind = |line: &str| {
            if line.starts_with("```") {
                fenced = !fenced;
                return Kind::Code;
            }
            match line {
                _ if fenced || line.starts_with("    ") => Kind::Code,
                _ if line.starts_with('|') => Kind::Table,
                _ => Kind::Text,
            }
        };
        self.text.lines().enumerate().map(|(index, line)| (index + 1, kind(line), line)).collect()
    }

    /// Returns the texts between backticks, outside of code blocks, with their lines.
    fn spans(&self) -> Vec<(usize, &str)> {
        let prose = self.lines().into_iter().filter(|(_, kind, _)| *kind != Kind::Code);
        prose.flat_map(|(number, _, line)| line.split('`').skip(1).step_by(2).map(move |span| (number, span))).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Table,
    Code,
}

/// Fails with all of the faults.
#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Returns the words that follow `mark` in a text.
fn after<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let word = |(start, _): (usize, &str)| {
        let rest = &text[start + mark.len()..];
        &rest[..rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len())]
    };
    text.match_indices(mark).map(word).filter(|word| !word.is_empty()).collect()
}

fn settings() -> BTreeSet<String> {
    config::all().map(config::Setting::flag).collect()
}

#[test]
fn every_flag_that_is_named_is_there() {
    let settings = settings();
    let mut faults = Vec::new();
    for document in present() {
        for (number, _, line) in document.lines() {
            let flags = after(line, "--").into_iter().filter(|flag| flag.as_bytes()[0].is_ascii_lowercase());
            for flag in flags.filter(|flag| !settings.contains(*flag) && !OTHER_FLAGS.contains(flag)) {
                faults.push(format!("{}:{number}: there is no --{flag}", document.path));
            }
            for variable in after(line, "RACERD_") {
                let flag = variable.to_ascii_lowercase().replace('_', "-");
                if !settings.contains(&flag) && !["CONFIG", "ROUNDS"].contains(&variable) {
                    faults.push(format!("{}:{number}: there is no RACERD_{variable}", document.path));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn every_setting_is_named() {
    let text = read("docs/settings.md");
    let missing = settings().into_iter().filter(|flag| !text.contains(&format!("| `--{flag}` |")));
    none(missing.map(|flag| format!("docs/settings.md does not name --{flag}")).collect());
}

/// Returns the commands, as they are declared.
fn commands() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for path in sources().into_iter().filter(|path| path.starts_with(root().join("src/cmd"))) {
        let text = fs::read_to_string(path).expect("a source");
        words.extend(after(&text, "\n    word: \"").into_iter().map(str::to_string));
        words.extend(after(&text, "\n        Some(\"").into_iter().map(str::to_string));
    }
    assert!(words.len() > 12, "{words:?}");
    words
}

#[test]
fn every_command_is_named() {
    let text = read("docs/operate.md");
    let missing = commands().into_iter().filter(|word| !text.contains(&format!("`racerd {word}")));
    none(missing.map(|word| format!("docs/operate.md does not name 'racerd {word}'")).collect());
}

#[test]
fn every_command_that_is_named_is_there() {
    let commands = commands();
    let mut faults = Vec::new();
    for document in present() {
        for (number, kind, line) in document.lines() {
            // In prose, a verb after `racerd` is no command; in a code block, prose stands behind `#`.
            let places: Vec<&str> = match kind {
                Kind::Code => line.split('#').take(1).collect(),
                _ => line.split('`').skip(1).step_by(2).collect(),
            };
            for place in places.into_iter().map(str::trim_start) {
                let begins = |start: usize| {
                    start == 0 || ["$ ", "| ", "&& ", "host "].iter().any(|b| place[..start].ends_with(b))
                };
                for (start, mark) in place.match_indices("racerd ").filter(|(start, _)| begins(*start)) {
                    let word = place[start + mark.len()..].split(' ').next().unwrap_or("");
                    let is_word = !word.is_empty()
                        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
                        && !word.starts_with('-');
                    if is_word && !commands.contains(word) {
                        faults.push(format!("{}:{number}: there is no 'racerd {word}'", document.path));
                    }
                }
            }
        }
    }
    none(faults);
}

/// Returns the string literals before or after `=>` in a part of a source file, from `begin` to the next line that
/// starts with `end`.
fn literals(path: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let text = read(path);
    let start = text.find(begin).unwrap_or_else(|| panic!("{path} has no {begin:?}: this test has to look elsewhere"));
    let part = &text[start..];
    let part = &part[..part.find(end).unwrap_or(part.len())];
    part.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

/// Returns the `code` of every error, by socket and by HTTP.
fn error_codes() -> BTreeSet<String> {
    let mut codes = literals("src/protocol/errors.rs", "pub fn as_str(self)", "\n    }\n");
    assert!(codes.len() > 10, "{codes:?}");
    codes.extend(HTTP_ONLY.map(str::to_string));
    codes
}

fn close_codes() -> BTreeSet<String> {
    let text = read("src/ws/mod.rs");
    let codes = text.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split(" = ").nth(1));
    let codes: BTreeSet<String> = codes.map(|code| code.trim_end_matches(';').to_string()).collect();
    assert!(codes.len() > 10 && codes.iter().all(|code| code.len() == 4), "{codes:?}");
    codes
}

/// Returns the types of requests, and those of the server's frames.
fn frame_types() -> (BTreeSet<String>, BTreeSet<String>) {
    let requests = read("src/protocol/client.rs");
    let start = requests.find("Ok(match kind {").expect("the choice of a request by its type");
    let arms = requests[start..].lines().take_while(|line| !line.starts_with("    }"));
    let arms =
        arms.filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>").map(|(word, _)| word.to_string()));
    let requests: BTreeSet<String> = arms.collect();
    assert!(requests.len() > 7, "{requests:?}");
    // The one about a close stands with the sealed sockets that say it.
    let frames = [read("src/protocol/server.rs"), read("src/conn/sealing.rs")].concat();
    // Each frame begins with one of these, which take the buffer and then the type.
    let starts = ["of_type(out, \"", "answer(out, \"", "of_room(out, \""];
    let frames: BTreeSet<String> = starts.iter().flat_map(|start| after(&frames, start)).map(str::to_string).collect();
    assert!(frames.len() > 13, "{frames:?}");
    (requests, frames)
}

/// Each attack that the table of costs names is one of `tests/hostile`.
#[test]
fn every_attack_that_is_named_is_there() {
    let text = read("docs/operate.md");
    let table = text.split("### What a stranger can make the server spend").nth(1).expect("the table");
    let rows =
        table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let named = rows.filter_map(|row| row.split('|').nth(4)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let folder = fs::read_dir(root().join("examples/hostile/attacks")).expect("the attacks");
    let sources = folder.map(|file| fs::read_to_string(file.expect("an entry").path()).expect("a source"));
    let sources: String = sources.collect();
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 20, "{named:?}");
    none(
        named
            .iter()
            .filter(|name| !sources.contains(&format!("\"{name}\"")))
            .map(|name| format!("no attack {name}"))
            .collect(),
    );
}

/// Returns the first cells of the rows below a heading.
fn rows(text: &str, heading: &str) -> BTreeSet<String> {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading:?}"));
    let part = &text[start + heading.len() + 2..];
    let part = &part[..part.find("\n## ").unwrap_or(part.len())];
    let cells = part.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.skip(1).map(|cell| cell.trim_matches('`').to_string()).collect()
}

/// The reference of docs/protocol.md has exactly one row for each of these names in the code, and no other row.
#[test]
fn the_reference_is_whole() {
    let text = read("docs/protocol.md");
    let (requests, frames) = frame_types();
    assert_eq!(rows(&text, "## Requests"), requests);
    assert_eq!(rows(&text, "## Frames of the server"), frames);
    let by_socket: BTreeSet<String> =
        error_codes().into_iter().filter(|code| !HTTP_ONLY.contains(&code.as_str())).collect();
    assert_eq!(rows(&text, "## Error codes"), by_socket);
    for code in HTTP_ONLY {
        assert!(text.contains(&format!("`{code}`")), "docs/protocol.md does not name {code}");
    }
    let mut codes = close_codes();
    // Reserved: clients stop reconnecting on them, and no server sends them.
    codes.extend(RESERVED.map(str::to_string));
    assert_eq!(rows(&text, "## Close codes"), codes);
}

/// Every frame type and every error code occurs in an exchange.
#[test]
fn every_frame_and_every_error_has_an_example() {
    let text = read("docs/protocol.md");
    let (requests, frames) = frame_types();
    let mut faults: Vec<String> = Vec::new();
    let said = |who: char, field: &str, word: &str| {
        let shown = format!("\"{field}\":\"{word}\"");
        text.lines().any(|line| line.split(' ').nth(1) == Some(who.encode_utf8(&mut [0; 4])) && line.contains(&shown))
    };
    faults.extend(requests.iter().filter(|kind| !said('>', "type", kind)).map(|kind| format!("no client says {kind}")));
    faults.extend(frames.iter().filter(|kind| !said('<', "type", kind)).map(|kind| format!("no server says {kind}")));
    // A failing store is nothing that a client can bring about.
    let codes = error_codes();
    let codes = codes.iter().filter(|code| {
        *code != "storage_unavailable" && !HTTP_ONLY.contains(&code.as_str()) && !said('<', "code", code)
    });
    faults.extend(codes.map(|code| format!("no exchange shows {code}")));
    none(faults);
}

/// Everything that is named in the shape of an error code, or as a close code, is one.
#[test]
fn every_code_that_is_named_is_there() {
    let (codes, mut closes) = (error_codes(), close_codes());
    // 1006 is the code that a browser shows.
    closes.extend(["1006"].into_iter().chain(RESERVED).map(str::to_string));
    let sources: String = sources().into_iter().map(|path| fs::read_to_string(path).expect("a source")).collect();
    let settings: BTreeSet<String> = config::all().map(|setting| setting.field.to_string()).collect();
    let mut faults = Vec::new();
    for document in present() {
        for (number, span) in document.spans() {
            let is_name = span.contains('_') && span.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_name
                && !codes.contains(span)
                && !settings.contains(span)
                && !sources.contains(span)
                && !OTHER_NAMES.contains(&span)
            {
                faults.push(format!("{}:{number}: nothing is called {span}", document.path));
            }
        }
        for (number, kind, line) in document.lines() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            let is_close = |word: &&str| word.len() == 4 && (word.starts_with("100") || word.starts_with("400"));
            let closings = words.filter(|word| is_close(word) && word.bytes().all(|byte| byte.is_ascii_digit()));
            // "A room of 1000" and "1,000 runs" are numbers.
            for word in closings.filter(|word| kind != Kind::Code && *word != "1000" && !closes.contains(*word)) {
                faults.push(format!("{}:{number}: there is no close code {word}", document.path));
            }
        }
    }
    none(faults);
}

/// Returns every source file of the crate, of its tests and of its page.
fn sources() -> Vec<PathBuf> {
    let mut found = files(&["src", "tests", "packaging"], &["rs", "js", "mjs", "py", "service", "socket"]);
    found.retain(|path| !path.ends_with("tests/documents.rs"));
    found
}

/// Returns the files below these folders whose names end so.
fn files(folders: &[&str], ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|end| ends.iter().any(|e| end == *e)) {
                found.push(path);
            }
        }
    }
    found
}

/// Returns whether a path in a document is no file of this tree: a running racerd writes it, or another program has it.
fn is_elsewhere(path: &str) -> bool {
    ["/etc/", "/var/", "/usr/", "/dev/", "/rooms/", "./racerd.db", "target/"]
        .iter()
        .any(|start| path.starts_with(start))
}

/// Files and folders that documents name exist. They are named with their folder or, in ARCHITECTURE.md, from src/.
#[test]
fn every_file_that_is_named_is_there() {
    let mut faults = Vec::new();
    for document in present() {
        for (number, span) in document.spans() {
            let path = span.split([' ', ':']).next().unwrap_or("").trim_end_matches(['.', ',']);
            let has_end = [".rs", ".md", ".json", ".service", ".socket", ".toml", ".mjs", ".1"]
                .iter()
                .any(|end| path.ends_with(end));
            let top = ["src/", "tests/", "docs/", "packaging/", "fuzz/", "benches/", "examples/", ".ci/"];
            let is_path = path.contains('/') && (has_end || path.ends_with('/'))
                || top.iter().any(|start| path.starts_with(start));
            let is_plain = path.bytes().all(|byte| is_word(byte) || matches!(byte, b'/' | b'.'));
            if !is_path || !is_plain || path.starts_with('/') || is_elsewhere(path) || path.contains("TARGET") {
                continue;
            }
            if ![root().join(path), root().join("src").join(path)].iter().any(|path| path.exists()) {
                faults.push(format!("{}:{number}: there is no {path}", document.path));
            }
        }
    }
    none(faults);
}

/// The section on one message's way names functions that exist, in the files that it names.
#[test]
fn a_messages_way_is_that_of_the_code() {
    let text = read("ARCHITECTURE.md");
    let start = text.find("## One message's way").expect("the way");
    let part = &text[start..start + text[start..].find("\n## The parts").expect("its end")];
    let sources: Vec<String> = sources().into_iter().map(|path| fs::read_to_string(path).expect("a source")).collect();
    let mut faults = Vec::new();
    let names: Vec<&str> = part.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names.into_iter().filter(|name| !name.starts_with("tungstenite")) {
        let (owner, function) = name.split_once("::").expect("an owner");
        let declares = |source: &&String| {
            let of_owner = source.split("\nimpl").skip(1).filter(|part| {
                let head = part.split('{').next().unwrap_or("");
                head.split(|c: char| !c.is_alphanumeric()).any(|word| word == owner)
            });
            let mut bodies = of_owner.map(|part| &part[..part.find("\n}").unwrap_or(part.len())]);
            bodies.any(|body| body.contains(&format!("fn {function}(")) || body.contains(&format!("fn {function}<")))
        };
        if !sources.iter().any(|source| declares(&source)) {
            faults.push(format!("ARCHITECTURE.md: there is no {name}"));
        }
    }
    none(faults);
}

/// The table of parts has a row for each folder and file of src/, except for the two that put them together.
#[test]
fn the_parts_are_those_of_the_tree() {
    let text = read("ARCHITECTURE.md");
    let entries = fs::read_dir(root().join("src")).expect("a folder").map(|entry| entry.unwrap().path());
    let parts = entries.filter(|path| !["lib.rs", "main.rs"].iter().any(|name| path.ends_with(name)));
    let names: BTreeSet<String> =
        parts.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    let rows = rows(&text, "## The parts, and what each may not know");
    let told: BTreeSet<String> =
        rows.iter().map(|row| row.trim_end_matches(".rs").trim_matches('/').to_string()).collect();
    assert_eq!(told, names);
}

/// Returns the anchor that GitHub makes from a heading.
fn anchor(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let anchors = |path: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(path).expect("a document");
        let mut fenced = false;
        let mut is_heading = |line: &&str| {
            fenced ^= line.starts_with("```");
            !fenced && line.starts_with('#')
        };
        text.lines().filter(|line| is_heading(line)).map(anchor).collect()
    };
    let mut faults = Vec::new();
    for document in documents() {
        let folder = root().join(&document.path).parent().expect("a folder").to_path_buf();
        for (number, _, line) in document.lines().into_iter().filter(|(_, kind, _)| *kind != Kind::Code) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
                if path.contains("://") {
                    continue;
                }
                let file = if path.is_empty() { root().join(&document.path) } else { folder.join(path) };
                let is_there = file.exists() && (fragment.is_empty() || anchors(&file).contains(fragment));
                if !is_there {
                    faults.push(format!("{}:{number}: {target} leads nowhere", document.path));
                }
            }
        }
    }
    none(faults);
}

/// The code writes every log line that docs/operate.md explains, and every line that the server writes is explained.
#[test]
fn the_log_is_explained() {
    let document = read("docs/operate.md");
    let start = document.find("\n## The log\n").expect("the log");
    let part = &document[start..start + document[start + 1..].find("\n## ").expect("its end")];
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let told: Vec<&str> = cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|text| text.len() > 2).collect();
    let mut code = String::new();
    let mut written: BTreeSet<String> = BTreeSet::new();
    for path in sources().into_iter().filter(|path| path.starts_with(root().join("src"))) {
        // A literal that continues on the next line is one literal.
        let text = fs::read_to_string(&path).expect("a source");
        let lines: Vec<&str> = text.split("\\\n").collect();
        let joined: Vec<&str> =
            lines.iter().enumerate().map(|(n, l)| if n == 0 { *l } else { l.trim_start() }).collect();
        let text = joined.concat();
        if path.starts_with(root().join("src/server")) && !path.ends_with("tests.rs") {
            for mark in ["log.info(", "log.warn(", "log.error("] {
                for (start, _) in text.match_indices(mark) {
                    let rest = text[start + mark.len()..].trim_start();
                    written.extend(rest.strip_prefix('"').and_then(|rest| rest.split('"').next()).map(str::to_string));
                }
            }
        }
        code.push_str(&text);
    }
    let mut faults: Vec<String> = Vec::new();
    faults.extend(told.iter().filter(|line| !code.contains(**line)).map(|line| format!("nothing logs {line:?}")));
    assert!(written.len() > 15, "{written:?}");
    let is_told = |line: &&String| told.iter().any(|told| line.contains(told));
    faults.extend(written.iter().filter(|line| !is_told(line)).map(|line| format!("docs/operate.md lacks {line:?}")));
    none(faults);
}

/// docs/install.md has a row for each target of packaging/build, and the version of the database.
#[test]
fn what_can_be_installed_is_named() {
    let text = read("docs/install.md");
    let build = read("packaging/build");
    let targets = build.split("\ntargets=(").nth(1).and_then(|rest| rest.split(')').next()).expect("the targets");
    let targets: Vec<&str> = targets.split_whitespace().collect();
    assert!(!targets.is_empty());
    for target in targets {
        assert!(text.contains(&format!("| `racerd-{target}` |")), "docs/install.md does not name {target}");
    }
    let version = read("src/sqlite/schema.rs");
    let version = version.split("pub const VERSION: i32 = ").nth(1).and_then(|rest| rest.split(';').next());
    let version = version.expect("the version of the database");
    let row = format!("| {} | 1 to {version} | {version} |", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&row), "docs/install.md does not have {row}");
}

/// Holds for all documents but the change log, which everybody adds to.
#[test]
fn lines_of_text_are_not_too_wide() {
    let mut faults = Vec::new();
    for document in present() {
        for (number, kind, line) in document.lines() {
            let is_address = line.split_whitespace().any(|word| word.contains("://") && word.len() > 60);
            if kind == Kind::Text && line.chars().count() > WIDEST && !is_address {
                faults.push(format!("{}:{number}: {} columns", document.path, line.chars().count()));
            }
        }
    }
    none(faults);
}

/// Comments are read beside code, in editors that show two files at once. Tables, code and URLs may be wider.
#[test]
fn comments_fit_into_120_columns() {
    let paths = files(&["src", "tests", "fuzz", "examples", "benches"], &["rs"]);
    assert!(paths.len() > 200, "{} sources", paths.len());
    let mut faults = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let wide = text.lines().enumerate().filter(|(_, line)| is_wide_comment(line));
        faults.extend(wide.map(|(index, line)| format!("{}:{}: {line}", path.display(), index + 1)));
    }
    none(faults);
}

fn is_wide_comment(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    let comment = comment.trim_start_matches(['/', '!']);
    let may_be_wide = comment.starts_with(" |") || comment.starts_with("     ") || !comment.trim().contains(' ');
    line.chars().count() > WIDEST && !may_be_wide
}

#[test]
fn samples_of_wide_comments() {
    let wide = "word ".repeat(30);
    for line in [format!("/// {wide}"), format!("    // {wide}"), format!("//! {wide}")] {
        assert!(is_wide_comment(&line), "{line}");
    }
    let url = format!("/// https://example.org/{}", "x".repeat(120));
    for line in [format!("/// | {wide} |"), format!("///     {wide}"), url, format!("let text = \"{wide}\";")] {
        assert!(!is_wide_comment(&line), "{line}");
    }
    assert!(!is_wide_comment(&format!("// {}", "ä ".repeat(58))), "columns are counted, not bytes");
}
