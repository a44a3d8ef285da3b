//! A walk over the table: every setting that is declared live changes the state of the running parts, and no other
//! does.

use super::*;
use crate::access::Doors;
use crate::chat::{self, Chat, Secrets};
use crate::config::{self, File, Kind, LogFormat, LogLevel, Setting, Value};
use crate::engine::Connections;
use crate::server::machine::Machine;
use crate::server::memory;
use crate::sqlite::StoreOptions;
use crate::testing::TempDir;
use crate::types::{Durability, Epoch};
use std::cell::RefCell;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::rc::Rc;

/// The parts of a server that was started with the defaults, and the file that it reads.
struct Running {
    engine: Engine<Chat>,
    store: Box<dyn Store>,
    listeners: Listeners,
    log: Log,
    buffer: Vec<u8>,
    reload: Reload<chat::Limits>,
    file: Rc<RefCell<Option<String>>>,
    written: io::PipeReader,
}

impl Running {
    fn start(durability: Durability, data: &Path) -> Running {
        let settings = Settings::default();
        let open_files = raise_open_files();
        let max_connections = connections_for(open_files, settings.limits.max_connections);
        let poll = mio::Poll::new().unwrap();
        let options = StoreOptions {
            path: data.to_path_buf(),
            durability,
            page_size: settings.storage.page_size,
            bounds: limits::store(&settings),
            on_damage: settings.storage.on_damage,
            scrub_rate: 0,
            data_key: None,
            new_epoch: [1; 8],
            new_log_salt: [0; 16],
            new_token_salt: [1; 32],
            sealed_body: crate::protocol::encrypted::of_stored,
            boot_id: String::new(),
        };
        let machine = Machine { limit: None, total: Some(1 << 30) };
        let limits = memory::within(
            limits::engine(&settings, Doors::new(settings.guests(), Vec::new())).unwrap(),
            &settings,
            machine,
        )
        .unwrap();
        let chat = Chat::new(
            limits.app,
            Epoch("e".into()),
            Secrets { token_key: [2; 32], nonces: Box::new(|| Some([3; 24])), seed: 1, running: 0 },
        );
        let net = Connections::new(limits.connections, limits.admission).within(limits.memory);
        let file = Rc::new(RefCell::new(Some(String::new())));
        let text = Rc::clone(&file);
        let read = move || {
            let text = text.borrow();
            let file = text.as_deref().map(|text| File { name: "racerd.toml", text });
            config::parse(file, [], [])
        };
        let (written, out) = io::pipe().unwrap();
        let out = fs::File::from(std::os::fd::OwnedFd::from(out));
        Running {
            engine: Engine::new(net, chat, limits.drain_timeout),
            store: crate::server::backend::open(options, || ()).unwrap(),
            listeners: Listeners::bind(&[], &[], max_connections, poll.registry()).unwrap(),
            log: Log::to(settings.log.log_level, settings.log.log_format, out),
            buffer: vec![0; settings.limits.read_budget],
            reload: Reload::new(
                settings,
                Box::new(read),
                Box::new(move |settings| {
                    let doors = Doors::new(settings.guests(), Vec::new());
                    memory::within(limits::engine(settings, doors)?, settings, machine)
                }),
            ),
            file,
            written,
        }
    }

    /// Reloads with this text as the file, or with no file; returns the log output.
    fn reads(&mut self, text: Option<&str>) -> String {
        *self.file.borrow_mut() = text.map(str::to_string);
        self.reload.run(&mut Parts {
            engine: &mut self.engine,
            store: self.store.as_mut(),
            listeners: &mut self.listeners,
            log: &mut self.log,
            tls: None,
            buffer: &mut self.buffer,
        });
        // All log output is in the pipe already; the mark ends the reading.
        self.log.error("mark", &[]);
        let mut logged = String::new();
        let mut byte = [0];
        while !logged.ends_with("mark\n") && !logged.ends_with("\"mark\"}\n") {
            self.written.read_exact(&mut byte).unwrap();
            logged.push(char::from(byte[0]));
        }
        logged
    }

    /// Returns all state of the parts that comes from settings.
    fn held(&self) -> String {
        let (net, chat) = (&self.engine.net, &self.engine.app);
        let connections = (net.limits(), net.admission(), net.budget(), self.engine.drain_timeout());
        let chat = (chat.limits(), chat.hub.limits());
        let edge = (self.listeners.max_connections(), self.log.kind(), self.buffer.len(), self.store.bounds());
        format!("{connections:?} {chat:?} {edge:?}")
    }
}

