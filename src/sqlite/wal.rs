//! Reads a write-ahead log without SQLite (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>): which pages
//! it holds, and whether it is damaged. SQLite takes the first invalid frame for the end of the log, so everything that
//! was synced and acknowledged after a bad sector would silently be lost.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Number of commits after an invalid frame at which the frame counts as damage. A single one is normal: the frames of
/// the transaction that a crash interrupted may have reached the disk in any order.
const COMMITS_BEHIND: u32 = 2;

/// The content of a WAL.
#[derive(Debug, Default)]
pub(super) struct Wal {
    pub page_size: usize,
    /// The file offset of the newest committed content of each page.
    pub pages: HashMap<u32, u64>,
    /// Number of pages of the database after the last commit; 0 without one.
    pub count: u32,
    /// The damage found, if any.
    pub damage: Option<&'static str>,
}

impl Wal {
    /// Reads the file; an empty or missing one has no content.
    pub fn scan(path: &Path) -> io::Result<Wal> {
        let mut file = match File::open(path) {
            Ok(file) => BufReader::with_capacity(1 << 16, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Wal::default()),
            Err(error) => return Err(error),
        };
        let mut wal = Wal::default();
        let mut header = [0; HEADER];
        // A power cut can leave a header of zeros; nothing after it was acknowledged.
        if !fill(&mut file, &mut header)? || header == [0; HEADER] {
            return Ok(wal);
        }
        let magic = word(&header, 0);
        let big_endian = magic == 0x377f_0683;
        let page_size = word(&header, 8) as usize;
        let mut sum = checksum((0, 0), &header[..24], big_endian);
        let fits = magic & !1 == 0x377f_0682 && sum == (word(&header, 24), word(&header, 28));
        if !fits || !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            wal.damage = Some("the header of its -wal file is overwritten");
            return Ok(wal);
        }
        wal.page_size = page_size;

        let salt = [header[16], header[17], header[18], header[19], header[20], header[21], header[22], header[23]];
        let mut frame = vec![0; FRAME_HEADER + page_size];
        let mut open: Vec<(u32, u64)> = Vec::new();
        let (mut at, mut intact, mut commits_behind) = (HEADER as u64, true, 0);
        while fill(&mut file, &mut frame)? {
            let (page, count) = (word(&frame, 0), word(&frame, 4));
            let same_salt = frame[8..16] == salt;
            if intact {
                let head = checksum(sum, &frame[..8], big_endian);
                sum = checksum(head, &frame[FRAME_HEADER..], big_endian);
                intact = same_salt && page != 0 && sum == (word(&frame, 16), word(&frame, 20));
            }
            if intact {
                open.push((page, at + FRAME_HEADER as u64));
                if count != 0 {
                    wal.pages.extend(open.drain(..));
                    wal.count = count;
                }
            } else if same_salt && count != 0 {
                commits_behind += 1;
            }
            at += frame.len() as u64;
        }
        if commits_behind >= COMMITS_BEHIND {
            wal.damage = Some("its -wal file has a gap, with commits after it");
        }
        Ok(wal)
    }
}

/// Fills the buffer. Returns whether there were enough bytes; an incomplete remainder is ignored.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a big-endian number of four bytes; 0 beyond the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

fn checksum(sum: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let (words, _rest) = bytes.as_chunks::<4>();
    let read = |word: &[u8; 4]| if big_endian { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) };
    words.as_chunks::<2>().0.iter().fold(sum, |(a, b), [first, second]| {
        let a = a.wrapping_add(read(first)).wrapping_add(b);
        let b = b.wrapping_add(read(second)).wrapping_add(a);
        (a, b)
    })
}
