//! A failure that is planted: blind chance meets it once in some 10^16 inputs, a fuzzer that sees the coverage within
//! seconds. `tests/fuzz` fails if it is not found, so that it is known that failures are seen.

/// Panics for inputs that begin with `canary` and then two bytes of which one is the other's complement.
pub fn canary(data: &[u8]) {
    let begins = is(data.first(), b'c')
        && is(data.get(1), b'a')
        && is(data.get(2), b'n')
        && is(data.get(3), b'a')
        && is(data.get(4), b'r')
        && is(data.get(5), b'y');
    if begins
        && let Some([a, b, ..]) = data.get(6..)
        && *a == !*b
    {
        // proof: this is the failure that must be seen.
        panic!("the canary sings");
    }
}

/// A branch of its own for each letter, which the compiler cannot make one comparison of.
#[inline(always)]
fn is(byte: Option<&u8>, wanted: u8) -> bool {
    std::hint::black_box(byte) == Some(&wanted)
}
