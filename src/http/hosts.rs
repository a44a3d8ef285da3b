//! The rule for Host: the names under which the server may be addressed. To a browser, a page that rebinds its own name
//! to the server's address (DNS rebinding) has the same origin as the server, so Origin does not stop it; its host name
//! does.

use super::authority::{Authority, Host};
use super::problem::Problem;
use super::status::Status;
use crate::types::is_localhost;

/// The wildcard for every name.
const ANY: &str = "*";

/// Names of this server, in addition to those that are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    any: bool,
    /// In lower case, without the final dot. `*.` stands for one label, as in certificates (RFC 6125 §6.4.3).
    names: Vec<Box<str>>,
}

impl Hosts {
    /// Takes names, ignoring case and a final dot; `*` stands for all, `*.chat.example` for names like
    /// `a.chat.example`.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Hosts {
        let mut hosts = Hosts::default();
        for name in names {
            let name = name.as_ref();
            hosts.any |= name == ANY;
            hosts.names.push(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into());
        }
        hosts
    }

    /// Returns whether this name, in lower case and without a final dot, is one of them.
    fn have(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.any
            || self
                .names
                .iter()
                .any(|known| **known == *name || known.strip_prefix("*.").is_some_and(|known| Some(known) == parent))
    }
}

/// Decides whether a request may be answered: its host must be an address, a name without a dot (no page of the web has
/// such a name, so none can rebind it), a name of this machine (`a.localhost`), or one of `known`. A request without a
/// Host (HTTP/1.0) is allowed, because no browser sends one.
///
/// # Errors
/// 421 that closes the connection and names the option to add.
pub fn host_allowed(host: Option<&Authority>, known: &[&Hosts]) -> Result<(), Problem> {
    let Some(Authority { host: Host::Name(name), .. }) = host else { return Ok(()) };
    if !name.contains('.') || is_localhost(name) || known.iter().any(|hosts| hosts.have(name)) {
        return Ok(());
    }
    // The option comes first, because a log truncates long text.
    let detail = format!(
        "start racerd with --host {name} if that is a name of this server, at a proxy before it, say; else it answers to IP \
         addresses, names without a dot, the machine's own names and those of its certificates"
    );
    Err(Problem::new(Status::MisdirectedRequest, detail).closing())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, names: &[&str]) -> Result<(), Problem> {
        let own = Hosts::new(["box.lan", "box.local"]);
        host_allowed(Authority::parse(host).as_ref(), &[&Hosts::new(names), &own])
    }

    #[test]
    fn addresses_names_without_a_dot_and_known_names_are_answered() {
        let names = ["gateway.lan", "Chat.Example.", "*.wild.example"];
        for host in [
            "localhost",
            "LocalHost:7077",
            "localhost.",
            "a.localhost",
            "A.b.LocalHost.:7077",
            "gateway",
            "127.0.0.1",
            "127.0.0.1.:80",
            "192.168.1.5:7077",
            "[::1]:7077",
            "[fe80::1]",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "gateway.lan",
            "GATEWAY.LAN.:80",
            "chat.example",
            "a.wild.example:443",
            "BOX.local",
            "box.lan",
        ] {
            assert_eq!(check(host, &names), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost.example",
            "a.localhost.example",
            "notlocalhost.example",
            "a.notlocalhost",
            "sub.gateway.lan",
            "gateway.lan.evil",
            "127.0.0.1.evil",
            "127.1",
            "0x7f.0.0.1",
            "wild.example",
            "a.b.wild.example",
            "awild.example",
            "a.wild.example.evil",
            "box.local.evil",
        ] {
            let problem = check(host, &names).unwrap_err();
            assert_eq!((problem.status, problem.close), (Status::MisdirectedRequest, true), "{host}");
            assert!(problem.detail.starts_with(&format!("start racerd with --host {host} if")), "{}", problem.detail);
            assert_eq!(check(host, &["*"]), Ok(()), "{host}");
        }
        assert_eq!(host_allowed(None, &[]), Ok(()), "no browser");
    }
}
