//! Judges the stream that a client receives of a room: its beginning, the order of its messages, and its list of
//! members. The judge knows what docs/protocol.md promises to a client, and nothing of how the server keeps it. Each
//! world that uses it brings its own evidence: what the log holds, what was acknowledged, and which requests are open.

use std::collections::BTreeMap;

/// Where a client asked to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the next message.
    Now,
    /// With the newest messages, at most as many.
    Last(u64),
    /// After this seq, which need not exist.
    After(u64),
    /// After a seq of another log.
    AfterOther,
}

impl Begin {
    /// Judges where a join begins. `oldest` is the oldest seq that the log keeps, `None` if that is not known: only
    /// messages that are no longer kept may be passed over.
    ///
    /// # Errors
    /// The beginning is not the one that was asked for, or `recovered` does not say so.
    pub fn judge(self, head: u64, from: u64, recovered: bool, oldest: Option<u64>) -> Result<(), String> {
        let is_pruned = oldest.is_none_or(|oldest| oldest >= from);
        let is_right = match self {
            Begin::Now => recovered && from == head + 1,
            Begin::Last(count) => {
                let wanted = (head + 1).saturating_sub(count).max(1);
                recovered && (from == wanted || from > wanted && is_pruned)
            }
            Begin::After(seq) if recovered => from == seq + 1,
            Begin::After(seq) if seq > head => from == head + 1,
            Begin::After(seq) => from > seq + 1 && is_pruned,
            Begin::AfterOther => !recovered && is_pruned,
        };
        if is_right && (1..=head + 1).contains(&from) {
            return Ok(());
        }
        Err(format!("it asked for {self:?}, and begins with {from} of {head}, recovered: {recovered}"))
    }
}

/// Judges a message with this seq where `next` is to come, and goes on to the one behind it.
///
/// # Errors
/// The message is another one.
pub fn message(next: &mut u64, seq: u64) -> Result<(), String> {
    if seq != *next {
        return Err(format!("{seq} is heard where {next} is to come"));
    }
    *next += 1;
    Ok(())
}

/// Judges a gap behind `after` where `next` is to come, and goes on behind it. `oldest` is as for [`Begin::judge`].
///
/// # Errors
/// The gap is elsewhere, is none, or has messages in it that are kept.
pub fn gap(next: &mut u64, after: u64, from: u64, oldest: Option<u64>) -> Result<(), String> {
    if after.checked_add(1) != Some(*next) || from <= *next || oldest.is_some_and(|oldest| from > oldest) {
        return Err(format!("a gap from {after} to {from} where {next} is to come and {oldest:?} is kept"));
    }
    *next = from;
    Ok(())
}

/// The presence that a client requested for a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    Count,
    Names,
    /// The server decides by what it remembers.
    Unknown,
}

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Join,
    Leave,
    Away,
    Back,
}

/// The members of a room as far as a client was told, each with whether it is away.
#[derive(Clone, Debug)]
pub struct Roster<M> {
    pub wanted: Wanted,
    /// Known from a list on, until a mere count makes it outdated.
    pub names: Option<BTreeMap<M, bool>>,
    pub count: u64,
    /// The last list did not fit a page.
    pub is_cut: bool,
}

impl<M: Ord + std::fmt::Debug> Roster<M> {
    /// Begins with the count that `joined` tells.
    pub fn new(wanted: Wanted, count: u64) -> Roster<M> {
        Roster { wanted, names: None, count, is_cut: false }
    }

    /// Judges a list of members, and takes it over. With `more`, it is only a part.
    ///
    /// # Errors
    /// It was not asked for, or its length and the count do not fit.
    pub fn list(&mut self, list: Vec<(M, bool)>, count: u64, more: bool) -> Result<(), String> {
        let names = listed(list, count, more)?;
        if matches!(self.wanted, Wanted::Nothing | Wanted::Count) {
            return Err("a list that was not asked for".to_owned());
        }
        (self.is_cut, self.count, self.names) = (more, count, names);
        Ok(())
    }

    /// Judges what happened, after which `count` are there.
    ///
    /// # Errors
    /// It was not asked for, or does not fit what was told before.
    pub fn changes(&mut self, changes: Vec<(Change, M)>, count: u64) -> Result<(), String> {
        match self.wanted {
            Wanted::Nothing => return Err("it wanted to hear of nobody".to_owned()),
            Wanted::Count if !changes.is_empty() => return Err("it wanted no names".to_owned()),
            _ => {}
        }
        self.count = count;
        if changes.is_empty() {
            // Names are no longer told in a large room.
            (self.names, self.is_cut) = (None, false);
            return Ok(());
        }
        let Some(names) = &mut self.names else {
            let may_lack = self.is_cut || self.wanted == Wanted::Unknown;
            return if may_lack { Ok(()) } else { Err("changes before a list".to_owned()) };
        };
        for (change, member) in changes {
            let text = format!("{change:?} of {member:?} makes no sense");
            let fits = match change {
                Change::Join => names.insert(member, false).is_none(),
                Change::Leave => names.remove(&member).is_some(),
                Change::Away => names.insert(member, true) == Some(false),
                Change::Back => names.insert(member, false) == Some(true),
            };
            if !fits {
                return Err(text);
            }
        }
        if names.len() as u64 == count { Ok(()) } else { Err(format!("{} are known", names.len())) }
    }
}

