//! A planted failure: blind chance meets it once in some 10^16 inputs, a fuzzer guided by coverage within seconds.
//! `tests/fuzz` fails if it is not found, which proves that failures are noticed.

/// Panics for inputs that begin with `canary` followed by two bytes, the one the complement of the other.
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
        // proof: the fuzzer must find this failure.
        panic!("the canary sings");
    }
}

/// Compares one letter in a branch of its own, so that the compiler cannot merge them into one comparison.
#[inline(always)]
fn is(byte: Option<&u8>, wanted: u8) -> bool {
    std::hint::black_box(byte) == Some(&wanted)
}
