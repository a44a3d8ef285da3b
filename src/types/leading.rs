//! Scans bytes in groups, which compilers turn into a few instructions each.

/// Returns how many bytes at the front satisfy `is`, which should not branch.
pub fn leading(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    let (groups, _rest) = bytes.as_chunks::<16>();
    let whole = groups.iter().take_while(|group| group.iter().fold(true, |all, &byte| all & is(byte))).count();
    let after = bytes.get(whole * 16..).unwrap_or_default();
    whole * 16 + after.iter().take_while(|&&byte| is(byte)).count()
}
