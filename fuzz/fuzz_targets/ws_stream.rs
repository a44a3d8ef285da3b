//! See `racerd::fuzzing::ws_stream`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| racerd::fuzzing::ws_stream(data));
