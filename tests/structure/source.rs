//! Rust sources read as text: comments and literals are blanked, then names and paths are searched. Renamed imports
//! (`use std as s`) are not followed: the rules guard against mistakes, not against malice.

use std::fs;
use std::path::Path;

pub struct File {
    /// Relative to the crate's root, with slashes.
    pub path: String,
    pub text: String,
}

pub fn collect(root: &Path, folder: &str, files: &mut Vec<File>) {
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

/// Maps a path to its module: `src/hub/room.rs` is `hub::room`; `lib.rs` and `main.rs` are the root.
pub fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if ["lib", "main"].contains(&path) {
        return Vec::new();
    }
    path.split('/').map(str::to_string).collect()
}

/// Returns a path from the crate's root, without `crate`; `None` for one that stays in its module or leaves the crate.
pub fn from_root(path: &[String], module: &[String]) -> Option<Vec<String>> {
    if path[0] == "crate" {
        return Some(path[1..].to_vec());
    }
    let path = if path[0] == "self" { &path[1..] } else { path };
    let up = path.iter().take_while(|name| *name == "super").count();
    (up > 0 && up >= module.len()).then(|| path[up..].to_vec())
}

/// Returns the modules that have a file of their own and are compiled for tests only, as paths without `.rs`.
pub fn test_modules(file: &File) -> Vec<String> {
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
pub fn without_tests(code: &str) -> String {
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
pub fn strip(text: &str) -> String {
    blank(text, &mut Vec::new())
}

/// A string that stands in a source.
pub struct Literal {
    /// Where it begins.
    pub start: usize,
    pub line: usize,
    /// Its content. A line that continues it begins with a single blank.
    pub text: String,
}

/// Returns the code without tests as [`strip`] does, with a `"` where each string begins, and these strings.
pub fn strings(text: &str) -> (String, Vec<Literal>) {
    let mut found = Vec::new();
    let mut code = blank(text, &mut found).into_bytes();
    for (start, _) in &found {
        code[*start] = b'"';
    }
    // What was blanked and marked is ASCII.
    let code = without_tests(&String::from_utf8(code).unwrap());
    let shipped = found.into_iter().filter(|(start, _)| code.as_bytes()[*start] == b'"');
    let literals = shipped.map(|(start, end)| {
        let text = text[start..end].trim_start_matches('r').trim_matches('#').trim_matches('"');
        let lines: Vec<&str> = text.lines().map(|line| line.trim().trim_end_matches('\\').trim_end()).collect();
        Literal { start, line: 1 + code[..start].matches('\n').count(), text: lines.join(" ").replace("\\\"", "\"") }
    });
    let literals = literals.collect();
    (code, literals)
}

/// Blanks as [`strip`] says, and adds where each string begins and ends.
fn blank(text: &str, strings: &mut Vec<(usize, usize)>) -> String {
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
        if at(index) == b'"' || (at(index) == b'r' && at(end - 1) != b'r') {
            strings.push((index, end));
        }
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
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// Splits the code into names, `::`, and every other character alone.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
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
pub fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
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
