//! Member names. One rule for the server, the page (`src/web/page/names.js`) and the command line, kept in agreement by
//! `tests/vectors/names.json`: after RFC 8264 §9 (which code points) and RFC 8266 §2.1 (spaces), and UTS #39 §3.1.1
//! (joiners only where a script or an emoji needs them).

use std::fmt;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization as _;

/// A member's name: 1 to 32 characters of Unicode, none of them invisible. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

/// The reason why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// Nothing but blanks.
    Empty,
    TooLong,
    /// Control characters, line ends, annotation marks.
    Control,
    /// Marks that change the reading direction, also that of the text around the name.
    Direction,
    /// Code points that Unicode will never assign.
    Noncharacter,
    /// Characters that are not visible, and make one name look like another.
    Invisible,
}

impl NameFault {
    /// Returns the error text for the person who chose the name.
    pub fn text(self) -> &'static str {
        match self {
            NameFault::Empty => "a name has 1 to 32 characters, not all of them blank",
            NameFault::TooLong => "a name has at most 32 characters",
            NameFault::Control => "a name has no control characters and no line ends",
            NameFault::Direction => "a name has no characters that turn the reading direction",
            NameFault::Noncharacter => "a name has only characters, and one of these is none",
            NameFault::Invisible => "a name has no characters that cannot be seen",
        }
    }
}

impl Name {
    /// Longest name, in characters.
    pub const MAX: usize = 32;

    /// Returns the name in its normal form: each run of spaces is one blank, and there are none at the ends.
    ///
    /// # Errors
    /// [`NameFault`].
    pub fn parse(text: &str) -> Result<Name, NameFault> {
        let form = form(text)?;
        if form.is_empty() {
            return Err(NameFault::Empty);
        }
        let has = |fault: fn(char) -> bool| form.iter().copied().any(fault);
        if has(is_noncharacter) {
            return Err(NameFault::Noncharacter);
        }
        if has(is_direction) {
            return Err(NameFault::Direction);
        }
        if has(is_control) {
            return Err(NameFault::Control);
        }
        if (0..form.len()).any(|at| is_invisible(form[at]) && !is_needed(&form, at)) {
            return Err(NameFault::Invisible);
        }
        Ok(Name(form.into_iter().collect::<String>().into()))
    }

