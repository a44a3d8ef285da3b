//! Settings: who may enter, and what a guest may do.

use std::path::PathBuf;

use super::Settings;
use super::setting::{Choice, Kind, settings};
use crate::types::Right;

settings! {
    /// Who may enter.
    Access in access {
        /// What those may do of whom nothing is known: all (read and write every room), read, or none. auto: none where
        /// an access file says who is known. Without one: all if every listener is on loopback, and neither
        /// trusted-proxy nor host nor TLS suggests that others are let through to it; and all with --open.
        guests: Guests = "auto", Kind::Choice(&["auto", "all", "read", "none"]), live true;
        /// The file that says who is known, by which token, and what they may do in which rooms. It is read again at
        /// SIGHUP.
        access_file: Option<PathBuf> = "", Kind::PathOrNone, live false;
        /// Time for a socket to say who its client is, where nothing may be done without that.
        auth_wait: u64 = "10s", Kind::Duration { min: 1_000, max: 300_000 }, live true;
    }
}

/// What those may do of whom nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    Auto,
    All,
    Read,
    None,
}

impl Choice for Guests {
    const ALL: &'static [Guests] = &[Guests::Auto, Guests::All, Guests::Read, Guests::None];

    fn as_str(self) -> &'static str {
        match self {
            Guests::Auto => "auto",
            Guests::All => "all",
            Guests::Read => "read",
            Guests::None => "none",
        }
    }
}

impl Settings {
    /// Returns what a guest may do in every room; `None` for nothing.
    pub fn guests(&self) -> Option<Right> {
        match self.access.guests {
            Guests::All => Some(Right::Send),
            Guests::Read => Some(Right::Read),
            Guests::None => None,
            Guests::Auto => self.is_open_by_itself().then_some(Right::Send),
        }
    }

    /// Returns whether these settings say who may enter, so that a listener which others can reach is no oversight.
    pub fn says_who_enters(&self) -> bool {
        self.listening.open || self.access.guests != Guests::Auto || self.access.access_file.is_some()
    }

    /// Returns whether everybody is let in where nothing says who may enter: only with `open`, or if nobody but this
    /// machine's users can ask. What is on loopback behind a proxy can be asked by everyone.
    fn is_open_by_itself(&self) -> bool {
        let Settings { listening, tls, access, .. } = self;
        let mut places = listening.listen.iter().chain(&tls.plain_listen);
        let is_for_others = !listening.trusted_proxy.is_empty() || !listening.host.is_empty() || tls.is_on();
        access.access_file.is_none() && (listening.open || places.all(|place| place.is_loopback()) && !is_for_others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Network;

    fn with(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    }

    #[test]
    fn a_server_is_open_by_itself_only_to_its_own_machine() {
        let all = Some(Right::Send);
        let everywhere = |settings: &mut Settings| settings.listening.listen = vec!["0.0.0.0:7077".parse().unwrap()];
        assert_eq!(with(|_| {}).guests(), all);
        assert_eq!(with(everywhere).guests(), None);
        assert_eq!(with(|s| s.listening.host = vec!["chat.example".into()]).guests(), None);
        assert_eq!(with(|s| s.listening.trusted_proxy = vec![Network::parse("10.0.0.1").unwrap()]).guests(), None);
        assert_eq!(with(|s| s.tls.tls_self_signed = Some("tls".into())).guests(), None);
        for change in [everywhere, |s: &mut Settings| s.listening.host = vec!["chat.example".into()]] {
            let open = with(|s| {
                change(s);
                s.listening.open = true;
            });
            assert_eq!((open.guests(), open.says_who_enters()), (all, true));
        }
    }

    #[test]
    fn an_access_file_closes_it_until_guests_are_let_in_by_name() {
        let closed = with(|s| (s.access.access_file, s.listening.open) = (Some("access.toml".into()), true));
        assert_eq!((closed.guests(), closed.says_who_enters()), (None, true));
        for (guests, right) in
            [(Guests::All, Some(Right::Send)), (Guests::Read, Some(Right::Read)), (Guests::None, None)]
        {
            let written = Settings { access: Access { guests, ..closed.access.clone() }, ..closed.clone() };
            assert_eq!(written.guests(), right);
        }
        assert!(!with(|_| {}).says_who_enters());
    }
}
