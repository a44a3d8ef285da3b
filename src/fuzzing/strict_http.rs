//! A second reading of HTTP/1.1 requests, straight from the grammar of RFC 9112 and RFC 3986, for one purpose: to
//! disagree with the parser under test. It shares no code with it, and repairs nothing. It reads one complete request,
//! or names the rule that the request breaks.
//!
//! It is wider than the grammar in one point, since browsers are: a target may contain the visible characters
//! `[ ] ^ | \ { }` and the backtick unescaped (URL standard, query percent-encode set).

pub struct Strict<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    /// The digit after `HTTP/1.`.
    pub minor: u8,
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    pub body: &'a [u8],
}

type Rule = &'static str;

fn ensure(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}

/// Reads one request that takes up all of `bytes`.
pub fn read(bytes: &[u8]) -> Result<Strict<'_>, Rule> {
    // Empty lines before a request line are skipped (RFC 9112 §2.2).
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let (line, mut rest) = line(rest)?;
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("request-line = method SP request-target SP HTTP-version (RFC 9112 §3)");
    };
    ensure(is_token(method), "method = token (RFC 9110 §9.1)")?;
    let minor = match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1')] => *minor,
        _ => return Err("HTTP/1.0 or HTTP/1.1 (RFC 9112 §2.3)"),
    };
    let mut fields = Vec::new();
    loop {
        let (field, after) = self::line(rest)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|&byte| byte == b':').ok_or("field-line has a colon (RFC 9112 §5)")?;
        let (name, value) = (&field[..colon], trim(&field[colon + 1..]));
        // Also refuses obs-fold and a blank before the colon (RFC 9112 §5.1, §5.2).
        ensure(is_token(name), "field-name = token (RFC 9110 §5.1)")?;
        let allowed = |byte: &u8| matches!(byte, b'\t' | b' ' | 0x21..=0x7e | 0x80..);
        ensure(value.iter().all(allowed), "field-vchar = VCHAR / obs-text (RFC 9110 §5.5)")?;
        fields.push((name, value));
    }
    let strict = Strict { method, target, minor, fields, body: rest };
    strict.check_host()?;
    strict.check_target()?;
    strict.check_framing()?;
    Ok(strict)
}

/// Returns one line without its end, which must be CR LF, and the rest; no CR or LF stands in the line (RFC 9112 §2.2).
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Rule> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).ok_or("lines end (RFC 9112 §2.1)")?;
    let rest = bytes[end..].strip_prefix(b"\r\n").ok_or("lines end in CR LF (RFC 9112 §2.2)")?;
    Ok((&bytes[..end], rest))
}

