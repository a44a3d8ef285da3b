//! Why a command failed, and the exit code for it: the only place that decides one.

use crate::client::RunError;
use crate::config::ConfigError;
use crate::server::ServeError;
use crate::sqlite::OperationError;
use crate::types::{Cause, Reason, Unusable};
use std::error::Error;
use std::fmt;

/// One line for the user, sorted by exit code.
#[derive(Debug)]
pub enum Failure {
    /// Somebody has to change something first: the arguments, the settings, a key, a database. Exit code 2.
    Usage(Reason),
    /// The command tried and failed; the same may succeed later. Exit code 1.
    Failed(Reason),
    /// No server could be reached in time. Exit code 3.
    Unreached(Reason),
    /// The server is not the requested one: another pin, or a certificate that is not trusted. Exit code 4.
    Mismatch(Reason),
    /// Messages could not be read with the room key that was given. Exit code 5.
    Unreadable(Reason),
}

impl Failure {
    /// Returns the failure with this cause.
    pub fn of(cause: Cause, reason: impl Into<Reason>) -> Failure {
        match cause.needs_a_person() {
            true => Failure::Usage(reason.into()),
            false => Failure::Failed(reason.into()),
        }
    }

    /// Rewrites the line, and keeps everything else.
    pub fn map(self, rewrite: impl FnOnce(&str) -> String) -> Failure {
        match self {
            Failure::Usage(reason) => Failure::Usage(reason.map(rewrite)),
            Failure::Failed(reason) => Failure::Failed(reason.map(rewrite)),
            Failure::Unreached(reason) => Failure::Unreached(reason.map(rewrite)),
            Failure::Mismatch(reason) => Failure::Mismatch(reason.map(rewrite)),
            Failure::Unreadable(reason) => Failure::Unreadable(reason.map(rewrite)),
        }
    }

    fn reason(&self) -> &Reason {
        match self {
            Failure::Usage(reason)
            | Failure::Failed(reason)
            | Failure::Unreached(reason)
            | Failure::Mismatch(reason)
            | Failure::Unreadable(reason) => reason,
        }
    }

    /// Returns the exit code of the process.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreached(_) => 3,
            Failure::Mismatch(_) => 4,
            Failure::Unreadable(_) => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason().source()
    }
}

