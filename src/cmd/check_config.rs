//! `racerd check-config`: prints the effective settings, the source of each value, warnings about unusual ones, and the
//! memory that the server may take at worst. Opens no socket and no database.

use super::command::{Command, Example, ExitCode, Group, Run, Settings as TakesSettings};
use super::{Args, Failure, say, shown as shown_path};
use crate::config::{GROUPS, Parsed, SandboxMode, Settings as AllSettings, Source};
use crate::server::machine;
use crate::server::memory::{Sums, Term, Worst};
use crate::server::sandbox::{self, Held, Reach};
use crate::server::{self, FEW, RESERVED, connections_for, open_files};
use crate::types::{Durability, harmless};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub const COMMAND: Command = Command {
    word: "check-config",
    group: Group::Server,
    usage: &["check-config [SETTINGS]", "--check-config [SETTINGS]"],
    summary: "Print the effective settings, without starting a server",
    about: &[
        "Prints each setting's effective value and its source (the default, a line of the file, a variable, a flag), how \
         many connections the server would take, what of the sandbox this machine offers, how much memory it may need at \
         worst, and warnings about unusual values. \
         It opens no socket and no database.",
    ],
    arguments: &[],
    options: &[],
    settings: TakesSettings::Taken,
    surplus: "settings begin with two dashes",
    examples: &[Example { line: "racerd check-config --config /etc/racerd.toml", text: "" }],
    exit_codes: &[
        ExitCode { code: 0, text: "A server would start with these settings." },
        ExitCode { code: 2, text: "A server would refuse to start with these settings; the reason is the same." },
    ],
    run: Run::OneShot(run),
};

/// Prints the report.
///
/// # Errors
/// The [`Failure`] with which a server would refuse to start: the same line and the same exit code.
fn run(args: Args) -> Result<(), Failure> {
    let parsed = args.into_invocation().read_to_serve()?;
    server::check(&parsed.settings)?;
    let config = parsed.file.as_deref().map(Path::new);
    let machine = Machine {
        files: open_files(),
        memory: machine::Machine::look(),
        offered: sandbox::offered(),
        reach: absolute(server::reach(&parsed.settings, config)),
        home: std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
    };
    say(&report(&parsed, &machine));
    Ok(())
}

/// The facts that the report depends on, about the machine and about the user who runs the command.
struct Machine {
    /// The limit of open files.
    files: Option<u64>,
    memory: machine::Machine,
    /// The sandbox that the machine offers.
    offered: Held,
    /// The folders that the sandbox admits.
    reach: Reach,
    home: Option<PathBuf>,
}

/// Makes the paths absolute, so that people see which folder is meant, and names each once.
fn absolute(reach: Reach) -> Reach {
    let all = |paths: Vec<PathBuf>| -> BTreeSet<PathBuf> {
        let paths = paths.into_iter().map(|path| std::path::absolute(&path).unwrap_or(path));
        // Without the slash at the end.
        paths.map(|path| path.components().collect()).collect()
    };
    let (written, mut read) = (all(reach.written), all(reach.read));
    read.retain(|path| !written.contains(path));
    Reach { written: written.into_iter().collect(), read: read.into_iter().collect(), ..reach }
}

/// Returns the whole report.
fn report(parsed: &Parsed, machine: &Machine) -> String {
    let files = machine.files;
    let mut out = String::new();
    for group in &GROUPS {
        let _ = writeln!(out, "{}:", group.title);
        for setting in group.settings {
            let value = setting.show(&parsed.settings);
            let value = if value.is_empty() { "none".to_owned() } else { harmless(&value) };
            let origin = harmless(&parsed.origin(setting));
            let _ = writeln!(out, "  {:<28} {value:<22} {origin}", setting.flag());
        }
        out.push('\n');
    }
    let connections = connections_for(files, parsed.settings.limits.max_connections);
    let _ =
        writeln!(out, "Connections: at most {connections}, {}\n", why(parsed.settings.limits.max_connections, files));
    let _ = match parsed.settings.sandbox.sandbox {
        SandboxMode::On => writeln!(out, "{}", sandbox_of(machine)),
        SandboxMode::Off => writeln!(out, "Sandbox: off\n"),
    };
    memory_of(&mut out, &parsed.settings, connections, machine.memory);
    let warnings = warnings(parsed, connections, machine);
    if !warnings.is_empty() {
        out.push_str("\nWarnings:\n");
    }
    for warning in warnings {
        let _ = writeln!(out, "  {warning}");
    }
    out
}

