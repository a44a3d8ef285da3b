//! From settings to a running loop: system limits, store, listeners, engine.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use mio::{Poll, Waker};

use super::accept::Listeners;
use super::access_file;
use super::bind::authority;
use super::clock::Clock;
use super::log::{self, Log};
use super::machine::Machine;
use super::memory;
use super::open_files::{FEW, connections_for, raise_open_files};
use super::reload::{self, Reload};
use super::sandbox::{self, Admitted, Reach};
use super::supervisor::{self, Supervisor};
use super::tls::{Fingerprints, Tls};
use super::{Early, Loop, ServeError, WAKER, backend};
use crate::access::Doors;
use crate::chat::{Chat, Secrets};
use crate::config::{LogFormat, LogLevel, Parsed, SandboxMode, Settings};
use crate::crypto::sealed::SealedKey;
use crate::engine::{Connections, Engine};
use crate::key_file;
use crate::limits;
use crate::protocol::encrypted;
use crate::sqlite::{self, StoreOptions};
use crate::store::About;
use crate::types::{Cause, Right, Unusable};

/// Serves until a signal stops it: on the listeners that were passed in, or else on those of the settings. On SIGHUP,
/// `read` gives the new settings. `signals` handles signals until the loop does. Must be called while the process has
/// one thread: the sandbox holds for those that are made after it.
///
/// # Errors
/// Why it could not start, or why it stopped by itself.
pub fn run(parsed: Parsed, given: Vec<TcpListener>, read: reload::Read, signals: Early) -> Result<(), ServeError> {
    let Parsed { settings, file, .. } = parsed;
    let log = Log::stderr(settings.log.log_level, settings.log.log_format);
    let open_files = raise_open_files();
    let max_connections = connections_for(open_files, settings.limits.max_connections);

    let sealed_keys = sealed_keys(&settings)?;
    let machine = Machine::look();
    let limits_of = move |settings: &Settings| {
        memory::within(limits::engine(settings, access_file::doors(settings)?)?, settings, machine)
    };
    let limits = limits_of(&settings).map_err(Unusable::from)?;
    let system =
        |what: &'static str| move |error: io::Error| Unusable::with(Cause::System, format!("{what}: {error}"), error);
    let poll = Poll::new().map_err(system("the system offers no event queue"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(system("cannot make a waker"))?);
    let new_epoch = random()?;

    // Bound first: a second server on the same address should report that, and not wait for the database.
    let plain = settings.tls.plain_listen.as_slice();
    let listeners = match given.is_empty() {
        true => Listeners::bind(&settings.listening.listen, plain, max_connections, poll.registry()),
        false => Listeners::given(given, settings.says_who_enters(), plain, max_connections, poll.registry()),
    };
    let listeners = listeners?;
    let listeners = listeners.wanting(settings.limits.max_connections);
    // The names of interfaces are asked for before the sandbox.
    let places: Vec<(String, bool)> = listeners.addresses().map(|(at, plain)| (authority(at), plain)).collect();
    let encrypted: Vec<SocketAddr> = listeners.addresses().filter(|(_, plain)| !plain).map(|(at, _)| at).collect();
    let tls = Tls::load(&settings, &encrypted, Clock::start().last().wall);
    let mut tls = tls?;
    let options = store_options(&settings, new_epoch)?;
    let config = file.as_deref().map(Path::new);
    let (sandbox, admitted) = match settings.sandbox.sandbox {
        SandboxMode::On => {
            let reach = Reach { abstract_sockets: supervisor::is_abstract(), ..reach(&settings, config) };
            let held = sandbox::enter(&reach);
            let admitted = Admitted::of(&reach, &held);
            (Some(held), admitted)
        }
        SandboxMode::Off => (None, Admitted::Everything),
    };
    if let Some(tls) = &mut tls {
        tls.sandboxed(admitted.clone());
    }
    // A wake can only fail if the event queue is full, and then the loop is awake anyway.
    let store = backend::open(options, move || drop(waker.wake()));
    let store = store.map_err(Unusable::from)?;

    let secrets = Secrets {
        token_key: store.token_key(),
        nonces: Box::new(|| random().ok()),
        seed: u64::from_ne_bytes(random()?),
        running: store.running_seconds(),
    };
    let guests = Guests::of(&limits.app.doors);
    let mut chat = Chat::new(limits.app, store.epoch().clone(), secrets);
    chat.note(About::Damaged, store.note().map(str::to_owned));
    chat.sealed_only = settings.sealed.require_sealed;
    let mut sealed_keys = sealed_keys.into_iter();
    if let Some(key) = sealed_keys.next() {
        chat.seal(key, sealed_keys.next(), || random().ok());
    }
    let net = Connections::new(limits.connections, limits.admission).within(limits.memory);
    let engine = Engine::new(net, chat, limits.drain_timeout);

    let mut server = Loop::new(poll, listeners, engine, store, settings.limits.read_budget, log)
        .map_err(system("cannot watch signals"))?
        .reloading(Reload::new(settings.clone(), read, Box::new(limits_of)).sandboxed(config, admitted))
        .encrypting(tls);
    server.name();
    signals.over();
    // Announced only once signals are watched: a reader of the line may send one at once.
    let fingerprints = server.tls.as_ref().map(Tls::own_fingerprints);
    announce(&settings, &places, fingerprints, (max_connections, open_files), &guests, &server.log);
    if let Some(tls) = &mut server.tls {
        tls.log_at_start(server.clock.last(), &server.log);
    }
    let (supervisor, unheard) = Supervisor::from_environment();
    if let Some(reason) = unheard {
        server.log.warn("the supervisor cannot be told", &[("reason", &reason)]);
    }
    if let Some(gaps) = sandbox.map(|held| held.gaps()).filter(|gaps| !gaps.is_empty()) {
        server.log.warn("the sandbox is not whole", &[("missing", &gaps.join("; "))]);
    }
    for remark in server.store.remarks() {
        server.log.warn(remark, &[]);
    }
    supervisor.ready();
    server.supervised(supervisor).run()
}

/// Returns what the store is opened with.
fn store_options(settings: &Settings, new_epoch: [u8; 8]) -> Result<StoreOptions, ServeError> {
    Ok(StoreOptions {
        path: settings.storage.data.clone(),
        durability: settings.storage.durability,
        page_size: settings.storage.page_size,
        bounds: limits::store(settings),
        on_damage: settings.storage.on_damage,
        scrub_rate: settings.storage.scrub_rate,
        data_key: key_file::data_key(settings)?,
        new_epoch,
        new_token_salt: random()?,
        new_log_salt: random()?,
        sealed_body: encrypted::of_stored,
        boot_id: boot_id(),
    })
}

/// Returns the files and folders that the sandbox of a server with these settings admits.
pub fn reach(settings: &Settings, config: Option<&Path>) -> Reach {
    Reach::of(settings, config, |path| sqlite::real_path(path).ok())
}

fn random<const N: usize>() -> Result<[u8; N], Unusable> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Unusable::with(Cause::System, format!("the system has no random numbers: {error}"), error))?;
    Ok(bytes)
}

