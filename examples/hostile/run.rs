//! Runs one attack: a fresh server, quiet, the attack, and the reckoning. And its other side, the attacking process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::attacks::{self, Attack, Form, Machine};
use crate::judge::{self, Figures, Judged};
use crate::load::{Load, Plan, Ready};
use crate::observers::{self, Observers, Phase};
use crate::peer::{self, Peer};
use crate::report::{self, Row};
use crate::server::{self, Counted, Server, Turns};
use crate::wire;

pub struct Setting {
    pub peer: Peer,
    pub binary: PathBuf,
    pub out: PathBuf,
    pub judged: Judged,
}

/// How long an attack may prepare, and how long one may wait for what is left in the end.
const PREPARING: Duration = Duration::from_secs(60);
const SETTLING: Duration = Duration::from_secs(20);
/// The room whose history is to stay as it is, and its messages.
const LOBBY: &str = "lobby";
const MESSAGES: usize = 400;

impl Setting {
    fn quiet(&self) -> Duration {
        Duration::from_secs(if self.judged == Judged::Counts { 2 } else { 5 })
    }

    fn during(&self) -> Duration {
        Duration::from_secs(if self.judged == Judged::Counts { 5 } else { 10 })
    }
}

/// Gives every party its address, and begins the files of results.
pub fn prepare(setting: &Setting) -> Result<(), String> {
    let links = Command::new("ip").args(["-o", "link"]).output().map_err(|error| format!("ip: {error}"))?;
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    // Nobody's real network gets 400 addresses.
    if links.lines().any(|line| line.split(": ").nth(1) != Some("lo")) {
        return Err("this is no network namespace of its own: run tests/hostile".to_owned());
    }
    server::run("ip", &["link", "set", "lo", "up"])?;
    let addresses = [wire::SERVER]
        .into_iter()
        .chain((0..wire::HONEST).map(wire::honest))
        .chain((0..wire::ATTACKERS).map(wire::attacker))
        .chain((0..wire::SITE).map(wire::of_one_site));
    let addresses: Vec<_> = addresses.collect();
    set_addresses(
        "-6",
        addresses.iter().map(|address| format!("addr replace {address}/128 dev lo nodad\n")).collect(),
    )?;
    let version_4 = addresses.iter().map(|address| peer::version_4(*address));
    set_addresses("-4", version_4.map(|address| format!("addr replace {address}/32 dev lo\n")).collect())?;
    fs::create_dir_all(&setting.out).map_err(|error| format!("{}: {error}", setting.out.display()))?;
    for (name, text) in [("results.jsonl", String::new()), ("table.md", format!("{}\n", report::HEAD))] {
        let path = setting.out.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn set_addresses(family: &str, lines: String) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("ip: {error}");
    let mut ip = Command::new("ip").args([family, "-batch", "-"]).stdin(Stdio::piped()).spawn().map_err(failed)?;
    ip.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(lines.as_bytes())).map_err(failed)?;
    if ip.wait().map_err(failed)?.success() { Ok(()) } else { Err("ip: the addresses could not be set".to_owned()) }
}

/// Prints a row, and adds it to the files.
pub fn keep(setting: &Setting, row: &Row) -> Result<(), String> {
    println!("{}", row.line());
    for (name, line) in [("results.jsonl", row.json().to_string()), ("table.md", row.line())] {
        let path = setting.out.join(name);
        let file = File::options().append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The attacking process.
struct Attacker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Attacker {
    fn start(attack: &Attack, form: Form, peer: Peer) -> Result<Attacker, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(["--attack", attack.name, "--from", form.name(), "--against", peer.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().ok_or("an attacker without output")?);
        Ok(Attacker { child, stdin, lines })
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(|error| error.to_string())?;
        serde_json::from_str(&line).map_err(|error| format!("the attacker said {line:?}: {error}"))
    }

    fn go(&mut self) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("the attacker is told nothing more")?;
        stdin.write_all(b"go\n").map_err(|error| error.to_string())
    }

    /// Ends the attack: all its connections are reset.
    fn end(mut self) -> Result<Value, String> {
        drop(self.stdin.take());
        let report = self.line();
        let _ = self.child.kill();
        let _ = self.child.wait();
        report
    }
}

/// Measures one attack.
pub fn measure(setting: &Setting, attack: &Attack, form: Form) -> Result<Row, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    // Another run at the same time may have the same number as a process in a namespace of its own.
    let folder = std::env::temp_dir().join(format!("racerd-hostile-{since}"));
    let mut server = Server::start(setting.peer, &setting.binary, folder, &attack.shape, attack.bounds.memory)?;
    let row = measure_server(setting, attack, form, &mut server);
    server.stop();
    row
}