/// Says how far a server would be sandboxed, and what it could still reach.
fn sandbox_of(machine: &Machine) -> String {
    let Machine { offered: Held { files, calls }, reach, .. } = machine;
    let mut out = format!("Sandbox:\n  files: {files}\n  system calls: {calls}\n");
    for (what, paths) in [("reads and writes", &reach.written), ("reads", &reach.read)] {
        for path in paths {
            let _ = writeln!(out, "  {what:<16} {}", shown_path(path));
        }
    }
    out
}

/// Explains the limit of connections.
fn why(asked: u32, files: Option<u64>) -> String {
    let Some(files) = files else {
        return "open files are not limited".to_string();
    };
    let allowed = format!("open files (NOFILE) are limited to {files}, and {RESERVED} of them are not for connections");
    match asked {
        0 => allowed,
        _ if connections_for(Some(files), 0) < asked as usize => format!("not {asked}: {allowed}"),
        _ => "as configured".to_string(),
    }
}

/// Adds up what the server may take, and what it would take at worst if that had no limit.
fn memory_of(out: &mut String, settings: &AllSettings, connections: usize, machine: machine::Machine) {
    let line = |out: &mut String, what: &str, bytes: u64, from: &str| {
        let line = format!("  {what:<40} {:>12}  {from}", shown(bytes));
        let _ = writeln!(out, "{}", line.trim_end());
    };
    let worst = Worst::of(settings, connections);
    // `check` has refused settings that leave too little.
    match Sums::of(settings, machine).ok().flatten() {
        None => out.push_str("Memory: unlimited, since it is not known how much there is\n"),
        Some(sums) => {
            let (all, from) = (shown(sums.allowed), sums.from);
            let _ = writeln!(out, "Memory: at most {all} ({from}), and as much in the kernel, for the sockets:");
            for term in worst.shared.iter().filter(|term| term.is_fixed) {
                line(out, term.what, term.bytes, &term.from);
            }
            line(out, "connections and rooms", sums.left, "what is left");
            let room_for = |most: u64| format!("each: room for {most}");
            line(out, "an idle connection", sums.idle, &room_for(sums.most_idle));
            line(out, "in the kernel: an idle socket", sums.socket, "each");
            line(out, "in the kernel: a peer that reads nothing", sums.stalled, &room_for(sums.most_stalled));
        }
    }
    out.push_str("\nWithout that limit, if every connection reached every other limit at once:\n");
    let terms = |out: &mut String, terms: &[Term]| {
        for term in terms {
            line(out, term.what, term.bytes, &term.from);
        }
    };
    terms(out, &worst.per_connection);
    line(out, "one connection", worst.connection(), "");
    let all = worst.connection().saturating_mul(worst.connections);
    line(out, &format!("{} connections", worst.connections), all, "");
    terms(out, &worst.shared);
    line(out, "total", worst.total(), "");
}

/// Returns a line for each value that is unusual enough to be a mistake.
fn warnings(parsed: &Parsed, connections: usize, machine: &Machine) -> Vec<String> {
    let settings = &parsed.settings;
    let mut found = Vec::new();
    let listen = settings.listening.listen.iter().map(|address| ("listen", address));
    let plain = settings.tls.plain_listen.iter().map(|address| ("plain-listen", address));
    for (field, address) in listen.chain(plain).filter(|(_, address)| !address.is_loopback()) {
        found.push(format!("{field}: everyone who can reach {address} reads and writes every room (open)"));
    }
    let asked = settings.limits.max_connections as usize;
    if asked > connections {
        found.push(format!("max-connections: {connections}, not {asked}; raise NOFILE (ulimit -n, LimitNOFILE=)"));
    }
    if asked == 0 && connections < FEW {
        found.push(format!("max-connections: only {connections}; raise NOFILE (ulimit -n, LimitNOFILE=)"));
    }
    let (asked, has) = (settings.limits.memory, machine.memory.limit.or(machine.memory.total));
    if let Some(has) = has.filter(|has| asked.saturating_mul(2) > *has) {
        let (asked, has) = (shown(asked), shown(has));
        found.push(format!("memory: {asked}, and as much in the kernel, is more than there is here ({has})"));
    }
    let given = |field| parsed.source(field) != Source::Default;
    match settings.storage.durability {
        Durability::Memory => {
            found.push("durability: memory keeps nothing across a restart".to_string());
            if settings.limits.tail_bytes < settings.limits.queue_bytes {
                found.push("tail-bytes: smaller than queue-bytes, so that slow members may find gaps".to_string());
            }
            for field in ["data", "max_database_size"].into_iter().filter(|field| given(field)) {
                found.push(format!("{}: not used with durability memory", field.replace('_', "-")));
            }
        }
        Durability::Full | Durability::Normal => {}
    }
    if settings.sandbox.sandbox == SandboxMode::On {
        let Machine { reach, home, .. } = machine;
        for path in Reach::broad(&reach.written, home.as_deref()) {
            let path = shown_path(path);
            found.push(format!(
                "sandbox: all of {path} can be written; give the database, and the certificate, a folder of its own"
            ));
        }
        for path in Reach::broad(&reach.read, home.as_deref()) {
            let path = shown_path(path);
            found.push(format!(
                "sandbox: all of {path} can be read; give the configuration, and the certificates, a folder of their own"
            ));
        }
    }
    if settings.time.ping_period > 30_000 {
        found.push("ping-period: common proxies forget a connection that is silent for 30 s".to_string());
    }
    if !parsed.ignored.is_empty() {
        found.push(format!("these variables are not settings: {}", parsed.ignored.join(" ")));
    }
    found
}

