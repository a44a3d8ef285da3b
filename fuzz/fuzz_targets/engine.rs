//! See `racerd::fuzzing::engine`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| racerd::fuzzing::engine(data));