fn measure_server(setting: &Setting, attack: &Attack, form: Form, server: &mut Server) -> Result<Row, String> {
    let peer = setting.peer;
    let mut figures = Figures::default();
    if peer == Peer::Racerd {
        fill_lobby()?;
        figures.history.0 = history(SETTLING).ok_or("the lobby cannot be read before the attack")?;
    }
    let observers = Observers::start(peer, server, attack.shape.idle, attack.shape.tls.is_some())?;
    std::thread::sleep(Duration::from_millis(500));
    observers.enter(Phase::Quiet);
    std::thread::sleep(setting.quiet());
    observers.enter(Phase::Preparing);
    let mut attacker = Attacker::start(attack, form, peer)?;
    let is_ready = attacker.line()?["ready"] == true;
    let turns = Turns::count(server.pid(), setting.during());
    let (before, load_before) = (server.taken(), server::process_time(attacker.child.id()));
    observers.enter(Phase::During);
    let begun = Instant::now();
    attacker.go()?;
    (figures.memory, figures.kernel) = watch(setting, attack, server);
    let after = server.taken();
    let load_after = server::process_time(attacker.child.id());
    observers.enter(Phase::After);
    let load = attacker.end()?;
    (figures.addresses, figures.lasted) = (form.sources().len(), begun.elapsed().as_secs_f64());
    figures.ended = server.ended();
    // What a server that has ended owes will not come.
    let settling = if figures.ended.is_some() { Duration::ZERO } else { SETTLING };
    (figures.quiet, figures.during, figures.fate, figures.failed) = observers.finish(settling);
    if peer == Peer::Racerd {
        figures.history.1 = history(settling).unwrap_or_default();
    }
    figures.memory = figures.memory.max(server.peak());
    let seconds = (after.at - before.at).as_secs_f64();
    let part = |time: Duration| time.as_secs_f64() / seconds;
    figures.cpu = part(after.all.saturating_sub(before.all));
    let own = after.own.saturating_sub(before.own).as_secs_f64() * 1000.0;
    figures.turn = turns.finish().map(|turns| own / turns as f64);
    figures.log = (after.log - before.log) as f64 / seconds;
    figures.lines = (after.lines - before.lines) as f64 / seconds;
    figures.most_work = server.counts().and_then(|file| Counted::read(&file)).map_or(0, |counted| counted.most);
    figures.done = load["done"].as_f64().unwrap_or_default();
    let faults = judge::judge(&figures, &attack.bounds, setting.judged);
    let mut notes: Vec<&str> = server.without.into_iter().collect();
    if !is_ready {
        notes.push("the attacker did not get all it wanted to begin with");
    }
    Ok(Row {
        attack: attack.name,
        form: form.name(),
        server: peer.name(),
        load_cpu: part(load_after.saturating_sub(load_before)),
        figures,
        load,
        seconds,
        faults,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    })
}

/// Lets the attack go on; returns the most memory that the process and the kernel held meanwhile.
fn watch(setting: &Setting, attack: &Attack, server: &Server) -> (u64, u64) {
    let (mut memory, mut kernel) = (0, 0);
    let _slow = match attack.shape.machine {
        Machine::SlowDisk(delay) => Some(server.slow_down(delay)),
        _ => None,
    };
    if let Machine::Stopped(time) = attack.shape.machine {
        server.signal(Signal::STOP);
        std::thread::sleep(time);
        server.signal(Signal::CONT);
    }
    let end = Instant::now() + setting.during();
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        memory = memory.max(server.peak());
        kernel = kernel.max(server::kernel_memory());
    }
    (memory, kernel)
}

