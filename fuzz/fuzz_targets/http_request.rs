//! See `racerd::fuzzing::http_request`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| racerd::fuzzing::http_request(data));
