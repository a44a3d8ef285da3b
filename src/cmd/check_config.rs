//! `racerd check-config`: prints the effective settings, the source of each value, warnings about unusual ones, and the
//! memory that the server may take at worst. Opens no socket and no database.

use super::command::{Command, Example, ExitCode, Group, Run, Settings as TakesSettings};
use super::{Args, Failure, say, shown as shown_path};
use crate::config::{GROUPS, Parsed, SandboxMode, Source};
use crate::server::memory::{KERNEL_BYTES, Term, Worst};
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
        memory: memory_of_machine(),
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
    /// The bytes of memory, where known.
    memory: Option<u64>,
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
    let worst = Worst::of(&parsed.settings, connections);
    memory(&mut out, &worst);
    let warnings = warnings(parsed, connections, worst.total(), machine);
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

fn memory(out: &mut String, worst: &Worst) {
    let line = |out: &mut String, what: &str, bytes: u64, from: &str| {
        let line = format!("  {what:<36} {:>12}  {from}", shown(bytes));
        let _ = writeln!(out, "{}", line.trim_end());
    };
    let terms = |out: &mut String, terms: &[Term]| {
        for term in terms {
            line(out, term.what, term.bytes, &term.from);
        }
    };
    out.push_str("Memory at worst, if every connection reaches every limit at once:\n");
    terms(out, &worst.per_connection);
    line(out, "one connection", worst.connection(), "");
    let all = worst.connection().saturating_mul(worst.connections);
    line(out, &format!("{} connections", worst.connections), all, "");
    terms(out, &worst.shared);
    line(out, "total", worst.total(), "");
    let kernel = KERNEL_BYTES.saturating_mul(worst.connections);
    line(out, "in addition, in the kernel", kernel, "socket buffers, if no peer reads anything");
}

/// Returns a line for each value that is unusual enough to be a mistake.
fn warnings(parsed: &Parsed, connections: usize, worst: u64, machine: &Machine) -> Vec<String> {
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
    if let Some(memory) = machine.memory.filter(|memory| worst > *memory) {
        let has = shown(memory);
        found.push(format!(
            "memory: this machine has {has} for one process; lower max-connections or queue-bytes if peers may be hostile"
        ));
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

/// Returns the bytes of memory that a process can have on this machine: all of it, as Linux reports it, as far as
/// addresses reach.
fn memory_of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let all = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    Some(all.min(usize::MAX as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, File};
    use crate::server::sandbox::Hold;
    use std::ffi::OsString;

    fn of(text: &str, args: &[&str], files: Option<u64>, machine: Option<u64>) -> String {
        let file = Some(File { name: "racerd.toml", text });
        let environment = [("RACERD_WRITE_WAIT".into(), "5s".into())];
        let parsed = config::parse(file, args.iter().map(OsString::from), environment).unwrap();
        let offered = Held { files: Hold::Missing("this kernel has none".into()), calls: Hold::Whole };
        let reach = Reach { written: vec!["/srv/chat".into()], read: vec!["/etc/racerd".into()], ..Reach::default() };
        let home = Some("/home/ann".into());
        report(&parsed, &Machine { files, memory: machine, offered, reach, home })
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
                memory: None,
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
        let report = of("data = \"x.db\"", &args, Some(1064), Some(1 << 20));
        for words in
            ["0.0.0.0:1", "keeps nothing", "gaps", "data: not used", "ping-period: common proxies", "has 1.0 MiB"]
        {
            assert!(report.split("Warnings:").nth(1).is_some_and(|text| text.contains(words)), "{words}: {report}");
        }
    }

    #[test]
    fn sizes_for_people() {
        let shown = |bytes| super::shown(bytes);
        assert_eq!(
            (shown(0), shown(1023), shown(1024), shown(1025)),
            ("0 B".into(), "1023 B".into(), "1.0 KiB".into(), "1.1 KiB".into())
        );
        assert_eq!((shown(3 << 29), shown(u64::MAX)), ("1.5 GiB".into(), "16777216.0 TiB".into()));
        assert!(memory_of_machine().is_none_or(|bytes| bytes > 1 << 20 && usize::try_from(bytes).is_ok()));
    }
}
