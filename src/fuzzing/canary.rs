//! A failure that is planted: blind chance meets it once in some 10^19 inputs, a fuzzer that sees the coverage within
//! seconds. `tests/fuzz` fails if it is not found, so that it is known that failures are seen.

/// Panics for inputs that begin with `canary` and then two bytes of which one is the other's complement.
pub fn canary(data: &[u8]) {
    let mut matched = 0;
    for (byte, wanted) in data.iter().zip(b"canary") {
        if byte != wanted {
            return;
        }
        // One branch for each byte, for the fuzzer to see.
        matched += 1;
        std::hint::black_box(matched);
    }
    if let Some([a, b, ..]) = data.get(6..)
        && *a == !*b
    {
        // proof: this is the failure that must be seen.
        panic!("the canary sings");
    }
}
