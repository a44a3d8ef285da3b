//! Tests of the assets: their paths, their sizes, 304, and that none needs anything that the policy forbids.

use super::*;
use crate::http::head::{Head, HeadScan};
use crate::http::limits::HeadLimits;
use crate::http::response::Sending;

fn headers(lines: &[&str]) -> Headers {
    let lines: String = lines.iter().map(|line| format!("if-none-match: {line}\r\n")).collect();
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    match HeadScan::default().advance(text.as_bytes(), &HeadLimits::default()) {
        Head::Complete { request, .. } => request.headers,
        other => panic!("{other:?}"),
    }
}

fn head(asset: Asset, lines: &[&str]) -> String {
    let mut out = Vec::new();
    let response = asset.answer(&headers(lines));
    response.write(&mut out, Sending { date: None, keep_alive: true, to_head: true });
    String::from_utf8(out).unwrap()
}

fn every() -> impl Iterator<Item = (Asset, &'static Sent)> {
    SENT.iter().enumerate().map(|(index, sent)| (Asset(index), sent))
}

fn text(asset: Asset) -> &'static str {
    std::str::from_utf8(SENT[asset.0].bytes).unwrap()
}

#[test]
fn paths() {
    for file in &FILES {
        let segments: Vec<&str> = file.path.split('/').collect();
        assert_eq!(Asset::at(&segments).map(|asset| SENT[asset.0].bytes), Some(file.bytes), "{}", file.path);
    }
    for segments in [&[][..], &[""], &["page"], &["page", ""], &["page/log.js"], &["index.html"], &["", "page.js"]] {
        assert_eq!(Asset::at(segments), None, "{segments:?}");
    }
}

/// Every reference in a file leads to a file, relative to the one that contains it; and every file is referred to.
#[test]
fn the_files_find_each_other() {
    let mut named: Vec<String> = Vec::new();
    let mut names = |folder: &str, text: &str, mark: &str| {
        for rest in text.split(mark).skip(1) {
            let name = rest.split('"').next().unwrap();
            // The link back to the start view, and a part of the page itself.
            if name == "." || name == "../." || name.starts_with('#') {
                continue;
            }
            let mut path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
            for part in name.split('/') {
                match part {
                    "." => {}
                    ".." => drop(path.pop().expect("nothing lies above the root")),
                    part => path.push(part),
                }
            }
            assert!(Asset::at(&path).is_some(), "{name} in {folder:?} is not there");
            named.push(path.join("/"));
        }
    };
    for (asset, folder) in [(Asset::HOME, ""), (Asset::ROOM, "rooms")] {
        names(folder, text(asset), " src=\"");
        names(folder, text(asset), " href=\"");
        assert!(!text(asset).contains(BASE));
    }
    for file in FILES.iter().filter(|file| file.media_type == SCRIPT) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let text = std::str::from_utf8(file.bytes).unwrap();
        names(folder, text, " from \"");
        names(folder, text, "import(\"");
    }
    for file in FILES.iter().filter(|file| file.path != WHOLE_LIBRARY) {
        assert!(named.iter().any(|name| name == file.path), "no file names {}", file.path);
    }
}

/// The HTML has no inline script or style and requests nothing from other hosts: the policy would refuse it.
#[test]
fn nothing_is_inline() {
    for asset in [Asset::HOME, Asset::ROOM] {
        let html = text(asset);
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains("<script type=\"module\" src="));
        for banned in ["<style", " style=", " onclick=", " onload=", "javascript:", "http:", "https:"] {
            assert!(!html.contains(banned), "{banned}");
        }
    }
    for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
        assert!(every().all(|(asset, _)| !text(asset).contains(banned)), "{banned}");
    }
}

/// Bounds the bytes, uncompressed, that every visitor loads, and those that only a pin or a room's key needs: the
/// lock's dialog, and curve, cipher and hash of the noble libraries with their licences, since pages served over plain
/// http have no WebCrypto.
#[test]
fn they_are_small() {
    let is_encryption = |file: &&File| ENCRYPTION.contains(&file.path);
    let sum = |files: Vec<&File>| files.iter().map(|file| file.bytes.len()).sum::<usize>();
    let loaded = FILES.iter().filter(|file| file.path != WHOLE_LIBRARY);
    let (encryption, ours): (Vec<&File>, Vec<&File>) = loaded.partition(is_encryption);
    assert_eq!(encryption.len(), ENCRYPTION.len());
    let ours = sum(ours) + text(Asset::HOME).len();
    let encryption = sum(encryption);
    assert!(ours < 176_000, "{ours} bytes");
    assert!(encryption < 88_000, "{encryption} bytes");
}

/// Made for programs; no page loads it.
const WHOLE_LIBRARY: &str = "racerd.mjs";
const ENCRYPTION: [&str; 7] = [
    "page/lock.js",
    "racerd/heard.js",
    "racerd/noble.js",
    "racerd/noise.js",
    "racerd/reader.js",
    "racerd/room_key.js",
    "racerd/sealed.js",
];

/// A page that needs no encryption loads none of its files: only dynamic imports name them.
#[test]
fn encryption_is_loaded_when_it_is_needed() {
    for file in FILES.iter().filter(|file| file.media_type == SCRIPT && !ENCRYPTION.contains(&file.path)) {
        let text = std::str::from_utf8(file.bytes).unwrap();
        for path in ENCRYPTION {
            let (_, name) = path.rsplit_once('/').unwrap();
            assert!(!text.contains(&format!("{name}\";\n")), "{} imports {name}", file.path);
        }
    }
}

#[test]
fn headers_of_every_file() {
    let mut tags: Vec<&str> = every().map(|(_, sent)| sent.tag.as_str()).collect();
    for (asset, sent) in every() {
        let head = head(asset, &[]);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for line in [
            format!("Content-Type: {}", sent.media_type),
            format!("Content-Length: {}", sent.bytes.len()),
            format!("ETag: {}", sent.tag),
            format!("Content-Security-Policy: {POLICY}"),
            "Cross-Origin-Opener-Policy: same-origin".to_string(),
            "Referrer-Policy: no-referrer".to_string(),
            "X-Content-Type-Options: nosniff".to_string(),
            "Cache-Control: no-cache".to_string(),
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), FILES.len() + 2, "a tag for each");
}

/// RFC 9110 §13.1.2.
#[test]
fn a_matching_etag_gets_304() {
    let tag = &SENT[Asset::HOME.0].tag;
    let weak = format!("W/{tag}");
    let list = format!("\"a\", {tag} ,\"b\"");
    for lines in [&[tag.as_str()][..], &["*"], &[&weak], &[&list], &["\"a\"", tag]] {
        let head = head(Asset::HOME, lines);
        assert!(head.starts_with("HTTP/1.1 304 "), "{lines:?}: {head}");
        assert!(head.contains(&format!("\r\nETag: {tag}\r\nCache-Control: no-cache\r\n")), "{head}");
        assert!(!head.contains("Content-"), "{head}");
    }
    let bare = tag.trim_matches('"');
    let cut = &tag[..tag.len() - 2];
    let other = &SENT[Asset::ROOM.0].tag;
    for lines in [&[][..], &[""], &["\"\""], &[bare], &[cut], &[other], &["w/*"], &["\"*\""]] {
        assert!(head(Asset::HOME, lines).starts_with("HTTP/1.1 200 "), "{lines:?}");
    }
}