impl From<Unusable> for Failure {
    fn from(error: Unusable) -> Failure {
        Failure::of(error.cause, Reason::of(error))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Usage(Reason::of(error))
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        match error {
            ServeError::Start(error) => error.into(),
            ServeError::Failed(_) => Failure::Failed(Reason::of(error)),
        }
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Failure {
        match error.needs_a_person() {
            true => Failure::Usage(Reason::of(error)),
            false => Failure::Failed(Reason::of(error)),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        match error {
            RunError::Trust(error) => error.into(),
            RunError::Unreached(_) => Failure::Unreached(Reason::of(error)),
            RunError::Mismatch(_) => Failure::Mismatch(Reason::of(error)),
            RunError::Refused(_) | RunError::OutputClosed => Failure::Failed(Reason::of(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATE: &str = include_str!("../../docs/operate.md");
    const UNIT: &str = include_str!("../../packaging/racerd.service");
    const QUADLET: &str = include_str!("../../packaging/racerd.container");
    const PROCD: &str = include_str!("../../packaging/openwrt/racerd.init");
    const PROCD_RUN: &str = include_str!("../../packaging/openwrt/racerd-run");
    const IPK: &str = include_str!("../../packaging/ipk");
    const RECIPE: &str = include_str!("../../packaging/openwrt/Makefile");

    /// Returns the causes that end a start with this code, in words.
    fn causes(code: u8) -> String {
        let with = |cause: &&Cause| Failure::of(**cause, "").code() == code;
        let words: Vec<&str> = Cause::ALL.iter().filter(with).map(|cause| cause.words()).collect();
        words.join("; ")
    }

    /// Returns the table of exit statuses of docs/operate.md.
    fn table() -> String {
        let failed = causes(1);
        let usage = causes(2);
        let code = |failure: fn(Reason) -> Failure| failure("".into()).code();
        [
            "| status | means | a service manager |".to_string(),
            "|---|---|---|".to_string(),
            "| 0 | done, or stopped as asked | is content |".to_string(),
            format!(
                "| {} | the system refuses: {failed}. A server refused, or stopped by itself | tries again |",
                code(Failure::Failed)
            ),
            format!(
                "| {} | a person has to change something: arguments; {usage} | does not try again |",
                code(Failure::Usage)
            ),
            format!("| {} | `send`, `tail`: no connection in time | |", code(Failure::Unreached)),
            format!("| {} | `send`, `tail`, `health`: pin or certificate does not match | |", code(Failure::Mismatch)),
            format!("| {} | `tail`: something could not be read with this room key | |", code(Failure::Unreadable)),
        ]
        .join("\n")
    }

    #[test]
    fn operate_md_has_the_table_of_exit_statuses() {
        let table = table();
        assert!(OPERATE.contains(&table), "docs/operate.md must contain\n{table}");
    }

    /// systemd retries failures that may heal, at growing intervals, and no others; so it does for the container.
    #[test]
    fn systemd_tries_again_what_may_heal() {
        for unit in [UNIT, QUADLET] {
            let values = |name: &str| -> Vec<&str> {
                let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                lines.flat_map(str::split_whitespace).collect()
            };
            for cause in Cause::ALL {
                let code = Failure::of(cause, "").code().to_string();
                let is_final = values("RestartPreventExitStatus").contains(&code.as_str());
                assert_eq!(is_final, cause.needs_a_person(), "{cause:?} ends with {code}");
            }
            assert_eq!(values("Restart"), ["on-failure"]);
            assert_eq!(values("StartLimitIntervalSec"), ["0"], "or it would give up after five starts");
            assert_eq!((values("RestartSec"), values("RestartMaxDelaySec")), (vec!["2s"], vec!["60s"]));
            assert!(values("RestartSteps")[0].parse::<u32>().is_ok_and(|steps| steps > 0));
        }
    }

    /// procd retries whatever ends, so racerd-run stays for the codes that are not to be retried.
    #[test]
    fn procd_tries_again_what_may_heal() {
        let kept = PROCD_RUN.lines().find_map(|line| line.trim().strip_suffix(") ;;")).expect("the codes it stays for");
        let kept: Vec<&str> = kept.split(" | ").collect();
        for cause in Cause::ALL {
            let code = Failure::of(cause, "").code().to_string();
            assert_eq!(kept.contains(&code.as_str()), cause.needs_a_person(), "{cause:?} ends with {code}");
        }
        assert!(kept.contains(&"0"), "systemd does not start again what was stopped");
        // Threshold, timeout and retry: with a retry of 0, procd never gives up.
        assert!(PROCD.lines().any(|line| line.trim() == "procd_set_param respawn 0 10 0"));
        assert!(PROCD.lines().any(|line| line.trim() == "procd_set_param command /usr/libexec/racerd-run serve"));
        // Both packages put these very scripts there.
        for (name, package) in [("packaging/ipk", IPK), ("OpenWrt's recipe", RECIPE)] {
            for (script, place) in [("racerd-run", "/usr/libexec/racerd-run"), ("racerd.init", "/etc/init.d/racerd")] {
                let installs = |line: &str| line.contains(&format!("/{script} ")) && line.contains(place);
                assert!(package.lines().any(installs), "{name} does not install {script} as {place}");
            }
        }
    }

    /// The documents tell of each of them what it does.
    #[test]
    fn operate_md_says_what_is_tried_again() {
        let start = OPERATE.find("\n### Exit statuses\n").expect("the section");
        let text = OPERATE[start..OPERATE[start..].find("\n| status |").expect("the table") + start].replace('\n', " ");
        for words in [
            "The unit, and the container's (`packaging/racerd.container`), try again after 2 s at first and a minute at last",
            "OpenWrt's script every 10 s",
            "None of them tries again after 2",
            "A container engine alone",
        ] {
            assert!(text.contains(words), "docs/operate.md does not say: {words}\n{text}");
        }
    }

    #[test]
    fn the_error_behind_it_can_be_told() {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        let trust = Unusable::with(Cause::of_file(&error), "--ca x", error);
        let failure = Failure::from(RunError::Trust(trust));
        assert_eq!((failure.code(), failure.to_string()), (1, "--ca x".to_string()));
        let source = failure.source().unwrap();
        assert!(source.is::<Unusable>() && source.source().unwrap().is::<std::io::Error>(), "{failure:?}");
        let failure = Failure::from(RunError::Unreached("nobody there".into()));
        assert_eq!((failure.code(), failure.to_string()), (3, "no connection: nobody there".to_string()));
    }
}
