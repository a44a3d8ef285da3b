//! Pages of the log as bytes. Members that read the same messages at the same time share them: a message is encoded
//! once for as long as any queue holds its page.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::encoding::{end_of, message};
use crate::conn::{Encoding, Ledger, Shared, SharedBytes};
use crate::types::{Epoch, Message, Seq};

/// Pages that are looked through for one that somebody has already.
const MOST: usize = 64;

/// The pages that were made last. Only queues keep them alive.
#[derive(Debug, Default)]
pub struct Pages(VecDeque<Made>);

#[derive(Debug)]
struct Made {
    stay: u32,
    encoding: Encoding,
    first: Seq,
    /// The end of each message in the bytes.
    ends: Rc<[u32]>,
    bytes: Weak<SharedBytes>,
}

/// Part of a page, from `start` to `end` of its bytes.
#[derive(Debug)]
pub struct Part {
    pub bytes: Shared,
    pub start: u32,
    pub end: u32,
    pub messages: usize,
    /// The bytes that were encoded for it: none if another member has this page.
    pub encoded: usize,
}

impl Pages {
    /// Returns the first of these messages as bytes, which follow one another and are of this stay of a room: up to the
    /// end of the page that another member has, or to where such a page begins. Without messages, the part is empty.
    pub fn part(
        &mut self,
        (stay, encoding): (u32, Encoding),
        epoch: &Epoch,
        messages: &[Message],
        ledger: &Ledger,
    ) -> Part {
        let first = messages.first().map_or(Seq::ZERO, |message| message.seq);
        let mut count = messages.len();
        for made in self.0.iter().filter(|made| made.stay == stay && made.encoding == encoding) {
            let Some(bytes) = made.bytes.upgrade() else { continue };
            if made.first > first {
                count = count.min((made.first.0 - first.0) as usize);
                continue;
            }
            let from = (first.0 - made.first.0) as usize;
            if from < made.ends.len() {
                let upto = made.ends.len().min(from + count);
                let (start, end) = (end_of(&made.ends, from), end_of(&made.ends, upto));
                return Part { bytes, start, end, messages: upto - from, encoded: 0 };
            }
        }
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(count);
        for one in messages.iter().take(count) {
            message(encoding, epoch, &mut bytes, one);
            ends.push(bytes.len() as u32);
        }
        let (end, bytes) = (bytes.len(), SharedBytes::share(bytes, ledger));
        if self.0.len() == MOST {
            self.forget();
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Made { stay, encoding, first, ends: ends.into(), bytes: Rc::downgrade(&bytes) });
        Part { bytes, start: 0, end: end as u32, messages: count, encoded: end }
    }

    /// Forgets the pages that no queue holds any more.
    pub fn forget(&mut self) {
        self.0.retain(|made| made.bytes.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Author, Body, Name, RoomId, WallMillis};

    fn messages(seqs: std::ops::Range<u64>) -> Vec<Message> {
        let (room, name) = (RoomId::parse("r").unwrap(), Name::parse("a").unwrap());
        let author = Author { member: None, name };
        let one = |seq| Message {
            room: room.clone(),
            seq: Seq(seq),
            at: WallMillis(5),
            author: author.clone(),
            body: Body::checked(seq.to_string().into()),
        };
        seqs.map(one).collect()
    }

    struct Reader {
        pages: Pages,
        ledger: Ledger,
    }

    impl Reader {
        fn part(&mut self, stay: u32, seqs: std::ops::Range<u64>) -> Part {
            let epoch = Epoch("k3f9".into());
            self.pages.part((stay, Encoding::Frames), &epoch, &messages(seqs), &self.ledger)
        }
    }

    fn text(part: &Part) -> Vec<u8> {
        part.bytes[part.start as usize..part.end as usize].to_vec()
    }

    fn encoded(seqs: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages(seqs).iter().for_each(|one| message(Encoding::Frames, &Epoch("k3f9".into()), &mut bytes, one));
        bytes
    }

    /// A member that reads where others read gets the bytes that are encoded already, from its own cursor on. Messages
    /// before their page are encoded up to that page only.
    #[test]
    fn a_page_is_encoded_once_while_somebody_holds_it() {
        let mut reader = Reader { pages: Pages::default(), ledger: Ledger::default() };
        let first = reader.part(1, 101..151);
        assert_eq!((first.messages, text(&first)), (50, encoded(101..151)));
        let second = reader.part(1, 103..153);
        assert!(Rc::ptr_eq(&first.bytes, &second.bytes) && second.encoded == 0);
        assert_eq!((second.messages, text(&second)), (48, encoded(103..151)));
        let few = reader.part(1, 120..122);
        assert_eq!((few.messages, text(&few), few.encoded), (2, encoded(120..122), 0));
        let before = reader.part(1, 90..140);
        assert_eq!((before.messages, text(&before)), (11, encoded(90..101)), "up to the page that there is");
        let after = reader.part(1, 151..201);
        assert_eq!((after.messages, after.encoded > 0), (50, true));
        let other_room = reader.part(2, 103..153);
        assert_eq!((other_room.messages, other_room.encoded > 0), (50, true), "each room has its own");
    }

    /// The cache itself holds no memory, and looks through no more pages than it may.
    #[test]
    fn pages_go_with_the_last_queue() {
        let mut reader = Reader { pages: Pages::default(), ledger: Ledger::default() };
        drop(reader.part(1, 1..51));
        assert_eq!(reader.ledger.bytes(), 0);
        assert!(reader.part(1, 1..51).encoded > 0, "nobody has it any more");
        reader.pages.forget();
        assert!(reader.pages.0.is_empty());
        let held: Vec<Part> = (0..100).map(|stay| reader.part(stay, 1..51)).collect();
        assert_eq!(reader.pages.0.len(), MOST);
        assert_eq!(reader.part(99, 1..51).encoded, 0);
        assert!(reader.part(0, 1..51).encoded > 0, "the oldest is forgotten first");
        drop(held);
    }

    #[test]
    fn nothing_is_read_from_nothing() {
        let mut reader = Reader { pages: Pages::default(), ledger: Ledger::default() };
        let none = reader.part(1, 5..5);
        assert_eq!((none.messages, none.start, none.end), (0, 0, 0));
    }
}
