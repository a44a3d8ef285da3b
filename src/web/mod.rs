//! Serves the web page's files out of the binary: maps a path to an [`Asset`], and an asset and a request's headers to
//! an answer. It is pure, and knows neither rooms nor sockets.
//!
//! The files are served as they are in this folder, without a build step. (`bundle/make.sh` makes two that are
//! committed: `racerd/noble.js` from third-party code, and `racerd.mjs`, the client library in one file, which no page
//! loads.) They name each other by relative paths, so that the page works behind a proxy under any path. Only the HTML
//! depends on its own depth and is served in two versions.

use std::sync::LazyLock;

use crate::http::headers::Headers;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::types::Digest;

/// Lets only this server's files run, no inline scripts or styles, and connections only to this server (CSP3 §6.7.2.8:
/// `'self'` covers WebSockets of the same host and port). No text becomes markup or a script (Trusted Types).
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                          require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// The placeholder before each path in the HTML, for the relative path to the files.
const BASE: &str = "{base}";

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset(usize);

struct File {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

const fn file(path: &'static str, media_type: &'static str, text: &'static str) -> File {
    File { path, media_type, bytes: text.as_bytes() }
}

/// All files but the HTML, by their paths from the root.
static FILES: [File; 39] = [
    file("icon.svg", ICON, include_str!("icon.svg")),
    file("page.css", STYLE, include_str!("page.css")),
    file("page.js", SCRIPT, include_str!("page.js")),
    file("page/address.js", SCRIPT, include_str!("page/address.js")),
    file("page/banner.js", SCRIPT, include_str!("page/banner.js")),
    file("page/chunk.js", SCRIPT, include_str!("page/chunk.js")),
    file("page/composer.js", SCRIPT, include_str!("page/composer.js")),
    file("page/draft.js", SCRIPT, include_str!("page/draft.js")),
    file("page/elsewhere.js", SCRIPT, include_str!("page/elsewhere.js")),
    file("page/lock.js", SCRIPT, include_str!("page/lock.js")),
    file("page/log.js", SCRIPT, include_str!("page/log.js")),
    file("page/marks.js", SCRIPT, include_str!("page/marks.js")),
    file("page/memory.js", SCRIPT, include_str!("page/memory.js")),
    file("page/names.js", SCRIPT, include_str!("page/names.js")),
    file("page/people.js", SCRIPT, include_str!("page/people.js")),
    file("page/room.js", SCRIPT, include_str!("page/room.js")),
    file("page/row.js", SCRIPT, include_str!("page/row.js")),
    file("page/text.js", SCRIPT, include_str!("page/text.js")),
    file("page/unsent.js", SCRIPT, include_str!("page/unsent.js")),
    file("racerd.js", SCRIPT, include_str!("racerd.js")),
    file("racerd.mjs", SCRIPT, include_str!("racerd.mjs")),
    file("racerd/bytes.js", SCRIPT, include_str!("racerd/bytes.js")),
    file("racerd/connection.js", SCRIPT, include_str!("racerd/connection.js")),
    file("racerd/deliveries.js", SCRIPT, include_str!("racerd/deliveries.js")),
    file("racerd/encrypted.js", SCRIPT, include_str!("racerd/encrypted.js")),
    file("racerd/events.js", SCRIPT, include_str!("racerd/events.js")),
    file("racerd/heard.js", SCRIPT, include_str!("racerd/heard.js")),
    file("racerd/lease.js", SCRIPT, include_str!("racerd/lease.js")),
    file("racerd/noble.js", SCRIPT, include_str!("racerd/noble.js")),
    file("racerd/noise.js", SCRIPT, include_str!("racerd/noise.js")),
    file("racerd/outbox.js", SCRIPT, include_str!("racerd/outbox.js")),
    file("racerd/reader.js", SCRIPT, include_str!("racerd/reader.js")),
    file("racerd/refusal.js", SCRIPT, include_str!("racerd/refusal.js")),
    file("racerd/requests.js", SCRIPT, include_str!("racerd/requests.js")),
    file("racerd/room.js", SCRIPT, include_str!("racerd/room.js")),
    file("racerd/room_key.js", SCRIPT, include_str!("racerd/room_key.js")),
    file("racerd/saved.js", SCRIPT, include_str!("racerd/saved.js")),
    file("racerd/sealed.js", SCRIPT, include_str!("racerd/sealed.js")),
    file("racerd/unsent.js", SCRIPT, include_str!("racerd/unsent.js")),
];

/// An asset in the form in which it is sent; made at the first request.
struct Sent {
    media_type: &'static str,
    bytes: &'static [u8],
    tag: String,
}

static SENT: LazyLock<Vec<Sent>> = LazyLock::new(|| {
    let mut all: Vec<Sent> = FILES.iter().map(|file| Sent::new(file.media_type, file.bytes)).collect();
    // Leaked on purpose: the process needs them until it ends.
    all.extend(
        ["", "../"].map(|base| Sent::new(HTML, include_str!("index.html").replace(BASE, base).leak().as_bytes())),
    );
    all
});

impl Sent {
    fn new(media_type: &'static str, bytes: &'static [u8]) -> Sent {
        let digest = Digest::of(bytes).0;
        let tag = format!("\"{}\"", data_encoding::HEXLOWER.encode(&digest));
        Sent { media_type, bytes, tag }
    }
}

impl Asset {
    /// The page at `/`, next to its files.
    pub const HOME: Asset = Asset(FILES.len());
    /// The page at `/rooms/{room}`, one level below its files.
    pub const ROOM: Asset = Asset(FILES.len() + 1);

    /// Returns the file at this path, given as its decoded segments; the HTML is not among them.
    pub fn at(segments: &[&str]) -> Option<Asset> {
        FILES.iter().position(|file| file.path.split('/').eq(segments.iter().copied())).map(Asset)
    }

    /// Answers a GET or HEAD with the file, or with 304 if the browser has it (RFC 9110 §13.1.2). The bytes are shared,
    /// not copied. Browsers revalidate each time, because another version of the server has other files under the same
    /// paths; the tag makes that cheap.
    pub fn answer(self, headers: &Headers) -> Response {
        let Some(sent) = SENT.get(self.0) else { return Response::empty(Status::NotFound) };
        let response = if is_known(headers, &sent.tag) {
            Response::empty(Status::NotModified)
        } else {
            Response::whole(Status::Ok, sent.media_type, sent.bytes)
                .header("Content-Security-Policy", POLICY)
                .header("Cross-Origin-Opener-Policy", "same-origin")
                .header("Referrer-Policy", "no-referrer")
                .header("X-Content-Type-Options", "nosniff")
        };
        response.header("ETag", &sent.tag).header("Cache-Control", "no-cache")
    }
}

/// Returns whether `If-None-Match` names this tag, by weak comparison: `W/"x"` names `"x"`. Our tags have no comma, so
/// the pieces of a foreign tag that has one never match.
fn is_known(headers: &Headers, tag: &str) -> bool {
    headers.tokens("If-None-Match").any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests;
