//! Pages at the edges of a log.

use super::over_all;
use crate::store::Span;
use crate::store::samples::{append, body_of, read, room};
use crate::types::Seq;

#[test]
fn an_unknown_room_is_an_empty_page() {
    over_all(|bench| {
        for span in [Span::After(Seq(5)), Span::Before(Seq(5)), Span::Newest] {
            let page = bench.page(read("never", span, 10, 1000));
            assert_eq!((page.messages.len(), page.oldest, page.head, page.more), (0, Seq(1), Seq::ZERO, false));
            assert_eq!((page.room, page.span), (room("never"), span));
        }
    });
}

#[test]
fn pages_at_the_edges() {
    over_all(|bench| {
        bench.append_all((1..=10).map(|n| append("a", &body_of(10), n)).collect());
        // (span, limit, bytes), then the seqs from and to (0: none) and `more`.
        let cases = [
            (Span::After(Seq(0)), 3, 1000, 1, 3, true),
            (Span::After(Seq(7)), 3, 1000, 8, 10, false),
            (Span::After(Seq(10)), 3, 1000, 0, 0, false),
            (Span::After(Seq(u64::MAX)), 3, 1000, 0, 0, false),
            (Span::Before(Seq(4)), 3, 1000, 1, 3, false),
            (Span::Before(Seq(5)), 3, 1000, 2, 4, true),
            (Span::Before(Seq(1)), 3, 1000, 0, 0, false),
            (Span::Before(Seq(0)), 3, 1000, 0, 0, false),
            (Span::Before(Seq(u64::MAX)), 3, 1000, 8, 10, true),
            (Span::Newest, 10, 1000, 1, 10, false),
            (Span::Newest, u32::MAX, u32::MAX, 1, 10, false),
            (Span::Newest, 0, 1000, 0, 0, true),
            (Span::After(Seq(0)), 0, 1000, 0, 0, true),
            (Span::After(Seq(10)), 0, 1000, 0, 0, false),
            (Span::Newest, 10, 0, 10, 10, true),
            (Span::Newest, 10, 20, 9, 10, true),
            (Span::Newest, 10, 29, 9, 10, true),
            (Span::After(Seq(0)), 10, 30, 1, 3, true),
            (Span::After(Seq(9)), 10, 1, 10, 10, false),
        ];
        for (span, limit, bytes, from, to, more) in cases {
            let page = bench.page(read("a", span, limit, bytes));
            let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq.0).collect();
            let expected: Vec<u64> = if from == 0 { vec![] } else { (from..=to).collect() };
            assert_eq!((seqs, page.more), (expected, more), "{span:?} {limit} {bytes}");
            assert_eq!((page.oldest, page.head), (Seq(1), Seq(10)));
        }
    });
}