/// Writes the messages that others are not to lose.
fn fill_lobby() -> Result<(), String> {
    for part in 0..MESSAGES / 100 {
        let mut stream =
            observers::connect(Peer::Racerd, wire::honest(part), wire::PORT).map_err(|error| error.to_string())?;
        for _ in 0..100 {
            let mut request = Vec::new();
            wire::post(LOBBY, None, "\"what was said before, and is not to go because of an attack\"", &mut request);
            stream.write_all(&request).map_err(|error| error.to_string())?;
        }
        let mut statuses = wire::Statuses::default();
        let mut bytes = Vec::new();
        let mut buffer = [0; 64 << 10];
        while statuses.all() < 100 {
            match stream.read(&mut buffer).map_err(|error| format!("the lobby: {error}"))? {
                0 => return Err("the lobby: the server closed".to_owned()),
                length => bytes.extend(&buffer[..length]),
            }
            statuses = wire::Statuses::default();
            statuses.count(&bytes);
        }
        if statuses.done < 100 {
            return Err(format!("the lobby: {statuses:?}"));
        }
    }
    Ok(())
}

/// Returns how many messages the lobby has, after waiting for a server that is busy.
fn history(most: Duration) -> Option<u64> {
    let end = Instant::now() + most;
    loop {
        if let Some(count) = history_at_once() {
            return Some(count);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn history_at_once() -> Option<u64> {
    let mut stream = observers::connect(Peer::Racerd, wire::honest(8), wire::PORT).ok()?;
    let path = format!("/rooms/{LOBBY}/messages?limit=1");
    let mut request = Vec::new();
    wire::get(&path, &mut request);
    stream.write_all(&request).ok()?;
    let (head, mut body) = observers::read_head(&mut stream).ok()?;
    let line = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok();
    let length = head.lines().find_map(line)?;
    let mut buffer = [0; 4096];
    while body.len() < length {
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            read => body.extend(&buffer[..read]),
        }
    }
    let page: Value = serde_json::from_slice(&body).ok()?;
    let (head, oldest) = (page["head"].as_u64()?, page["oldest"].as_u64()?);
    Some((head + 1).saturating_sub(oldest))
}

/// Returns what an attack does to this server, if it applies.
pub fn plan(name: &str, form: Form, peer: Peer) -> Option<Plan> {
    let mut plan = match peer {
        Peer::Racerd => attacks::named(name).map(|attack| (attack.plan)(form))?,
        _ => attacks::abroad::plan(name, form, peer)?,
    };
    for script in plan.before.iter_mut().chain(&mut plan.attack) {
        script.sources.iter_mut().for_each(|source| *source = peer.reach(*source));
        script.target.set_ip(peer.reach(*script.target.ip()));
    }
    Some(plan)
}

/// Is the attacking process: prepares, says so, and attacks from the word `go` to the end of its input.
pub fn attack(name: &str, form: Form, peer: Peer) -> Result<(), String> {
    let plan = plan(name, form, peer).ok_or(format!("{name}: no such attack on {}", peer.name()))?;
    let failed = |error: std::io::Error| error.to_string();
    let mut load = Load::new().map_err(failed)?;
    if plan.attack.is_empty() {
        load.hold();
    }
    plan.before.into_iter().for_each(|script| load.add(script));
    let (go, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let told = (Arc::clone(&go), Arc::clone(&end));
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = String::new();
        let _ = stdin.read_line(&mut line);
        told.0.store(true, Ordering::Relaxed);
        let _ = stdin.read_to_string(&mut line);
        told.1.store(true, Ordering::Relaxed);
    });
    let is_ready = load.until(plan.ready, PREPARING, &end).map_err(failed)?;
    println!("{}", serde_json::json!({ "ready": is_ready }));
    load.until(Ready::Never, PREPARING, &go).map_err(failed)?;
    load.release();
    plan.attack.into_iter().for_each(|script| load.add(script));
    load.until(Ready::Never, Duration::from_secs(600), &end).map_err(failed)?;
    println!("{}", load.report());
    Ok(())
}
