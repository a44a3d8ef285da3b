//! "Did you mean": finds the known name that is nearest to a mistyped one.

use super::{Setting, all};

/// Returns the name, with dashes, that is nearest to the typed one: a setting's, or one of `others`.
pub(super) fn nearest_name(typed: &str, others: &[&str]) -> Option<String> {
    let flags: Vec<String> = all().map(Setting::flag).collect();
    nearest(typed, flags.iter().map(String::as_str).chain(others.iter().copied())).map(str::to_string)
}

/// Returns the known name, in lower case and with dashes, that `typed` was likely meant to be; `None` if none is near.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a name into something much longer; this also bounds the work.
    if typed.len() > 64 {
        return None;
    }
    let typed: Vec<char> = typed.to_ascii_lowercase().replace('_', "-").chars().collect();
    let judged = known.filter_map(|name| {
        let letters: Vec<char> = name.chars().collect();
        let distance = distance(&typed, &letters);
        // With over a third of its letters wrong it is another word; a prefix of at least half the name is that name.
        let cut_off = typed.len() >= 4 && typed.len() * 2 >= letters.len() && letters.starts_with(&typed);
        (distance <= (letters.len() / 3).max(1) || cut_off).then_some((distance, name))
    });
    judged.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Counts the letters to insert, delete, replace, or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("listne", "listen", 1)]
        {
            assert_eq!(distance(&letters(a), &letters(b)), d, "{a} {b}");
        }
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_not() {
        let known = ["listen", "open", "max-message-size", "pong-wait", "ping-period"];
        let find = |typed| nearest(typed, known.into_iter());
        assert_eq!(find("listne"), Some("listen"));
        assert_eq!(find("max_message_size"), Some("max-message-size"));
        assert_eq!(find("MAX-MESAGE-SIZE"), Some("max-message-size"));
        assert_eq!(find("max-message"), Some("max-message-size"));
        assert_eq!(find("pong-wiat"), Some("pong-wait"));
        assert_eq!(find("colour"), None);
        assert_eq!(find(""), None);
        assert_eq!(find(&"x".repeat(1 << 20)), None);
    }
}