/// Judges a list of members and its count. Returns the members with whether each is away, `None` if there are more.
///
/// # Errors
/// Somebody is in it twice, or its length and the count do not fit.
pub fn listed<M: Ord>(list: Vec<(M, bool)>, count: u64, more: bool) -> Result<Option<BTreeMap<M, bool>>, String> {
    let length = list.len();
    let names: BTreeMap<M, bool> = list.into_iter().collect();
    let fits = if more { (length as u64) < count } else { length as u64 == count };
    if names.len() != length || !fits {
        return Err(format!("{length} names, {} of them different, for a count of {count}", names.len()));
    }
    Ok((!more).then_some(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_where_it_was_asked_to() {
        // Head 10, with 4 as the oldest seq that is kept.
        let judge = |begin: Begin, from, recovered| begin.judge(10, from, recovered, Some(4)).is_ok();
        for (begin, from, recovered) in [
            (Begin::Now, 11, true),
            (Begin::Last(3), 8, true),
            (Begin::Last(9), 4, true),
            (Begin::After(6), 7, true),
            (Begin::After(1), 4, false),
            (Begin::After(20), 11, false),
            (Begin::AfterOther, 4, false),
        ] {
            assert!(judge(begin, from, recovered), "{begin:?} {from}");
            assert!(!judge(begin, from, !recovered), "{begin:?} {from}, and `recovered` is wrong");
            assert!(!judge(begin, from + 1, recovered), "{begin:?} passes over {from}");
        }
        assert!(!judge(Begin::Last(3), 7, true), "more than it asked for");
        assert!(!judge(Begin::After(6), 6, true), "what it had");
        assert!(Begin::After(0).judge(10, 9, false, None).is_ok(), "nobody knows what was kept");
    }

    #[test]
    fn messages_come_in_order_and_a_gap_says_what_is_gone() {
        let mut next = 3;
        assert!(message(&mut next, 2).is_err() && message(&mut next, 4).is_err());
        assert_eq!((message(&mut next, 3), next), (Ok(()), 4));
        for (after, from, oldest) in [(3, 4, 9), (2, 9, 9), (4, 9, 9), (3, 9, 8)] {
            assert!(gap(&mut next, after, from, Some(oldest)).is_err(), "{after} {from} {oldest}");
        }
        assert_eq!((gap(&mut next, 3, 8, Some(9)), next), (Ok(()), 8));
        assert!(gap(&mut next, u64::MAX, 9, None).is_err());
    }

    #[test]
    fn a_roster_takes_only_what_fits_it() {
        let mut roster = Roster::new(Wanted::Names, 1);
        assert!(roster.changes(vec![(Change::Join, "bob")], 2).is_err(), "before a list");
        for (list, count, more) in [
            (vec![("ann", false)], 2, false),
            (vec![("ann", false)], 1, true),
            (vec![("ann", false), ("ann", false)], 2, false),
        ] {
            assert!(roster.list(list, count, more).is_err());
        }
        roster.list(vec![("ann", false)], 1, false).unwrap();
        let told = |change, member, count| roster.clone().changes(vec![(change, member)], count).is_ok();
        assert!(told(Change::Join, "bob", 2) && !told(Change::Join, "bob", 1) && !told(Change::Join, "ann", 1));
        assert!(told(Change::Away, "ann", 1) && !told(Change::Back, "ann", 1) && !told(Change::Away, "bob", 2));
        assert!(told(Change::Leave, "ann", 0) && !told(Change::Leave, "bob", 0));
        roster.changes(Vec::new(), 500).unwrap();
        assert_eq!((roster.names.clone(), roster.count), (None, 500));
        for (wanted, list, names, count) in [
            (Wanted::Nothing, false, false, false),
            (Wanted::Count, false, false, true),
            (Wanted::Unknown, true, true, true),
        ] {
            let roster = Roster::new(wanted, 1);
            assert_eq!(roster.clone().list(vec![("ann", false)], 1, false).is_ok(), list, "{wanted:?}");
            assert_eq!(roster.clone().changes(vec![(Change::Join, "bob")], 2).is_ok(), names, "{wanted:?}");
            assert_eq!(roster.clone().changes(Vec::new(), 2).is_ok(), count, "{wanted:?}");
        }
    }
}
