//! Counts the turns of a server's loop and the work in them, and keeps the counts in a file. By that, a test counts
//! what the loop did until an answer came, and measures no time.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The name of the variable that names the file. It does not begin as the settings' variables do.
const TURN_COUNTS: &str = "COUNT_TURNS_IN";

/// What a loop has done since it began.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    turns: u64,
    /// Reads and writes.
    work: u64,
    /// The most reads and writes of one turn.
    most: u64,
}

/// Counts for one loop. Without a file it does nothing.
#[derive(Debug, Default)]
pub struct TurnCounts {
    file: Option<File>,
    counted: Counted,
    /// The work of earlier turns.
    before: u64,
}

impl TurnCounts {
    /// Returns counts in the file that the environment names.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn from_environment() -> std::io::Result<TurnCounts> {
        let file = std::env::var_os(TURN_COUNTS).map(File::create).transpose()?;
        Ok(TurnCounts { file, ..TurnCounts::default() })
    }

    /// Counts one read or write.
    pub fn work(&mut self) {
        self.counted.work += 1;
    }

    /// Counts a turn, and writes all counts.
    pub fn turn(&mut self) {
        let Some(file) = &self.file else { return };
        let counted = &mut self.counted;
        counted.turns += 1;
        counted.most = counted.most.max(counted.work - std::mem::replace(&mut self.before, counted.work));
        let bytes = [counted.turns, counted.work, counted.most].map(u64::to_le_bytes).concat();
        // A test that finds no counts fails.
        let _ = file.write_all_at(&bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::TempDir;
    use super::*;

    #[test]
    fn what_was_counted_is_there_to_be_read() {
        let folder = TempDir::new();
        let path = folder.path().join("turns");
        let mut counts = TurnCounts { file: Some(File::create(&path).unwrap()), ..TurnCounts::default() };
        for work in [3, 300, 0] {
            (0..work).for_each(|_| counts.work());
            counts.turn();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, [3, 303, 300u64].map(u64::to_le_bytes).concat());
    }
}
