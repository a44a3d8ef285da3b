//! See `racerd::fuzzing::at_rest`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| racerd::fuzzing::at_rest(data));