/// Returns the kernel's id of this boot; empty if it is unknown.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Checks whether a server can use these settings, as far as possible without opening a socket or a database.
///
/// # Errors
/// The error with which the server would fail to start.
pub fn check(settings: &Settings) -> Result<(), Unusable> {
    memory::within(limits::engine(settings, access_file::doors(settings)?)?, settings, Machine::look())?;
    Tls::check(settings)?;
    key_file::data_key(settings)?;
    sealed_keys(settings).map(drop)
}

/// Reads the keys of sealed sockets: the present one, and perhaps the one before it.
fn sealed_keys(settings: &Settings) -> Result<Vec<SealedKey>, Unusable> {
    let keys = key_file::sealed_keys(settings)?;
    if settings.sealed.require_sealed && keys.is_empty() && !settings.tls.is_on() {
        let line =
            "require_sealed needs a key, or TLS: give --sealed-key FILE, which racerd keygen FILE makes, or --tls-cert";
        return Err(Unusable::new(Cause::Settings, line));
    }
    Ok(keys)
}

/// Who may enter, for people to read.
struct Guests {
    right: Option<Right>,
    /// How many are known.
    people: usize,
}

impl Guests {
    fn of(doors: &Doors) -> Guests {
        Guests { right: doors.guests(), people: doors.people() }
    }

