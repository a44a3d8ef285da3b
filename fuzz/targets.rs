//! All fuzz targets as one program, so that racerd, SQLite and libFuzzer are compiled and linked once: the name under
//! which it is started selects the target. tests/fuzz makes a link for each.
#![no_main]
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::LazyLock;

use racerd::fuzzing::{Body, TARGETS, canary, client_json};

static BODY: LazyLock<Body> = LazyLock::new(|| {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        "canary" => canary,
        "client_json" => |data| client_json(data, |work| allocation_counter::measure(work).bytes_total),
        _ => match TARGETS.iter().find(|(target, _)| *target == name) {
            Some((_, body)) => *body,
            None => {
                eprintln!("'{name}' is no fuzz target: start this under the name of one, see tests/fuzz");
                std::process::exit(2)
            }
        },
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| BODY(data));
