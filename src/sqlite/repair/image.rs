//! Reads a database page by page without SQLite, which also works for a damaged one: from each page with rows, the rows
//! that are intact (<https://www.sqlite.org/fileformat2.html>, sections 1.6, 1.7, 1.8 and 2.1). It trusts no number
//! that it reads, and knows nothing about the meaning of the rows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::sqlite::files::Files;
use crate::sqlite::wal::{Wal, word};

/// The bytes of a header that are the same in each database (section 1.3.): the format of the payload fractions at 21,
/// and zeros at 72.
const FRACTIONS: [u8; 3] = [64, 32, 32];
const RESERVED: [u8; 20] = [0; 20];

/// Maximum size in bytes of a row that is reassembled: above any message.
const LONGEST: usize = 80 << 20;

/// A column of a row.
#[derive(Debug, PartialEq)]
pub(in crate::sqlite) enum Value {
    Null,
    Integer(i64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
    /// A value of a type that no table here has.
    Other,
}

/// A row of a table, or an entry of an index, which has no row id.
#[derive(Debug, PartialEq)]
pub(in crate::sqlite) struct RawRow {
    pub id: Option<i64>,
    pub values: Vec<Value>,
}

/// The content of a page.
#[derive(Debug, PartialEq)]
pub(in crate::sqlite) enum Page {
    /// Rows, and whether all rows of the page could be read.
    Rows(Vec<RawRow>, bool),
    /// No rows: a free page, an overflow page of a long row, or a pointer map.
    Nothing,
    Damaged,
}

/// The sizes that pages of racerd's databases have, in bytes. The first is that of databases from before it could be
/// chosen.
pub(in crate::sqlite) const SIZES: [usize; 3] = [4_096, 2_048, 1_024];

/// The pages of a database file, or their newer versions from its WAL.
pub(in crate::sqlite) struct Image {
    file: File,
    wal_file: Option<File>,
    wal: Wal,
    page_size: usize,
    /// Whether the header or the WAL tells the pages' size.
    is_told: bool,
    usable: usize,
    /// Length of the database file in bytes.
    length: u64,
    count: u32,
    /// Whether it has pointer maps, which list the types of pages.
    has_lists: bool,
    /// The pointer map read last: its page number, and its content if that is plausible.
    list: Option<(u32, Option<Vec<u8>>)>,
}

impl Image {
    pub fn open(files: &Files) -> io::Result<Image> {
        let file = File::open(&files.database)?;
        // A WAL that cannot be read counts as missing.
        let wal = Wal::scan(&files.wal).unwrap_or_default();
        let length = file.metadata()?.len();
        let mut image = Image {
            file,
            wal_file: File::open(&files.wal).ok(),
            wal,
            page_size: SIZES[0],
            is_told: true,
            usable: SIZES[0],
            length,
            count: 0,
            has_lists: true,
            list: None,
        };
        let mut header = image.page(1).unwrap_or_default();
        header.resize(100, 0);
        if header.starts_with(b"SQLite format 3\0") {
            let size = usize::from(u16::from_be_bytes([header[16], header[17]]));
            let size = if size == 1 { 65_536 } else { size };
            let reserved = usize::from(header[20]);
            if size.is_power_of_two() && size >= 512 && size - reserved >= 480 {
                (image.page_size, image.usable) = (size, size - reserved);
                image.has_lists = word(&header, 52) != 0;
            }
        } else if image.wal.page_size != 0 {
            (image.page_size, image.usable) = (image.wal.page_size, image.wal.page_size);
        } else {
            image.is_told = false;
        }
        image.count_pages();
        Ok(image)
    }

    fn count_pages(&mut self) {
        let in_file = u32::try_from(self.length.div_ceil(self.page_size as u64)).unwrap_or(u32::MAX);
        // With a commit in the WAL, the file may be longer than the database.
        self.count = if self.wal.count != 0 { self.wal.count } else { in_file };
    }

    /// Tries another size of the pages, if nothing tells it. Returns whether it is tried.
    pub fn retry_with(&mut self, page_size: usize) -> bool {
        if self.is_told {
            return false;
        }
        (self.page_size, self.usable, self.list) = (page_size, page_size, None);
        self.count_pages();
        true
    }

    /// Returns the pages' size in bytes.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Returns the number of pages; they are numbered from 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn wal_damage(&self) -> Option<&'static str> {
        self.wal.damage
    }

    /// Returns the application id and the user version, if the header is whole: what is the same in each database is
    /// as it should be.
    pub fn marks(&self) -> Option<(i32, i32)> {
        let page = self.page(1)?;
        let is_whole = page.starts_with(b"SQLite format 3\0")
            && page.get(21..24) == Some(&FRACTIONS)
            && page.get(72..92) == Some(&RESERVED);
        is_whole.then(|| (word(&page, 68).cast_signed(), word(&page, 60).cast_signed()))
    }

    /// Reads the content of a page.
    pub fn look(&mut self, number: u32) -> Page {
        let kind = self.kind(number);
        if matches!(kind, PageKind::Other) {
            return Page::Nothing;
        }
        let Some(page) = self.page(number) else { return Page::Damaged };
        match self.rows(number, &page) {
            Some((rows, whole)) => Page::Rows(rows, whole),
            // Without a plausible pointer map, the type of the page is unknown.
            None if kind == PageKind::Unknown => Page::Nothing,
            None => Page::Damaged,
        }
    }

