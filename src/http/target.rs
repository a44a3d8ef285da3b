//! The request target: path and query (RFC 9112 §3.2, RFC 3986 §2.4). It is split first, and then each part is decoded
//! exactly once: every check sees the spelling that is used, and `%2F` never separates anything.

use super::authority::Authority;
use super::method::Method;
use super::problem::Problem;
use super::status::Status;

/// Most segments of a path: more than any route has.
const MAX_SEGMENTS: usize = 32;
/// Most parameters of a query.
const MAX_PARAMETERS: usize = 32;

/// The resource that a request names, with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    segments: Vec<String>,
    pub query: Query,
    /// The query as received, for passing it on.
    query_text: Box<str>,
}

impl Target {
    /// Returns the path's segments, decoded: `/rooms/lobby` has `rooms` and `lobby`, `/rooms/` has `rooms` and an empty
    /// one, `/` has one empty segment. The target `*` (OPTIONS only) has none. Segments may hold any character,
    /// including `/` and NUL.
    pub fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// Reads a target, and its authority if it is in absolute form.
    pub(super) fn parse(text: &str, method: Method) -> Result<(Target, Option<Authority>), Problem> {
        if text == "*" {
            return match method {
                Method::Options => {
                    Ok((Target { segments: Vec::new(), query: Query::default(), query_text: Box::default() }, None))
                }
                _ => Err(bad("the target * is for OPTIONS only")),
            };
        }
        // The parser of the head has refused blanks and control characters. Of the visible characters that RFC 3986
        // excludes, those that browsers leave unencoded in a query are accepted: `[ ] ^ | \ { }` and the backtick (URL
        // standard, query percent-encode set).
        if !text.is_ascii() || text.contains(['"', '<', '>']) {
            return Err(bad("the path or query contains a character that must be percent-encoded"));
        }
        if text.contains('#') {
            return Err(bad("a request target has no fragment: '#' must be percent-encoded as %23"));
        }
        let (authority, rest) =
            if text.starts_with('/') { (None, text) } else { absolute(text).map(|(a, rest)| (Some(a), rest))? };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let segments = segments(path.strip_prefix('/').unwrap_or(path))?;
        Ok((Target { segments, query: Query::parse(query)?, query_text: query.into() }, authority))
    }

    /// Returns the number of folders between the path and the root: 0 for `/` and `/ws`, 1 for `/rooms/lobby`. `None`
    /// for `*`.
    pub fn depth(&self) -> Option<u8> {
        u8::try_from(self.segments.len()).ok()?.checked_sub(1)
    }

    /// Returns the path, percent-encoded, without the query, which may hold data that a log must not, such as a name.
    pub fn path(&self) -> String {
        if self.segments.is_empty() {
            return "*".to_string();
        }
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            for byte in segment.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
                    b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => {
                        path.push(char::from(byte));
                    }
                    byte => path.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        path
    }

    /// Returns the query as received, with its `?`; empty if there is none.
    pub fn query_text(&self) -> String {
        if self.query_text.is_empty() { String::new() } else { format!("?{}", self.query_text) }
    }
}

/// The parameters of a query in their order, decoded like those of a form (`+` is a space).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Returns whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of a parameter that may occur at most once; a second one is refused with a 400 that names it.
    /// Without `=` the value is empty. Names are case-sensitive.
    pub fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(bad(format!("the query parameter {name} may be given once only")).member("field", name)),
        }
    }

    fn parse(text: &str) -> Result<Query, Problem> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(bad(format!("the query has more than {MAX_PARAMETERS} parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name, Plus::Blank)?, decode(value, Plus::Blank)?));
        }
        Ok(Query(pairs))
    }
}

/// Splits a target in absolute form into its authority and the rest (RFC 9112 §3.2.2). Whether the host is ours is for
/// [`host_allowed`](super::hosts::host_allowed) to decide.
fn absolute(text: &str) -> Result<(Authority, &str), Problem> {
    let refusal = || bad("the request target must begin with '/', or be a whole http or https URL");
    let (scheme, rest) = text.split_once("://").ok_or_else(refusal)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(refusal());
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Ok((Authority::parse(authority).ok_or_else(refusal)?, rest))
}

fn segments(path: &str) -> Result<Vec<String>, Problem> {
    // One more than allowed is enough to refuse.
    let segments: Vec<&str> = path.split('/').take(MAX_SEGMENTS + 1).collect();
    if segments.len() > MAX_SEGMENTS {
        return Err(Problem::new(Status::NotFound, format!("no path here has more than {MAX_SEGMENTS} segments")));
    }
    segments.into_iter().map(|segment| decode(segment, Plus::Plus)).collect()
}

/// The meaning of `+`: itself in a path, a space in a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Plus,
    Blank,
}

/// Decodes percent-escapes, once (RFC 3986 §2.1).
fn decode(text: &str, plus: Plus) -> Result<String, Problem> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(bad("a '%' in the path or query is not followed by two hexadecimal digits"));
                };
                high << 4 | low
            }
            b'+' if plus == Plus::Blank => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| bad("an escape in the path or query does not decode to UTF-8"))
}