    /// Returns a name from a log or a token, even if only an earlier, less strict rule accepted it. `None` if no rule
    /// ever allowed the text, which means damage.
    pub fn kept(text: &str) -> Option<Name> {
        let length = text.chars().take(Name::MAX + 1).count();
        let fits = (1..=Name::MAX).contains(&length) && !text.chars().any(|c| is_control(c) || is_direction(c));
        fits.then(|| Name(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns how the name looks, for comparison only: two names that look the same to somebody who glances at them
    /// have the same look. Compatible characters count as one (NFKC, UAX #15), and so do upper and lower case; blanks
    /// and what cannot be seen do not count. Letters of other scripts that resemble each other count as different.
    pub fn look(&self) -> String {
        // Twice: what one of the two makes, the other may change.
        let once = |text: &str| -> String {
            let seen = text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
            seen.filter(|c| !is_space(*c) && !is_invisible(*c)).collect()
        };
        once(&once(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Returns the characters with each run of spaces as one blank, and none at the ends. A text that is too long is not
/// read to its end.
fn form(text: &str) -> Result<Vec<char>, NameFault> {
    let mut form = Vec::with_capacity(Name::MAX.min(text.len()));
    for c in text.chars() {
        let c = if is_space(c) { ' ' } else { c };
        if c == ' ' && matches!(form.last(), None | Some(' ')) {
            continue;
        }
        // One blank too many may be at the end, and is then removed.
        if form.len() > Name::MAX || form.len() == Name::MAX && c != ' ' {
            return Err(NameFault::TooLong);
        }
        form.push(c);
    }
    if form.last() == Some(&' ') {
        form.pop();
    }
    Ok(form)
}

/// Returns whether the character is a space separator (Zs).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || c as u32 & 0xfffe == 0xfffe
}

/// Returns whether the character is a Default_Ignorable_Code_Point (DerivedCoreProperties.txt), or drawn as nothing:
/// the blanks of Braille and of musical notation.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];
/// Variation selectors: the character before one is drawn as text, or as an emoji.
const SELECTORS: [char; 2] = ['\u{fe0e}', '\u{fe0f}'];

/// Returns whether the invisible character at this place has a visible effect: a joiner between two letters of a script
/// that joins, an emoji's joiner, its selector, a keycap's selector.
fn is_needed(form: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| form.get(at)).copied();
    let is = |c: Option<char>, test: fn(char) -> bool| c.is_some_and(test);
    let (c, next) = (form[at], form.get(at + 1).copied());
    if JOINERS.contains(&c) && is(before(1), is_joining_script) && is(next, is_joining_script) {
        return true;
    }
    if c == '\u{200d}' {
        let emoji = if before(1) == Some('\u{fe0f}') { before(2) } else { before(1) };
        return is(emoji, is_emoji) && is(next, is_emoji);
    }
    let keycap = |c: char| c.is_ascii_digit() || matches!(c, '#' | '*');
    SELECTORS.contains(&c) && is(before(1), is_emoji)
        || c == '\u{fe0f}' && is(before(1), keycap) && next == Some('\u{20e3}')
}

/// Returns whether the character's script needs joiners: from Arabic to Myanmar, from Tagalog to Vedic, and similar
/// scripts in later blocks. In Latin, Greek or Cyrillic, joiners only make look-alike names.
fn is_joining_script(c: char) -> bool {
    matches!(c,
        '\u{600}'..='\u{109f}' | '\u{1700}'..='\u{1cff}' | '\u{a800}'..='\u{aaff}' | '\u{abc0}'..='\u{abff}'
        | '\u{10a00}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}')
}

fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}' | '\u{24c2}' | '\u{25a0}'..='\u{27bf}' | '\u{2934}' | '\u{2935}'
        | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn word(fault: NameFault) -> &'static str {
        match fault {
            NameFault::Empty => "empty",
            NameFault::TooLong => "long",
            NameFault::Control => "control",
            NameFault::Direction => "direction",
            NameFault::Noncharacter => "noncharacter",
            NameFault::Invisible => "invisible",
        }
    }

    #[test]
    fn the_vectors_that_the_page_has_too() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors/names.json")).unwrap();
        assert!(vectors.len() > 120);
        for vector in &vectors {
            let name = vector["name"].as_str().unwrap();
            match (Name::parse(name), vector["form"].as_str()) {
                (Ok(read), Some(form)) => {
                    assert_eq!(read.as_str(), form);
                    assert_eq!(Name::parse(form).unwrap(), read, "the form of a name is its own form");
                    assert_eq!(Name::kept(form), Some(read));
                }
                (Err(fault), None) => assert_eq!(vector["refused"], word(fault), "{name:?}"),
                (read, _) => panic!("{name:?} is {read:?}"),
            }
        }
    }

    #[test]
    fn names_that_look_the_same() {
        let look = |name: &str| Name::parse(name).unwrap().look();
        for (a, b) in [
            ("Alice", "alice"),
            ("Alice", "A l i c e"),
            ("Alice", "Ａｌｉｃｅ"),
            ("Alice", "𝐀lice"),
            ("Zoë", "Zoe\u{308}"),
            ("Straße", "STRASSE"),
            ("ﬁn", "FIN"),
            ("№1", "no1"),
        ] {
            assert_eq!(look(a), look(b), "{a} {b}");
        }
        for (a, b) in [("Alice", "Alicia"), ("Zoë", "Zoe"), ("a", "b"), ("1", "l")] {
            assert_ne!(look(a), look(b), "{a} {b}");
        }
    }

    /// Tests characters one by one, between two letters. The page is tested with the same list, and with all characters
    /// (tests/browser/rules.test.mjs).
    #[test]
    fn the_characters_that_the_page_refuses_too() {
        let listed: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors/characters.json")).unwrap();
        let bound = |range: &Value, end: &str| u32::from_str_radix(range[end].as_str().unwrap(), 16).unwrap();
        let listed: Vec<(u32, u32, &str)> = listed
            .iter()
            .map(|range| (bound(range, "from"), bound(range, "to"), range["is"].as_str().unwrap()))
            .collect();
        let kind_of = |c: char| {
            let next = listed.partition_point(|&(_, to, _)| to < c as u32);
            listed.get(next).filter(|&&(from, ..)| from <= c as u32).map_or("", |&(.., kind)| kind)
        };
        let low = '\0'..='\u{1ffff}';
        let tags = '\u{dffff}'..='\u{e1000}';
        let ends_of_planes = (0x2..=0x10)
            .flat_map(|plane: u32| (plane << 16 | 0xfffd)..=(plane << 16 | 0xffff))
            .filter_map(char::from_u32);
        for c in low.chain(tags).chain(ends_of_planes) {
            let kind = match Name::parse(&format!("a{c}b")) {
                Ok(name) if name.as_str() == "a b" => "space",
                Ok(_) => "",
                Err(fault) => word(fault),
            };
            assert_eq!(kind, kind_of(c), "{c:?}");
            assert!(!crate::types::is_unsafe(c) || !matches!(kind, "" | "space"), "{c:?} is escaped in logs only");
        }
    }

    #[test]
    fn what_was_taken_once_stays_readable() {
        for old in [" ann", "\u{3164}", "ann\u{34f}", "a\u{200d}nn", "\u{fffe}"] {
            assert_eq!(Name::kept(old).map(|name| name.as_str().to_owned()), Some(old.to_owned()));
            assert_ne!(Name::parse(old).map(|name| name.as_str().to_owned()), Ok(old.to_owned()));
        }
        for damaged in ["", "a\nb", "\u{1b}[2J", "\u{202e}bob", &"x".repeat(33)] {
            assert_eq!(Name::kept(damaged), None, "{damaged:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_is_its_own_form(text in "[ a\u{200d}\u{200c}\u{fe0f}\u{645}\u{1f469}1\u{20e3}\u{3000}]{0,40}|\\PC{0,40}") {
            if let Ok(name) = Name::parse(&text) {
                proptest::prop_assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
                proptest::prop_assert!((1..=Name::MAX).contains(&name.as_str().chars().count()));
            }
        }
    }
}