    /// Returns the word of the setting.
    fn word(&self) -> &'static str {
        match self.right {
            None => "none",
            Some(Right::Read) => "read",
            Some(Right::Send | Right::Moderate) => "all",
        }
    }

    /// Says what guests may do, and how many are none.
    fn may(&self) -> String {
        let may = match self.right {
            None => "do nothing",
            Some(Right::Read) => "read every room",
            Some(Right::Send | Right::Moderate) => "read and write every room",
        };
        match self.people {
            0 => may.to_owned(),
            people => format!(
                "{may}; {} known by a token",
                if people == 1 { "one is".to_owned() } else { format!("{people} are") }
            ),
        }
    }
}

/// Prints and logs that the server runs. `tls` is `Some` if listeners speak TLS, and then holds the fingerprints of
/// racerd's own certificate, if it made one.
fn announce(
    settings: &Settings,
    places: &[(String, bool)],
    tls: Option<Option<Fingerprints>>,
    (max_connections, open_files): (usize, Option<u64>),
    guests: &Guests,
    log: &Log,
) {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    for (host, is_plain) in places {
        let s = if tls.is_some() && !is_plain { "s" } else { "" };
        let (page, socket) = (format!("http{s}://{host}/"), format!("ws{s}://{host}/rooms/lobby/ws?name=you"));
        match settings.log.log_format {
            LogFormat::Text => text.push_str(&format!("racerd {version} listens on {page} and {socket}\n")),
            LogFormat::Json => {
                let fields: [(&str, &dyn Display); 3] = [("version", &version), ("page", &page), ("socket", &socket)];
                text.push_str(&log::json_line(LogLevel::Info, "listening", &fields));
            }
        }
    }
    if let Some(Fingerprints { certificate, key, pin }) = tls.flatten() {
        match settings.log.log_format {
            LogFormat::Text => {
                text.push_str(&format!("its certificate's SHA-256 fingerprint is {certificate}\n"));
                text.push_str(&format!("its key's, which stays when the certificate is made anew, is {key}, {pin}\n"));
            }
            LogFormat::Json => {
                let fields: [(&str, &dyn Display); 3] = [("sha256", &certificate), ("key_sha256", &key), ("pin", &pin)];
                text.push_str(&log::json_line(LogLevel::Info, "own certificate", &fields));
            }
        }
    }
    match settings.log.log_format {
        LogFormat::Text => text.push_str(&format!("guests may {}\n", guests.may())),
        LogFormat::Json => {
            let fields: [(&str, &dyn Display); 2] = [("guests", &guests.word()), ("people", &guests.people)];
            text.push_str(&log::json_line(LogLevel::Info, "who may enter", &fields));
        }
    }
    // Serving goes on even if stdout is closed.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let files: &dyn Display = open_files.as_ref().map_or(&"unlimited", |files| files);
    log.info(
        "started",
        &[
            ("data", &settings.storage.data.display()),
            ("durability", &settings.storage.durability.as_str()),
            ("max_connections", &max_connections),
            ("open_files", files),
            ("guests", &guests.word()),
            ("people", &guests.people),
        ],
    );
    if guests.right.is_none() && guests.people == 0 {
        log.warn("nobody may enter: name people in --access-file, or let everybody in with --guests all", &[]);
    }
    if settings.limits.max_connections as usize > max_connections {
        log.warn(
            "fewer connections than asked for: raise the limit of open files (ulimit -n, LimitNOFILE=)",
            &[("max_connections", &max_connections)],
        );
    } else if settings.limits.max_connections == 0 && max_connections < FEW {
        log.warn(
            "the limit of open files leaves room for few connections: raise it (ulimit -n, LimitNOFILE=)",
            &[("max_connections", &max_connections), ("open_files", files)],
        );
    }
}