fn hex_digit(byte: u8) -> Option<u8> {
    // A hexadecimal digit is below 16, so it fits.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Status::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Result<Vec<String>, u16> {
        Target::parse(text, Method::Get).map(|(target, _)| target.segments).map_err(|problem| problem.status.code())
    }

    #[test]
    fn paths() {
        for (text, expected) in [
            ("/", Ok(vec![""])),
            ("/rooms/%6Cobby/ws", Ok(vec!["rooms", "lobby", "ws"])),
            ("/rooms/a%2Fb/ws", Ok(vec!["rooms", "a/b", "ws"])),
            ("/rooms/%2e%2e/ws", Ok(vec!["rooms", "..", "ws"])),
            ("/rooms/%252e/ws", Ok(vec!["rooms", "%2e", "ws"])),
            ("/rooms/a%00b/ws", Ok(vec!["rooms", "a\0b", "ws"])),
            ("/rooms/caf%C3%A9/ws", Ok(vec!["rooms", "café", "ws"])),
            ("/rooms//ws", Ok(vec!["rooms", "", "ws"])),
            ("/rooms/", Ok(vec!["rooms", ""])),
            ("/..%2f..%2fetc/passwd", Ok(vec!["../../etc", "passwd"])),
            ("/a+b", Ok(vec!["a+b"])),
            ("//x/y", Ok(vec!["", "x", "y"])),
            ("/a?b/c", Ok(vec!["a"])),
            ("/rooms/%zz/ws", Err(400)),
            ("/rooms/%/ws", Err(400)),
            ("/rooms/%4/ws", Err(400)),
            ("/%+1", Err(400)),
            ("/%ff", Err(400)),
            ("/%C3", Err(400)),
            ("/é", Err(400)),
            ("/a\"b", Err(400)),
            ("/?a=<b>", Err(400)),
            ("/[a]^|", Ok(vec!["[a]^|"])),
            ("/?{`\\}", Ok(vec![""])),
            ("/a#b", Err(400)),
            ("/?a#b", Err(400)),
            ("*", Err(400)),
            ("rooms", Err(400)),
            ("localhost:80", Err(400)),
        ] {
            let expected = expected.map(|segments: Vec<&str>| segments.into_iter().map(String::from).collect());
            assert_eq!(path(text), expected, "{text}");
        }
        assert_eq!(path(&"/a".repeat(MAX_SEGMENTS)).map(|segments| segments.len()), Ok(MAX_SEGMENTS));
        assert_eq!(path(&"/a".repeat(MAX_SEGMENTS + 1)), Err(404));
    }

    #[test]
    fn the_server_as_a_whole() {
        let (target, authority) = Target::parse("*", Method::Options).unwrap();
        assert!(target.segments().is_empty());
        assert_eq!(authority, None);
    }

    #[test]
    fn absolute_form() {
        for (text, host, segments) in [
            ("http://localhost/healthz", "localhost", vec!["healthz"]),
            ("HTTPS://Chat.Example:8443/a/b?c=d", "chat.example:8443", vec!["a", "b"]),
            ("http://[::1]:7077", "[::1]:7077", vec![""]),
            ("http://a?x=1", "a", vec![""]),
        ] {
            let (target, authority) = Target::parse(text, Method::Get).unwrap();
            assert_eq!(target.segments(), segments, "{text}");
            assert_eq!(authority, Authority::parse(host), "{text}");
        }
        for text in
            ["ftp://a/", "http:///a", "http://u:p@a/", "http://a:b/", "http:/a", "http://a b/", "://a/", "http://a%41/"]
        {
            assert_eq!(path(text), Err(400), "{text}");
        }
    }

    fn query(text: &str) -> Result<Query, u16> {
        Target::parse(&format!("/?{text}"), Method::Get)
            .map(|(target, _)| target.query)
            .map_err(|problem| problem.status.code())
    }

    #[test]
    fn queries() {
        let query_of = |text| query(text).unwrap();
        let one = query_of("name=Z%C3%AB+b%2Bb&last=50&empty=&bare&&x=a=b%26c?/d&%6Eo=1");
        for (name, value) in
            [("name", "Zë b+b"), ("last", "50"), ("empty", ""), ("bare", ""), ("x", "a=b&c?/d"), ("no", "1")]
        {
            assert_eq!(one.one(name), Ok(Some(value)));
        }
        assert_eq!(one.one("Name"), Ok(None));
        assert_eq!(query_of("").0.len(), 0);
        for text in ["a=1&a=1", "a&a=", "a=1&%61=2"] {
            let query = query_of(text);
            let problem = query.one("a").unwrap_err();
            assert_eq!(problem.status, Status::BadRequest);
            assert!(problem.detail.contains("parameter a"));
        }
        for text in ["a=%", "%=a", "a=%f", "a=%fg", "a=%ff", "a=%c3", "other=%zz&a=1"] {
            assert_eq!(query(text), Err(400), "{text}");
        }
        assert!(query(&"a&".repeat(MAX_PARAMETERS)).is_ok());
        assert_eq!(query(&"a&".repeat(MAX_PARAMETERS + 1)), Err(400));
    }

    proptest! {
        /// Percent-encoded text decodes to itself, and nothing is decoded twice.
        #[test]
        fn decoding_undoes_encoding(
            segments in proptest::collection::vec(".{0,8}", 1..8),
            name: String,
            value: String,
        ) {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let path: Vec<String> = segments.iter().map(|segment| encode(segment)).collect();
            let text = format!("/{}?{}={}", path.join("/"), encode(&name), encode(&value));
            let (target, _) = Target::parse(&text, Method::Get).unwrap();
            let (again, _) = Target::parse(&target.path(), Method::Get).unwrap();
            prop_assert_eq!(&again.segments, &segments);
            prop_assert_eq!(target.query_text(), text.split_at(text.find('?').unwrap()).1);
            prop_assert_eq!(target.segments, segments);
            prop_assert_eq!(target.query.0, [(name, value)]);
        }
    }
}