fn is_token(text: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(tchar)
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

impl<'a> Strict<'a> {
    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| *value).collect()
    }

    fn check_host(&self) -> Result<(), Rule> {
        match *self.all("host") {
            [] => ensure(self.minor == b'0', "a request has a Host (RFC 9112 §3.2)"),
            [host] => ensure(is_host(host), "Host = uri-host [ \":\" port ] (RFC 9110 §7.2)"),
            _ => Err("a request has one Host (RFC 9112 §3.2)"),
        }
    }

    fn check_target(&self) -> Result<(), Rule> {
        let path_and_query = match self.parts() {
            // asterisk-form (RFC 9112 §3.2.4)
            None => return ensure(self.method == b"OPTIONS", "* is for OPTIONS (RFC 9112 §3.2.4)"),
            Some((None, rest)) => {
                ensure(rest.starts_with(b"/"), "origin-form begins with a slash (RFC 9112 §3.2.1)")?;
                rest
            }
            Some((Some(authority), rest)) => {
                ensure(is_host(authority), "absolute-form has an authority without userinfo (RFC 9110 §4.2.4)")?;
                ensure(rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"?"), "path-abempty")?;
                rest
            }
        };
        let mut bytes = path_and_query.iter();
        while let Some(byte) = bytes.next() {
            let holds = match byte {
                b'%' => [bytes.next(), bytes.next()].iter().all(|d| d.is_some_and(u8::is_ascii_hexdigit)),
                b'/' | b'?' | b':' | b'@' => true,
                b'[' | b']' | b'^' | b'|' | b'\\' | b'{' | b'}' | b'`' => true,
                byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
            };
            ensure(holds, "path and query are of pchar, \"/\" and \"?\" (RFC 3986 §3.3, §3.4)")?;
        }
        Ok(())
    }

    /// Returns the target's authority, if the target is in absolute-form, and its path and query; `None` for `*`.
    fn parts(&self) -> Option<(Option<&'a [u8]>, &'a [u8])> {
        if self.target == b"*" {
            return None;
        }
        for scheme in [&b"http://"[..], b"https://"] {
            if let Some((start, rest)) = self.target.split_at_checked(scheme.len())
                && start.eq_ignore_ascii_case(scheme)
            {
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                return Some((Some(&rest[..end]), &rest[end..]));
            }
        }
        Some((None, self.target))
    }

    /// Checks that there is no body, or one whose length is given once and in digits (RFC 9112 §6).
    fn check_framing(&self) -> Result<(), Rule> {
        ensure(self.all("transfer-encoding").is_empty(), "no coding was agreed on (RFC 9112 §6.1)")?;
        let length = match *self.all("content-length") {
            [] => 0,
            [digits] => {
                ensure(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit), "Content-Length = 1*DIGIT")?;
                let add = |sum: Option<usize>, digit: &u8| sum?.checked_mul(10)?.checked_add(usize::from(digit - b'0'));
                digits.iter().fold(Some(0), add).ok_or("a length that can be counted")?
            }
            _ => return Err("one Content-Length (RFC 9112 §6.3)"),
        };
        ensure(length == self.body.len(), "the body is as long as its Content-Length (RFC 9112 §6.3)")
    }

    /// Returns the host that the request addresses.
    pub fn host(&self) -> Option<&'a [u8]> {
        self.parts().and_then(|(authority, _)| authority).or_else(|| self.all("host").first().copied())
    }

    /// Returns the path's segments, decoded.
    pub fn segments(&self) -> Vec<String> {
        let Some((_, rest)) = self.parts() else { return Vec::new() };
        let path = rest.split(|&byte| byte == b'?').next().unwrap_or_default();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        path.split(|&byte| byte == b'/').map(decoded).collect()
    }

    /// Returns whether the connection ends with this request's answer (RFC 9112 §9.3). True for a request to upgrade as
    /// well, which a proxy may have granted on its own.
    pub fn closes(&self) -> bool {
        let lines = self.all("connection");
        let says = |wanted: &[u8]| {
            let mut options = lines.iter().flat_map(|line| line.split(|&byte| byte == b','));
            options.any(|option| trim(option).eq_ignore_ascii_case(wanted))
        };
        says(b"close") || self.minor == b'0' && !says(b"keep-alive") || !self.all("upgrade").is_empty()
    }
}

fn decoded(segment: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment;
    while let Some((&first, after)) = rest.split_first() {
        let escape = (first == b'%').then(|| after.split_at_checked(2)).flatten();
        let value = escape.and_then(|(digits, _)| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns whether the text is `uri-host [ ":" port ]` (RFC 3986 §3.2.2), not empty, and free of escapes, which our
/// hosts never contain.
fn is_host(text: &[u8]) -> bool {
    let (host, port) = split_port(text);
    let port_holds = port.is_none_or(|port| port.iter().all(u8::is_ascii_digit));
    let host_holds = match host {
        [b'[', inner @ .., b']'] => inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        name => name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte)),
    };
    !host.is_empty() && host_holds && port_holds
}

fn split_port(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let bracket = text.iter().position(|&byte| byte == b']').unwrap_or(0);
    match text[bracket..].iter().position(|&byte| byte == b':') {
        Some(colon) => (&text[..bracket + colon], Some(&text[bracket + colon + 1..])),
        None => (text, None),
    }
}

/// Normalizes a host, so that equal hosts have one spelling: lower case, no final dot, addresses as the standard
/// library writes them, the port without leading zeros and omitted where it is empty.
pub fn normal_host(text: &[u8]) -> String {
    let (host, port) = split_port(text);
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => match inner.parse::<core::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => host,
        },
        None => host.strip_suffix('.').unwrap_or(&host).to_owned(),
    };
    match port.map(|port| String::from_utf8_lossy(port).into_owned()).filter(|port| !port.is_empty()) {
        Some(port) => format!("{host}:{}", port.trim_start_matches('0').parse::<u32>().unwrap_or(0)),
        None => host,
    }
}
