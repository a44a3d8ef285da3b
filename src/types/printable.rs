//! Makes untrusted text safe for one line of a log or a terminal. Has the only list of characters that must not reach
//! either.

/// Returns whether a character ends a line, controls a terminal, or reorders or hides text.
pub fn is_unsafe(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes unsafe characters, quotes and backslashes, so that original text and escapes can be told apart.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_escaped(&mut out, text);
    out
}

/// Appends text, escaped as [`escape`] does.
pub fn push_escaped(out: &mut String, text: &str) {
    // Nearly always all of it.
    let plain = text.bytes().take_while(|byte| (b' '..127).contains(byte) && !matches!(byte, b'"' | b'\\')).count();
    let (plain, rest) = text.split_at(plain);
    out.push_str(plain);
    for c in rest.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// Escapes unsafe characters only, as `\n` or `\u{1b}`. The two joiners stay, since scripts and emoji need them.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200c}' | '\u{200d}' => out.push(c),
            c if is_unsafe(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Escapes as [`harmless`] does, and cuts the text after `most` characters, with dots in place of the rest.
pub fn harmless_start(text: &str, most: usize) -> String {
    let escaped = harmless(text);
    match escaped.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &escaped[..end]),
        None => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_written_out() {
        assert_eq!(harmless("\u{1b}]0;x\u{7}a\nbob: b\u{202e}\u{9b}2J"), r"\u{1b}]0;x\u{7}a\nbob: b\u{202e}\u{9b}2J");
        for plain in ["it's \"so\" \\ so", "李 雷", "👩\u{200d}👩\u{200d}👧"] {
            assert_eq!(harmless(plain), plain);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(harmless_start("ab\n李雷", 6), r"ab\n李雷");
        assert_eq!(harmless_start("ab\n李雷", 5), r"ab\n李...");
    }
}
