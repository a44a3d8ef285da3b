//! Host names that the server knows without configuration: the machine's, and those of the certificates.

use std::fs;

/// Returns the machine's current names, and those of the certificates.
pub fn own(certificates: impl Iterator<Item = String>) -> Vec<String> {
    let machine = host_name().map(|name| of_machine(&name)).unwrap_or_default();
    machine.into_iter().chain(certificates).collect()
}

/// Returns the machine's name, and its multicast DNS name (RFC 6762 §3), built from the first label alone.
fn of_machine(name: &str) -> Vec<String> {
    let label = name.split('.').next().unwrap_or(name);
    vec![name.to_string(), format!("{label}.local")]
}

/// Returns the machine's name, if it is valid in a URL and in a certificate.
pub fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_ascii_lowercase();
    let fits = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (name != "localhost" && name.split('.').all(fits)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_its_name_and_that_of_its_network() {
        assert_eq!(of_machine("box"), ["box", "box.local"]);
        assert_eq!(of_machine("box.lan"), ["box.lan", "box.local"]);
    }
}
