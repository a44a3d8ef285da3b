//! Lines out of sealed messages: each line is one JSON object, and one that is too long for a single Noise message goes on
//! in the next. Pure.

/// Longest line that is put together before the server has announced its limits, in bytes; and after, where these are
/// lower: the log may hold messages from a time of higher ones.
pub const LONGEST: usize = 1 << 20;

/// Why what a server sealed is not believed to be lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Empty,
    TooLong,
    NotUtf8,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Empty => "a sealed message is empty",
            Fault::TooLong => "a sealed line is longer than the server said that any is",
            Fault::NotUtf8 => "what was sealed is no text",
        })
    }
}

/// Keeps the unfinished end of what came, until the rest is here.
#[derive(Debug)]
pub struct SealedLines {
    tail: Vec<u8>,
    longest: usize,
}

impl Default for SealedLines {
    fn default() -> SealedLines {
        SealedLines::new()
    }
}

impl SealedLines {
    pub fn new() -> SealedLines {
        SealedLines { tail: Vec::new(), longest: LONGEST }
    }

    /// Takes lines of this many bytes from now on, and never fewer than [`LONGEST`].
    pub fn allow(&mut self, longest: usize) {
        self.longest = longest.max(LONGEST);
    }

    /// Takes what one message said, and hands over each line that is whole by now, without its LF.
    ///
    /// # Errors
    /// The message says nothing, the unfinished line is too long, or a line is no UTF-8.
    pub fn push(&mut self, plain: &[u8], lines: &mut Vec<String>) -> Result<(), Fault> {
        if plain.is_empty() {
            return Err(Fault::Empty);
        }
        let mut parts = plain.split(|byte| *byte == b'\n');
        // `split` gives at least one part; the last one has no LF.
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.extend(part)?;
            let line = String::from_utf8(std::mem::take(&mut self.tail)).map_err(|_| Fault::NotUtf8)?;
            lines.push(line);
        }
        self.extend(last)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), Fault> {
        if self.tail.len().saturating_add(part.len()) > self.longest {
            return Err(Fault::TooLong);
        }
        self.tail.extend_from_slice(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_in_the_next_message() {
        let mut of = SealedLines::new();
        let mut lines = Vec::new();
        for (plain, whole) in [("{\"a\":1}\n{\"b\"", 1), (":\"é", 1), ("x", 1), ("\"}\n{}\n", 3), ("{\"c\":2}\n", 4)] {
            of.push(plain.as_bytes(), &mut lines).unwrap();
            assert_eq!(lines.len(), whole, "{plain}");
        }
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":\"éx\"}", "{}", "{\"c\":2}"]);
        assert_eq!(of.push(b"", &mut lines), Err(Fault::Empty));
    }

    #[test]
    fn a_character_may_be_cut_and_bytes_that_are_none_are_not_taken() {
        let mut of = SealedLines::new();
        let mut lines = Vec::new();
        let [first, second] = [0xc3, 0xa9];
        of.push(&[b'"', first], &mut lines).unwrap();
        of.push(&[second, b'"', b'\n'], &mut lines).unwrap();
        assert_eq!(lines, ["\"é\""]);
        assert_eq!(of.push(&[first, b'\n'], &mut lines), Err(Fault::NotUtf8));
    }

    #[test]
    fn an_unfinished_line_has_a_bound_which_the_server_announces() {
        let chunk = vec![b'x'; 65_519];
        let most = |longest: Option<usize>| {
            let mut of = SealedLines::new();
            if let Some(longest) = longest {
                of.allow(longest);
            }
            (0..).find(|_| of.push(&chunk, &mut Vec::new()).is_err()).unwrap()
        };
        assert_eq!(most(None), LONGEST / chunk.len());
        assert_eq!(most(Some(10)), LONGEST / chunk.len());
        assert_eq!(most(Some(4 << 20)), (4 << 20) / chunk.len());
    }
}