/// Formats bytes for people: in the largest unit that fits, with one decimal.
fn shown(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, factor)| bytes >= *factor) {
        // Tenths, rounded up: a bound must not look smaller than it is.
        Some((unit, factor)) => {
            let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(factor));
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, File};
    use crate::server::memory;
    use crate::server::sandbox::Hold;
    use std::ffi::OsString;

    fn of(text: &str, args: &[&str], files: Option<u64>, machine: Option<u64>) -> String {
        let file = Some(File { name: "racerd.toml", text });
        let environment = [("RACERD_WRITE_WAIT".into(), "5s".into())];
        let parsed = config::parse(file, args.iter().map(OsString::from), environment).unwrap();
        let offered = Held { files: Hold::Missing("this kernel has none".into()), calls: Hold::Whole };
        let reach = Reach { written: vec!["/srv/chat".into()], read: vec!["/etc/racerd".into()], ..Reach::default() };
        let home = Some("/home/ann".into());
        let memory = machine::Machine { limit: None, total: machine };
        report(&parsed, &Machine { files, memory, offered, reach, home })
    }

    #[track_caller]
    fn has(report: &str, words: &[&str]) {
        let found = report.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == words.join(" "));
        assert!(found, "{words:?} is no line of\n{report}");
    }

    #[test]
    fn each_value_with_its_source() {
        let report = of("\nping_period = \"20s\"\n", &["--pong-wait", "50s", "--host", "a,b"], Some(1064), None);
        has(&report, &["ping-period", "20s", "racerd.toml:2"]);
        has(&report, &["write-wait", "5s", "RACERD_WRITE_WAIT"]);
        has(&report, &["pong-wait", "50s", "--pong-wait"]);
        has(&report, &["host", "a,b", "--host"]);
        has(&report, &["allow-origin", "none", "default"]);
        let hostile = of("", &["--data", "\u{1b}[31mx\u{202e}\n.db"], Some(1064), None);
        has(&hostile, &["data", r"\u{1b}[31mx\u{202e}\n.db", "--data"]);
        for setting in config::all() {
            assert_eq!(report.matches(&format!("\n  {} ", setting.flag())).count(), 1, "{}", setting.flag());
        }
        assert!(!report.contains("Warnings"), "{report}");
    }

    #[test]
    fn what_the_sandbox_holds() {
        let report = of("", &[], None, None);
        has(&report, &["files:", "no:", "this", "kernel", "has", "none"]);
        has(&report, &["system", "calls:", "yes"]);
        has(&report, &["reads", "and", "writes", "/srv/chat"]);
        has(&report, &["reads", "/etc/racerd"]);
        let off = of("sandbox = \"off\"", &[], None, None);
        has(&off, &["Sandbox:", "off"]);
        assert!(!off.contains("  reads "), "{off}");
    }

    #[test]
    fn a_sandbox_that_is_wider_than_it_need_be_is_warned_of() {
        let of = |mode: &str| {
            let parsed = config::parse(None, ["--sandbox", mode].map(OsString::from), []).unwrap();
            let machine = Machine {
                files: Some(1064),
                memory: machine::Machine { limit: None, total: None },
                offered: Held { files: Hold::Whole, calls: Hold::Whole },
                reach: absolute(Reach {
                    written: ["/", "/home/ann/./", "/srv/chat"].map(PathBuf::from).to_vec(),
                    read: ["/", "/etc", "/etc/racerd", "/dev/urandom", "/tmp/\u{1b}"].map(PathBuf::from).to_vec(),
                    ..Reach::default()
                }),
                home: Some("/home/ann".into()),
            };
            report(&parsed, &machine)
        };
        let report = of("on");
        let warned: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("  sandbox: all of ")).collect();
        let warned: Vec<String> = warned.iter().map(|line| line.split(';').next().unwrap().to_string()).collect();
        assert_eq!(warned, ["/ can be written", "/home/ann can be written", "/etc can be read"], "{report}");
        assert_eq!(report.matches("  reads            /\n").count(), 0, "it is among those that are written: {report}");
        assert!(!report.contains('\u{1b}'), "{report}");
        assert!(!of("off").contains("all of"));
    }

    #[test]
    fn connections_and_why() {
        assert!(of("", &[], Some(1064), None).contains("at most 1000, open files (NOFILE) are limited to 1064"));
        let report = of("max_connections = 5000", &[], Some(1064), None);
        assert!(report.contains("at most 1000, not 5000") && report.contains("raise NOFILE"), "{report}");
        assert!(of("max_connections = 500", &[], Some(1064), None).contains("at most 500, as configured"));
        assert!(of("", &[], None, None).contains("open files are not limited"));
        let few = "max-connections: only 192; raise NOFILE";
        assert!(of("", &[], Some(256), None).contains(few));
        for report in [of("max_connections = 192", &[], Some(256), None), of("", &[], Some(320), None)] {
            assert!(!report.contains("raise NOFILE"), "{report}");
        }
    }

    #[test]
    fn what_is_unusual_is_said() {
        let args = ["--listen", "0.0.0.0:1", "--open", "--durability", "memory", "--tail-bytes=1", "--ping-period=40s"];
        let report = of("data = \"x.db\"\nmemory = \"600MiB\"", &args, Some(1064), Some(1 << 30));
        for words in
            ["0.0.0.0:1", "keeps nothing", "gaps", "data: not used", "ping-period: common proxies", "memory: 600.0 MiB"]
        {
            assert!(report.split("Warnings:").nth(1).is_some_and(|text| text.contains(words)), "{words}: {report}");
        }
    }

    /// The parts add up to what the server may take, and the counts follow from it.
    #[test]
    fn both_sums_of_memory() {
        let parsed = config::parse(None, ["--memory", "32MiB"].map(OsString::from), []).unwrap();
        let machine = machine::Machine { limit: None, total: None };
        let budget = memory::budget(&parsed.settings, machine).unwrap();
        let fixed: u64 = Worst::of(&parsed.settings, 0).shared.iter().filter(|t| t.is_fixed).map(|t| t.bytes).sum();
        assert_eq!((budget.own + fixed, budget.kernel), (32 << 20, 32 << 20));
        let report = of("memory = \"32MiB\"", &[], Some(1064), Some(1 << 30));
        assert!(report.contains("Memory: at most 32.0 MiB (memory), and as much in the kernel"), "{report}");
        assert!(report.contains("each: room for"), "{report}");
        let parts = report.split("Memory: ").nth(1).and_then(|text| text.split("Without that limit").next()).unwrap();
        for what in ["log", "racerd itself", "read buffer", "pages read from the log", "connections and rooms"] {
            assert!(parts.lines().any(|line| line.trim_start().starts_with(&format!("{what}  "))), "{what}: {report}");
        }
        assert!(of("", &[], None, Some(1 << 30)).contains("at most 256.0 MiB (a quarter of the machine's memory)"));
        let parsed = config::parse(None, ["--memory", "4MiB"].map(OsString::from), []).unwrap();
        let refused = memory::budget(&parsed.settings, machine).unwrap_err().to_string();
        assert!(refused.starts_with("memory: with these settings at least ") && refused.contains("MiB"), "{refused}");
    }

    #[test]
    fn sizes_for_people() {
        let shown = |bytes| super::shown(bytes);
        assert_eq!(
            (shown(0), shown(1023), shown(1024), shown(1025)),
            ("0 B".into(), "1023 B".into(), "1.0 KiB".into(), "1.1 KiB".into())
        );
        assert_eq!((shown(3 << 29), shown(u64::MAX)), ("1.5 GiB".into(), "16777216.0 TiB".into()));
    }
}
