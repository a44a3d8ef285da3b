//! Parked sessions: each is claimed once, and the oldest go first.

use super::{over_all, parked};
use crate::store::samples::{append, stored, ticket};
use crate::store::{Bounds, Claim, Holder, Mark, Parked, Purpose, Standing, StoreEvent, StoreRequest};
use crate::types::{Seq, SessionId};

#[test]
fn what_is_parked_is_claimed_once_and_in_order() {
    over_all(|bench| {
        assert_eq!(bench.claim(1), None);
        bench.submit([StoreRequest::Park(parked(1, 1)), StoreRequest::Park(parked(2, 1))]);
        assert_eq!(bench.claim(1), Some(parked(1, 1)));
        assert_eq!(bench.claim(1), None, "taken out");
        // All in one batch: each claim reflects everything parked before it, and nothing parked after it.
        let claim = |n| StoreRequest::Claim(Claim { ticket: ticket(Purpose::Resume, n), session: SessionId([2; 16]) });
        bench.submit([
            StoreRequest::Park(parked(2, 7)),
            StoreRequest::Append(append("a", "1", 1)),
            claim(2),
            claim(2),
            StoreRequest::Park(Parked { rooms: Vec::new(), ..parked(2, 8) }),
        ]);
        let mut claims = Vec::new();
        while claims.len() < 2 {
            match bench.next() {
                StoreEvent::Claimed(claimed) => claims.push(claimed.parked),
                StoreEvent::Appended(appended) => assert_eq!(stored(&appended[0].outcome).seq, Seq(1)),
                other => panic!("not asked for: {other:?}"),
            }
        }
        assert_eq!(claims, [Some(parked(2, 7)), None]);
        assert_eq!(bench.claim(2), Some(Parked { rooms: Vec::new(), ..parked(2, 8) }));
    });
}

#[test]
fn what_became_of_a_session_is_known_to_every_later_claim() {
    over_all(|bench| {
        let session = SessionId([2; 16]);
        let asker = ticket(Purpose::End, 7);
        let mark = |standing, asker| StoreRequest::Mark(Mark { session, standing, holder: Holder::of(None), asker });
        let claim = StoreRequest::Claim(Claim { ticket: ticket(Purpose::Resume, 2), session });
        // All in one batch.
        bench.submit([
            claim.clone(),
            mark(Standing::Presented(4), None),
            mark(Standing::Presented(3), None),
            claim.clone(),
            mark(Standing::Ended, Some(asker)),
            mark(Standing::Presented(5), None),
            claim,
        ]);
        let mut known = Vec::new();
        let mut answered = 0;
        while known.len() < 3 || answered < 1 {
            match bench.next() {
                StoreEvent::Claimed(claimed) => known.push(claimed.standing),
                StoreEvent::Marked(to) => {
                    assert_eq!((to, known.len()), (asker, 2), "in order");
                    answered += 1;
                }
                other => panic!("not asked for: {other:?}"),
            }
        }
        assert_eq!(known, [None, Some(Standing::Presented(4)), Some(Standing::Ended)]);
    });
}

#[test]
fn of_too_many_parked_the_oldest_go() {
    over_all(|bench| {
        bench.submit((0..5).map(|n| StoreRequest::Park(parked(n, 1))));
        // Parked again, so it is the youngest now.
        bench.submit([StoreRequest::Park(parked(0, 2))]);
        bench.submit((5..8).map(|n| StoreRequest::Park(parked(n, 1))));
        let kept: Vec<u8> = (0..8).filter(|n| bench.claim(*n).is_some()).collect();
        assert_eq!(kept, [0, 4, 5, 6, 7]);
        bench.submit((0..200).map(|n| StoreRequest::Park(parked(n, 1))));
        let kept: Vec<u8> = (0..200).filter(|n| bench.claim(*n).is_some()).collect();
        assert_eq!(kept, [195, 196, 197, 198, 199]);
        let bounds = Bounds { parked_max: 2, ..bench.store.bounds() };
        bench.store.set_bounds(bounds);
        bench.submit((0..9).map(|n| StoreRequest::Park(parked(n, 1))));
        let kept: Vec<u8> = (0..9).filter(|n| bench.claim(*n).is_some()).collect();
        assert_eq!(kept, [7, 8], "a bound that is lowered holds from now on");
    });
}
