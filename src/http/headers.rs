//! A request's header fields, in two allocations while the request is handled; an idle connection holds none.

use std::fmt;

use super::problem::Problem;
use super::status::Status;

/// Header fields in order of arrival. Names compare case-insensitively (RFC 9110 §5.1). Values are trimmed; one that is
/// not UTF-8 is read as ISO-8859-1, so that two different values stay different.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Name, value, name, value, ... without separators.
    text: String,
    fields: Vec<Field>,
}

/// Where a name and its value stand in `text`. The value begins where the name ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    start: usize,
    name_end: usize,
    value_end: usize,
}

impl Headers {
    /// Returns the bytes of memory beside this value itself.
    pub fn memory(&self) -> usize {
        self.text.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Collects fields whose characters have been checked already.
    pub(super) fn collect<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Headers {
        let (count, bytes) =
            fields.clone().fold((0, 0), |(n, sum), (name, value)| (n + 1, sum + name.len() + value.len()));
        let mut headers = Headers { text: String::with_capacity(bytes), fields: Vec::with_capacity(count) };
        for (name, value) in fields {
            let start = headers.text.len();
            headers.text.push_str(name);
            let name_end = headers.text.len();
            match str::from_utf8(value) {
                Ok(value) => headers.text.push_str(value),
                Err(_) => headers.text.extend(value.iter().map(|&byte| char::from(byte))),
            }
            headers.fields.push(Field { start, name_end, value_end: headers.text.len() });
        }
        headers
    }

    /// Returns all fields as (name, value).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (self.name(field), self.value(field)))
    }

    fn name(&self, field: &Field) -> &str {
        self.text.get(field.start..field.name_end).unwrap_or_default()
    }

    fn value(&self, field: &Field) -> &str {
        self.text.get(field.name_end..field.value_end).unwrap_or_default()
    }

    /// Returns the values of all lines with this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        // The length first: a request is asked for many names, and has few of them.
        let has_length = move |field: &&Field| field.name_end - field.start == name.len();
        let named = move |field: &&Field| self.name(field).eq_ignore_ascii_case(name);
        self.fields.iter().filter(has_length).filter(named).map(|field| self.value(field))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Returns the value of a field that may occur at most once; a second one is refused with a 400 that names it.
    pub fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => {
                Err(Problem::new(Status::BadRequest, format!("the header {name} may be sent once only")).closing())
            }
        }
    }

    /// Returns the items of a comma-separated list over all its lines, trimmed and without the empty ones (RFC 9110
    /// §5.6.1.2).
    pub fn tokens<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|item| item.trim_matches([' ', '\t']))
            .filter(|item| !item.is_empty())
    }

    /// Returns whether a comma-separated list has this item, compared case-insensitively.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        // By bytes, not characters: each handshake asks several times.
        self.all(name).flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).any(|item| {
            let start = item.iter().take_while(|byte| is_blank(byte)).count();
            let end = item.iter().rev().take_while(|byte| is_blank(byte)).count();
            let item = item.get(start..item.len().saturating_sub(end)).unwrap_or_default();
            !item.is_empty() && item.eq_ignore_ascii_case(token.as_bytes())
        })
    }
}

impl fmt::Debug for Headers {
    /// Shows only the names: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &[u8])]) -> Headers {
        Headers::collect(fields.iter().copied())
    }

    #[test]
    fn lists_join_their_lines() {
        let headers = headers(&[("Connection", b",, keep-alive ,\t,"), ("X", b"a"), ("CONNECTION", b"Upgrade,x y")]);
        assert_eq!(headers.tokens("connection").collect::<Vec<_>>(), ["keep-alive", "Upgrade", "x y"]);
        assert!(headers.has_token("connection", "upgrade"));
        assert!(!headers.has_token("connection", "up"));
        assert!(!headers.has_token("connection", "upgrade,x y"));
        assert!(!headers.has_token("upgrade", "upgrade"));
    }

    #[test]
    fn one_is_one() {
        let headers = headers(&[("A", b"1"), ("b", b""), ("a", b"1"), ("C", b"x")]);
        assert_eq!(headers.one("B"), Ok(Some("")));
        assert_eq!(headers.one("c"), Ok(Some("x")));
        assert_eq!(headers.one("d"), Ok(None));
        assert_eq!(headers.one("a").map_err(|problem| problem.status), Err(Status::BadRequest));
        assert_eq!(headers.all("a").collect::<Vec<_>>(), ["1", "1"]);
    }

    #[test]
    fn values_of_any_bytes_are_text_and_stay_different() {
        let headers = headers(&[("a", b"\xe9"), ("b", b"\xe8"), ("c", "\u{fffd}".as_bytes()), ("d", "Zoë".as_bytes())]);
        assert_eq!(headers.iter().map(|(_, value)| value).collect::<Vec<_>>(), ["é", "è", "\u{fffd}", "Zoë"]);
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", headers(&[("Authorization", b"secret")])), r#"["Authorization"]"#);
    }
}
