//! Why a command did not do what it was asked for, and the exit status that says so: the only place that decides one.

use crate::server::ServeError;
use crate::sqlite::OperationError;
use crate::types::Cause;

/// One line for the person who asked, sorted by exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A person has to change something first: the arguments, the settings, a key, a database. Exit code 2.
    Usage(String),
    /// It tried, and failed; the same may succeed later. Exit code 1.
    Failed(String),
    /// No server could be reached in time. Exit code 3.
    Unreached(String),
    /// The server is not the one that was asked for: another pin, a certificate that is not trusted. Exit code 4.
    Mismatch(String),
    /// Messages could not be read with the room key that was given. Exit code 5.
    Unreadable(String),
}

impl Failure {
    /// The failure behind which this cause stands.
    pub fn of(cause: Cause, text: String) -> Failure {
        match cause.needs_a_person() {
            true => Failure::Usage(text),
            false => Failure::Failed(text),
        }
    }

    /// The failure behind a file that is refused.
    pub fn of_file((cause, text): (Cause, String)) -> Failure {
        Failure::of(cause, text)
    }

    /// The same failure in other words.
    pub fn map(self, words: impl FnOnce(String) -> String) -> Failure {
        let same = match &self {
            Failure::Usage(_) => Failure::Usage,
            Failure::Failed(_) => Failure::Failed,
            Failure::Unreached(_) => Failure::Unreached,
            Failure::Mismatch(_) => Failure::Mismatch,
            Failure::Unreadable(_) => Failure::Unreadable,
        };
        same(words(self.into_text()))
    }

    pub fn into_text(self) -> String {
        match self {
            Failure::Usage(text)
            | Failure::Failed(text)
            | Failure::Unreached(text)
            | Failure::Mismatch(text)
            | Failure::Unreadable(text) => text,
        }
    }

    /// The exit status of the process.
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

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        match error {
            ServeError::Start(cause, text) => Failure::of(cause, text),
            ServeError::Failed(text) => Failure::Failed(text),
        }
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Failure {
        match error {
            OperationError::Asked(text) => Failure::Usage(text),
            OperationError::Failed(text) => Failure::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATE: &str = include_str!("../../docs/operate.md");
    const UNIT: &str = include_str!("../../packaging/racerd.service");

    /// The causes that end a start with this status, in words.
    fn causes(code: u8) -> String {
        let with = |cause: &&Cause| Failure::of(**cause, String::new()).code() == code;
        let words: Vec<&str> = Cause::ALL.iter().filter(with).map(|cause| cause.words()).collect();
        words.join("; ")
    }

    /// The table of exit statuses in docs/operate.md.
    fn table() -> String {
        let failed = causes(1);
        let usage = causes(2);
        let code = |failure: fn(String) -> Failure| failure(String::new()).code();
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

    /// The service manager retries failures that may heal, at growing intervals, and no others.
    #[test]
    fn the_unit_tries_again_what_may_heal() {
        let values = |name: &str| -> Vec<&str> {
            let lines = UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            lines.flat_map(str::split_whitespace).collect()
        };
        for cause in Cause::ALL {
            let code = Failure::of(cause, String::new()).code().to_string();
            let is_final = values("RestartPreventExitStatus").contains(&code.as_str());
            assert_eq!(is_final, cause.needs_a_person(), "{cause:?} ends with {code}");
        }
        assert_eq!(values("Restart"), ["on-failure"]);
        assert_eq!(values("StartLimitIntervalSec"), ["0"], "or it would give up after five starts");
        assert_eq!((values("RestartSec"), values("RestartMaxDelaySec")), (vec!["2s"], vec!["60s"]));
        assert!(values("RestartSteps")[0].parse::<u32>().is_ok_and(|steps| steps > 0));
    }
}
