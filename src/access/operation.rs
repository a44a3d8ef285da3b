//! The table: what each operation in a room needs.

use super::Who;
use crate::types::Right;

/// What somebody may want to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Become a member.
    Join,
    /// Open the room's event stream.
    Listen,
    /// Read the room's messages.
    History,
    /// Ask who is there.
    Members,
    /// Send a message as a member.
    Send,
    /// Send a signal as a member.
    Signal,
    /// Post a message by HTTP.
    Publish,
}

/// The right that each operation needs in its room.
const NEEDS: [(Operation, Right); 7] = [
    (Operation::Join, Right::Read),
    (Operation::Listen, Right::Read),
    (Operation::History, Right::Read),
    (Operation::Members, Right::Read),
    (Operation::Send, Right::Send),
    (Operation::Signal, Right::Send),
    (Operation::Publish, Right::Send),
];

/// Why an operation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A guest may not do this, but somebody known might.
    Unauthorized(Right),
    /// Whoever this is lacks this right in the room.
    Forbidden(Right),
}

impl Operation {
    /// Every operation.
    pub fn all() -> impl Iterator<Item = Operation> {
        NEEDS.into_iter().map(|(operation, _)| operation)
    }

    /// Returns the right that the operation needs in its room.
    pub fn needs(self) -> Right {
        let row = NEEDS.iter().find(|(operation, _)| *operation == self);
        // proof: a test below goes through all operations.
        row.expect("each operation has a row").1
    }

    /// Decides whether somebody who has `right` in the room may do this there.
    ///
    /// # Errors
    /// [`Denied`], which names the missing right.
    pub fn check(self, who: &Who, right: Option<Right>) -> Result<(), Denied> {
        let needed = self.needs();
        match who {
            _ if right >= Some(needed) => Ok(()),
            Who::Guest => Err(Denied::Unauthorized(needed)),
            Who::Known(_) => Err(Denied::Forbidden(needed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::identity::tests::known;

    /// Names every operation, so that a new one cannot be left out of the table unnoticed.
    fn next(operation: Operation) -> Option<Operation> {
        match operation {
            Operation::Join => Some(Operation::Listen),
            Operation::Listen => Some(Operation::History),
            Operation::History => Some(Operation::Members),
            Operation::Members => Some(Operation::Send),
            Operation::Send => Some(Operation::Signal),
            Operation::Signal => Some(Operation::Publish),
            Operation::Publish => None,
        }
    }

    #[test]
    fn each_operation_has_one_row() {
        let every: Vec<Operation> = std::iter::successors(Some(Operation::Join), |last| next(*last)).collect();
        assert_eq!(Operation::all().collect::<Vec<_>>(), every);
        for operation in every {
            assert!(operation.needs() >= Right::Read);
        }
    }

    #[test]
    fn a_guest_is_asked_who_it_is_and_others_are_told_what_they_lack() {
        let (guest, known) = (Who::Guest, known("alice", &[]));
        for operation in Operation::all() {
            let needed = operation.needs();
            for right in [None, Some(Right::Read), Some(Right::Send), Some(Right::Moderate)] {
                let (of_guest, of_known) = match right >= Some(needed) {
                    true => (Ok(()), Ok(())),
                    false => (Err(Denied::Unauthorized(needed)), Err(Denied::Forbidden(needed))),
                };
                assert_eq!(operation.check(&guest, right), of_guest, "{operation:?} with {right:?}");
                assert_eq!(operation.check(&known, right), of_known, "{operation:?} with {right:?}");
            }
        }
    }
}