    /// Returns the page's bytes; a page cut off by the end of the file is padded with zeros.
    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; self.page_size];
        if let (Some(at), Some(file)) = (self.wal.pages.get(&number), &self.wal_file) {
            file.read_exact_at(&mut page, *at).ok()?;
            return Some(page);
        }
        let mut at = u64::from(number.checked_sub(1)?) * self.page_size as u64;
        let mut done = 0;
        while let Some(rest) = page.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at) {
                Ok(0) if done == 0 => return None,
                Ok(0) => break,
                Ok(read) => (done, at) = (done + read, at + read as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(page)
    }

    /// Returns the type of a page according to the pointer map (section 1.8): free pages still hold deleted rows.
    fn kind(&mut self, number: u32) -> PageKind {
        if !self.has_lists || number == 1 {
            return PageKind::Tree;
        }
        // The page that SQLite uses for locks holds nothing (section 1.5).
        let lock = u32::try_from(0x4000_0000 / self.page_size).unwrap_or(u32::MAX) + 1;
        let entries = u32::try_from(self.usable / 5).unwrap_or(u32::MAX);
        let list = (number - 2) / (entries + 1) * (entries + 1) + 2;
        let list = if list == lock { list + 1 } else { list };
        if list >= number || lock == number {
            return PageKind::Other;
        }
        if self.list.as_ref().is_none_or(|(at, _)| *at != list) {
            let page = self.page(list).filter(|page| {
                // A pointer map with an invalid entry for any page is not trusted for another.
                page.as_chunks::<5>().0.iter().all(|entry| entry[0] <= 5)
            });
            self.list = Some((list, page));
        }
        let Some((_, Some(page))) = &self.list else { return PageKind::Unknown };
        match page.get((number - list - 1) as usize * 5) {
            Some(1 | 5) => PageKind::Tree,
            Some(2..=4) => PageKind::Other,
            _ => PageKind::Unknown,
        }
    }

    /// Returns the rows of a page, and whether these are all; `None` if it is not a page of rows.
    fn rows(&self, number: u32, page: &[u8]) -> Option<(Vec<RawRow>, bool)> {
        let head = if number == 1 { 100 } else { 0 };
        let (is_table, pointers) = match page.get(head)? {
            0x0d => (true, head + 8),
            0x0a => (false, head + 8),
            0x02 => (false, head + 12),
            // Inner pages of tables hold no rows.
            0x05 => return Some((Vec::new(), true)),
            _ => return None,
        };
        let is_inner = page.get(head) == Some(&0x02);
        let cells = usize::from(u16::from_be_bytes([*page.get(head + 3)?, *page.get(head + 4)?]));
        if pointers + 2 * cells > self.usable {
            return None;
        }
        let mut rows = Vec::with_capacity(cells);
        for cell in 0..cells {
            let at = pointers + 2 * cell;
            let at = usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?]));
            let at = if is_inner { at + 4 } else { at };
            rows.extend(self.row(page, at, is_table));
        }
        let whole = rows.len() == cells;
        Some((rows, whole))
    }

    fn row(&self, page: &[u8], at: usize, is_table: bool) -> Option<RawRow> {
        let mut cell = page.get(..self.usable)?.get(at..)?;
        // At most what the file holds, so that following a damaged chain that runs in a circle ends.
        let longest = LONGEST.min(self.usable.saturating_mul(self.count as usize));
        let length = usize::try_from(varint(&mut cell)?).ok().filter(|length| *length <= longest)?;
        let id = if is_table { Some(varint(&mut cell)?.cast_signed()) } else { None };
        // Number of the row's bytes in the page itself (section 1.6).
        let most = if is_table { self.usable - 35 } else { (self.usable - 12) * 64 / 255 - 23 };
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = if length <= most {
            length
        } else {
            let wanted = least + (length - least) % (self.usable - 4);
            if wanted <= most { wanted } else { least }
        };
        let (local, rest) = cell.split_at_checked(here)?;
        if here == length {
            return record(local).map(|values| RawRow { id, values });
        }
        let mut payload = local.to_vec();
        let mut next = rest.first_chunk().map(|next| u32::from_be_bytes(*next))?;
        while payload.len() < length {
            if next == 0 || next > self.count {
                return None;
            }
            let page = self.page(next)?;
            next = word(&page, 0);
            let wanted = (length - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(page.get(4..4 + wanted)?);
        }
        record(&payload).map(|values| RawRow { id, values })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageKind {
    Tree,
    Other,
    Unknown,
}

/// Decodes a record's columns (section 2.1); `None` unless it is valid to its last byte.
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let mut rest = payload;
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let begun = payload.len() - rest.len();
    let (mut kinds, mut content) = rest.split_at_checked(length.checked_sub(begun)?)?;
    let mut values = Vec::new();
    while !kinds.is_empty() {
        let kind = varint(&mut kinds)?;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((kind - 12) / 2).ok()?,
        };
        let (column, rest) = content.split_at_checked(bytes)?;
        content = rest;
        values.push(match kind {
            0 => Value::Null,
            1..=6 => Value::Integer(integer(column)),
            7 => Value::Other,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            _ if kind % 2 == 0 => Value::Blob(column.to_vec()),
            _ => Value::Text(column.to_vec()),
        });
    }
    content.is_empty().then_some(values)
}

/// Decodes up to eight big-endian bytes as a signed number.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |number, byte| (number << 8) | i64::from(*byte))
}

/// Decodes a number of one to nine bytes (section 1.6), and removes it from `bytes`.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for count in 1..=9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if count == 9 {
            return Some((number << 8) | u64::from(*byte));
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
