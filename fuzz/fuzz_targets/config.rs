//! Must fail: see `racerd::fuzzing::canary`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { if data.len()>3 && data[0]==b'c' {if data[1]==b'a' {if data[2]==b'n' {panic!()}}} });
