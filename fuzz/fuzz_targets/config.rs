//! See `racerd::fuzzing::config`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| racerd::fuzzing::config(data));
