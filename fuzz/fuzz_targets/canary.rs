//! See `racerd::fuzzing::canary`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| racerd::fuzzing::canary(data));