/// Returns a line of the file that gives the setting another value than its default.
fn other(setting: &Setting) -> String {
    if ["tls_cert", "tls_key"].contains(&setting.field) {
        // The one is invalid without the other.
        return "tls_cert = \"a\"\ntls_key = \"b\"\n".to_string();
    }
    if setting.field == "plain_listen" {
        // It is for a server that speaks TLS on its other listeners.
        return "plain_listen = [\"[::1]:1\"]\ntls_self_signed = \"a\"\n".to_string();
    }
    let value = match (setting.kind, setting.parse(&[setting.default])) {
        // If 0 has a special meaning, 1 may be too small.
        (Kind::Size { max, .. }, Ok(Value::Number(0))) => max.to_string(),
        // One more stays within all relations between settings.
        (Kind::Duration { .. }, Ok(Value::Number(number))) => format!("\"{}ms\"", number + 1),
        (_, Ok(Value::Number(number))) => (number + 1).to_string(),
        (_, Ok(Value::Flag(on))) => (!on).to_string(),
        (Kind::Choice(words) | Kind::SizeChoice(words), _) => {
            format!("{:?}", words.iter().rev().find(|word| **word != setting.default).unwrap())
        }
        _ => {
            let texts = ["[::1]:1", "https://other.example", "192.0.2.1", "other.example"];
            format!("{:?}", texts.iter().find(|text| setting.parse(&[text]).is_ok()).unwrap())
        }
    };
    format!("{} = {value}\n", setting.field)
}

#[test]
fn what_is_live_takes_effect_and_nothing_else() {
    let folder = TempDir::new();
    let mut on_disk = Running::start(Durability::Full, &folder.path().join("racerd.db"));
    let mut in_memory = Running::start(Durability::Memory, folder.path());
    for setting in config::all() {
        let mut reached = false;
        for running in [&mut on_disk, &mut in_memory] {
            let before = running.held();
            let logged = running.reads(Some(&other(setting)));
            let changed = running.held() != before;
            reached |= changed;
            let line = if setting.live { "setting changed" } else { "setting needs a restart" };
            let is_told = logged.lines().any(|text| text.contains(line) && text.contains(setting.field));
            assert!(is_told, "{}: {logged}", setting.field);
            assert!(setting.live || !changed, "{} is not live, and reached the running parts", setting.field);
            running.reads(Some(""));
            assert_eq!(running.held(), before, "{}", setting.field);
        }
        assert_eq!(reached, setting.live, "{} is declared live, and nobody applies it", setting.field);
    }
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let folder = TempDir::new();
    let mut running = Running::start(Durability::Memory, folder.path());
    let before = running.held();
    for (text, words) in [
        (
            "ping_period = \"5s\"\npong_wiat = \"9s\"\n",
            "racerd.toml:2: pong_wiat: unknown setting; did you mean pong_wait?",
        ),
        ("ping_period = \"60s\"\n", "9/10"),
        ("ping_period = \"5s\"\nallow_origin = [\"https://a..b\"]\n", "https://a..b"),
        ("ping_period = 5s\n", "racerd.toml:1: "),
    ] {
        let logged = running.reads(Some(text));
        assert!(logged.contains("the settings stay as they were") && logged.contains(words), "{text}: {logged}");
        assert_eq!((running.held(), logged.lines().count()), (before.clone(), 2), "{text}");
    }
    assert!(running.reads(None).contains("started without --config"));
    assert_eq!(running.held(), before);
}

#[test]
fn the_log_tells_in_its_new_form() {
    let folder = TempDir::new();
    let mut running = Running::start(Durability::Memory, folder.path());
    let logged = running.reads(Some("log_format = \"json\"\n"));
    assert!(
        logged.contains(r#""message":"setting changed","name":"log_format","old":"text","new":"json"}"#),
        "{logged}"
    );
    assert!(logged.contains(r#""changed":1,"need_restart":0}"#), "{logged}");
    assert_eq!(running.log.kind(), (LogLevel::Info, LogFormat::Json));
    running.reads(Some("log_format = \"json\"\nlog_level = \"error\"\n"));
    assert_eq!(running.reads(Some("log_level = \"error\"\n")).lines().count(), 1, "information is not wanted");
}
