//! Reads a write-ahead log by itself (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>): which pages it holds,
//! and whether it is damaged. SQLite stops at the first frame that does not fit and takes it for the end, so that what was
//! synced and acknowledged behind a bad sector would be gone without a word.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Commits behind a frame that does not fit from which on it is damage. One may be there in peace: the transaction that a
/// crash has cut short may have reached the disk in any order.
const COMMITS_BEHIND: u32 = 2;

/// What a WAL holds.
#[derive(Debug, Default)]
pub(super) struct Wal {
    pub page_size: usize,
    /// Where in the file the newest committed content of a page begins.
    pub pages: HashMap<u32, u64>,
    /// Pages of the database after the last commit; 0 where there is none.
    pub count: u32,
    /// What is wrong with it.
    pub damage: Option<&'static str>,
}

impl Wal {
    /// Reads the file; an empty or missing one holds nothing.
    pub fn scan(path: &Path) -> io::Result<Wal> {
        let mut file = match File::open(path) {
            Ok(file) => BufReader::with_capacity(1 << 16, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Wal::default()),
            Err(error) => return Err(error),
        };
        let mut wal = Wal::default();
        let mut header = [0; HEADER];
        // A header of zeros is one that a power cut kept from being written; nothing was acknowledged behind it.
        if !fill(&mut file, &mut header)? || header == [0; HEADER] {
            return Ok(wal);
        }
        let magic = word(&header, 0);
        let big_endian = magic == 0x377f_0683;
        let page_size = word(&header, 8) as usize;
        let mut sum = checksum((0, 0), &header[..24], big_endian);
        let fits = magic & !1 == 0x377f_0682 && sum == (word(&header, 24), word(&header, 28));
        if !fits || !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            wal.damage = Some("the head of its -wal file is overwritten");
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
            wal.damage = Some("its -wal file has a hole, with commits behind it");
        }
        Ok(wal)
    }
}

/// Whether the buffer could be filled; the rest of a file that is shorter counts for nothing.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Four bytes as a number, the highest first; 0 beyond the end.
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
