//! See `racerd::fuzzing::client_json`.
#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    racerd::fuzzing::client_json(data, |work| allocation_counter::measure(work).bytes_total);
});
