//! Splits sealed messages into lines. Each line is one JSON object; a line that is too long for a single Noise message
//! continues in the next. Pure.

/// The least bound of a line, in bytes. It holds before the server has announced its limits, and after that where those
/// are lower: the log may contain messages from a time of higher limits.
pub const LONGEST: usize = 1 << 20;

/// Why a sealed message is not made of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedLineError {
    Empty,
    TooLong,
    NotUtf8,
}

impl std::fmt::Display for SealedLineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SealedLineError::Empty => "a sealed message is empty",
            SealedLineError::TooLong => "a sealed line is longer than the server has announced",
            SealedLineError::NotUtf8 => "a sealed line is not UTF-8",
        })
    }
}

impl std::error::Error for SealedLineError {}

/// Keeps the beginning of a line until its end arrives.
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

    /// Sets the bound of a line, in bytes; it is never less than [`LONGEST`].
    pub fn set_longest(&mut self, longest: usize) {
        self.longest = longest.max(LONGEST);
    }

    /// Takes the content of one message, and appends every complete line, without its LF.
    ///
    /// # Errors
    /// The message is empty, the unfinished line is too long, or a line is not UTF-8.
    pub fn push(&mut self, plain: &[u8], lines: &mut Vec<String>) -> Result<(), SealedLineError> {
        if plain.is_empty() {
            return Err(SealedLineError::Empty);
        }
        let mut parts = plain.split(|byte| *byte == b'\n');
        // `split` gives at least one part; the last one has no LF.
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.extend(part)?;
            let line = String::from_utf8(std::mem::take(&mut self.tail)).map_err(|_| SealedLineError::NotUtf8)?;
            lines.push(line);
        }
        self.extend(last)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), SealedLineError> {
        if self.tail.len().saturating_add(part.len()) > self.longest {
            return Err(SealedLineError::TooLong);
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
        assert_eq!(of.push(b"", &mut lines), Err(SealedLineError::Empty));
    }

    #[test]
    fn a_character_may_be_cut_and_bytes_that_are_none_are_not_taken() {
        let mut of = SealedLines::new();
        let mut lines = Vec::new();
        let [first, second] = [0xc3, 0xa9];
        of.push(&[b'"', first], &mut lines).unwrap();
        of.push(&[second, b'"', b'\n'], &mut lines).unwrap();
        assert_eq!(lines, ["\"é\""]);
        assert_eq!(of.push(&[first, b'\n'], &mut lines), Err(SealedLineError::NotUtf8));
    }

    #[test]
    fn an_unfinished_line_has_a_bound_which_the_server_announces() {
        let chunk = vec![b'x'; 65_519];
        let most = |longest: Option<usize>| {
            let mut of = SealedLines::new();
            if let Some(longest) = longest {
                of.set_longest(longest);
            }
            (0..).find(|_| of.push(&chunk, &mut Vec::new()).is_err()).unwrap()
        };
        assert_eq!(most(None), LONGEST / chunk.len());
        assert_eq!(most(Some(10)), LONGEST / chunk.len());
        assert_eq!(most(Some(4 << 20)), (4 << 20) / chunk.len());
    }
}
