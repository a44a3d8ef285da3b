//! Tests of the declaration, and of flags and variables together.

use super::*;
use crate::types::{Durability, OnDamage, PageSize};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

fn read_both(args: &[&str], environment: &[(&str, &str)]) -> Result<Parsed, String> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(None, args.iter().map(OsString::from), environment).map_err(|error| error.to_string())
}

fn read(args: &[&str]) -> Result<Parsed, String> {
    read_both(args, &[])
}

fn refused(args: &[&str], words: &[&str]) {
    let error = read(args).expect_err(&format!("{args:?}"));
    for word in words {
        assert!(error.contains(word), "{args:?}: {error}");
    }
    assert!(!error.chars().any(char::is_control), "{error:?}");
}

/// Returns a value that differs from the default and is valid without a change to any other setting.
fn other_value(setting: &Setting) -> String {
    match setting.kind {
        // A size that is kept in memory can be no larger than an address.
        Kind::Size { max, .. } => max.min(usize::MAX as u64).to_string(),
        Kind::Count { max, .. } | Kind::Rate { max, .. } => max.to_string(),
        Kind::Duration { max, .. } => format!("{max}ms"),
        Kind::Choice(words) | Kind::SizeChoice(words) => {
            words.iter().find(|word| **word != setting.default).unwrap().to_string()
        }
        Kind::Flag => "true".to_string(),
        Kind::Path | Kind::PathOrNone => "/tmp/other.db".to_string(),
        Kind::List { item: "IP:PORT", .. } => "[::1]:1".to_string(),
        Kind::List { item: "IP[/BITS]", .. } => "10.0.0.0/8".to_string(),
        Kind::List { item: "ORIGIN", .. } => "https://a:1".to_string(),
        Kind::List { .. } => "other.example".to_string(),
    }
}

#[test]
fn the_declaration_is_sound() {
    let mut names = BTreeSet::new();
    for setting in all() {
        let name = setting.field;
        assert!(names.insert(name), "{name} twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(setting.doc.trim().ends_with('.') && setting.doc.trim().len() > 15, "{name}: {}", setting.doc);
        // The default parses, lies within its bounds, and is written in the form in which it is shown.
        let value = setting.parse(&[setting.default]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut settings = Settings::default();
        setting.apply(&mut settings, value).unwrap();
        assert_eq!(settings, Settings::default(), "{name}");
        let plain = |text: String| text.trim_end_matches("/s").trim_end_matches("/min").to_string();
        assert_eq!(plain(setting.show(&settings)), setting.default, "{name}");
        assert!(!setting.kind.allowed().is_empty());
    }
    relations::check(&Parsed::default()).unwrap();
    exposed(&Parsed::default()).unwrap();
}

#[test]
fn each_setting_has_a_place_of_its_own() {
    for setting in all() {
        let mut settings = Settings::default();
        let value =
            setting.parse(&[&other_value(setting)]).unwrap_or_else(|error| panic!("{}: {error}", setting.field));
        setting.apply(&mut settings, value.clone()).unwrap();
        for other in all() {
            let changed = other.show(&settings) != other.show(&Settings::default());
            assert_eq!(changed, other.field == setting.field, "{} changed {}", setting.field, other.field);
        }
        // The shown text parses back to the same value.
        assert_eq!(setting.parse(&[&setting.show(&settings)]), Ok(value), "{}", setting.field);
    }
}

#[test]
fn a_size_beyond_every_address_is_refused() {
    let setting = all().find(|setting| setting.field == "tail_bytes_total").unwrap();
    let applied = setting.apply(&mut Settings::default(), setting.parse(&["64GiB"]).unwrap());
    match usize::BITS {
        32 => assert_eq!(applied, Err("too large for this machine".to_string())),
        _ => assert_eq!(applied, Ok(())),
    }
}

#[test]
fn defaults_are_the_designs() {
    let Settings { listening, access, tls, sealed, storage, limits, time, log, sandbox } = Settings::default();
    assert_eq!(listening.listen, ["127.0.0.1:7077".parse().unwrap()]);
    assert!(sealed.sealed_key.is_empty() && !sealed.require_sealed);
    assert!(!listening.open && listening.host.is_empty() && listening.allow_origin.is_empty());
    assert_eq!((access.guests, access.access_file, access.auth_wait), (Guests::Auto, None, 10_000));
    assert!(!tls.is_on() && tls.plain_listen.is_empty());
    assert_eq!((storage.data.as_path(), storage.durability), (Path::new("racerd.db"), Durability::Full));
    assert_eq!((storage.parked_max, storage.park_for), (100_000, 7 * 86_400_000));
    assert_eq!((storage.keep_messages, storage.keep_for, storage.max_database_size), (0, 0, 0));
    assert_eq!(storage.on_damage, OnDamage::Stop);
    assert_eq!((limits.max_message_size, limits.queue_bytes, limits.reply_bytes), (32 << 10, 256 << 10, 64 << 10));
    assert_eq!((limits.append_bytes, limits.tail_bytes, limits.tail_bytes_total), (2 << 20, 256 << 10, 16 << 20));
    assert_eq!((limits.in_flight, limits.rooms_per_session, limits.presence_max), (32, 64, 100));
    assert_eq!((limits.page_bytes, limits.read_budget, limits.delivery_budget), (60_000, 64 << 10, 50_000));
    assert_eq!((limits.request_rate, limits.request_burst, limits.error_budget), (30, 100, 20));
    assert_eq!((limits.request_rate_per_address, limits.control_rate), (500, 10));
    assert_eq!((limits.handshake_rate_per_address, limits.handshake_rate), (20, 1000));
    assert_eq!((time.write_wait, time.pong_wait, time.ping_period), (10_000, 60_000, 25_000));
    assert_eq!((time.header_timeout, time.keep_alive, time.drain_timeout), (10_000, 75_000, 10_000));
    assert_eq!(log.log_level, LogLevel::Info);
    assert_eq!(sandbox.sandbox, SandboxMode::On);
}

#[test]
fn flags_beat_variables_and_variables_beat_defaults() {
    let parsed =
        read_both(&["--pong-wait", "90s", "--open"], &[("RACERD_PONG_WAIT", "2m"), ("RACERD_WRITE_WAIT", "5s")])
            .unwrap();
    assert_eq!(parsed.settings.time.pong_wait, 90_000);
    assert_eq!(parsed.settings.time.write_wait, 5_000);
    assert!(parsed.settings.listening.open);
    assert_eq!(parsed.source("pong_wait"), Source::Flag);
    assert_eq!(parsed.source("write_wait"), Source::Environment);
    assert_eq!(parsed.source("open"), Source::Flag);
    assert_eq!(parsed.source("queue_bytes"), Source::Default);
}

#[test]
fn one_of_a_few_sizes_is_written_like_any_size() {
    for text in ["4KiB", "4k", "4096", "4 kib"] {
        assert_eq!(read(&["--page-size", text]).unwrap().settings.storage.page_size, PageSize::FourKib, "{text}");
    }
    for text in ["page_size = 1024", "page_size = \"1k\""] {
        let parsed = parse(Some(File { name: "f.toml", text }), [], []).unwrap();
        assert_eq!(parsed.settings.storage.page_size, PageSize::OneKib, "{text}");
        let setting = all().find(|setting| setting.field == "page_size").unwrap();
        assert_eq!(setting.show(&parsed.settings), "1KiB");
    }
}

#[test]
fn the_file_is_weaker_than_variables_and_flags() {
    let file = Some(File {
        name: "f.toml",
        text: "pong_wait = \"90s\"\nwrite_wait = \"4s\"\nhost = [\"a\"]\nkeep_alive = \"1s\"",
    });
    let args = ["--write-wait", "6s", "--config", "f.toml", "--host", "b"].map(OsString::from);
    let environment = [("RACERD_PONG_WAIT", "70s"), ("RACERD_KEEP_ALIVE", ""), ("RACERD_CONFIG", "other.toml")];
    let parsed = parse(file, args, environment.map(|(name, value)| (name.into(), value.into()))).unwrap();
    let time = &parsed.settings.time;
    assert_eq!((time.pong_wait, time.write_wait, time.keep_alive), (70_000, 6_000, 1_000));
    assert_eq!(parsed.settings.listening.host, ["b"], "a stronger list replaces a weaker one");
    let origin = |field: &str| parsed.origin(all().find(|setting| setting.field == field).unwrap());
    assert_eq!((origin("pong_wait"), origin("write_wait")), ("RACERD_PONG_WAIT".into(), "--write-wait".into()));
    assert_eq!((origin("keep_alive"), origin("data")), ("f.toml:4".into(), "default".into()));
}

#[test]
fn which_file_is_named() {
    let name = |args: &[&str], variable: &str| {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        file_name(&args, &[("RACERD_CONFIG".into(), variable.into())]).map_err(|error| error.to_string())
    };
    assert_eq!(name(&[], ""), Ok(None));
    assert_eq!(name(&[], "a"), Ok(Some("a".into())));
    assert_eq!(name(&["--open", "--config", "b", "--data", "c"], "a"), Ok(Some("b".into())));
    assert_eq!(name(&["--config=b", "--config", "-"], ""), Ok(Some("-".into())));
    for args in [&["--config"][..], &["--config", "--open"], &["--config="]] {
        assert_eq!(name(args, "a"), Err("--config needs a value (a path)".into()));
        if args != ["--config="] {
            refused(args, &["--config needs a value"]);
        }
    }
    assert_eq!(read(&["--config", "x", "--open"]).unwrap().settings, read(&["--open"]).unwrap().settings);
}

#[test]
fn ways_to_write_a_flag() {
    assert_eq!(read(&["--data=a=b.db"]).unwrap().settings.storage.data, Path::new("a=b.db"));
    assert_eq!(read(&["--data=--x"]).unwrap().settings.storage.data, Path::new("--x"));
    assert_eq!(read(&["--data", "-"]).unwrap().settings.storage.data, Path::new("-"));
    assert_eq!(read(&["--data", "a", "--data", "b"]).unwrap().settings.storage.data, Path::new("b"));
    assert!(!read(&["--open", "--open=no"]).unwrap().settings.listening.open);
    refused(&["--open", "false"], &["unexpected argument false"]);
    refused(&["--data"], &["--data needs a value"]);
    refused(&["--data", "--open"], &["--data needs a value"]);
    refused(&["--data="], &["--data", "path is missing"]);
    refused(&["-d"], &["unexpected argument -d"]);
    refused(&["--", "x"], &["unexpected argument x"]);
}

#[test]
fn lists_take_several_flags_or_commas_and_replace_the_variable() {
    let hosts =
        |args: &[&str], variable| read_both(args, &[("RACERD_HOST", variable)]).unwrap().settings.listening.host;
    assert_eq!(hosts(&[], "a.example, b.example"), ["a.example", "b.example"]);
    assert_eq!(hosts(&["--host", "C", "--host=d,c"], "a.example"), ["c", "d"]);
    assert_eq!(hosts(&["--host="], "a.example"), [""; 0]);
    let listen = read(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]).unwrap().settings.listening.listen;
    assert_eq!(listen.len(), 2);
    refused(&["--listen="], &["--listen", "at least one"]);
    refused(&["--allow-origin", "https://a,https://b/"], &["--allow-origin", "\"https://b/\" is not an origin"]);
}

#[test]
fn errors_name_the_place_the_value_and_what_is_allowed() {
    refused(&["--queue-bytes", "12x"], &["--queue-bytes 12x:", "32KiB"]);
    refused(&["--queue-bytes", "1"], &["--queue-bytes 1:", "allowed: 2KiB to 1GiB"]);
    refused(&["--durability", "ful"], &["--durability ful:", "full, normal, memory"]);
    refused(&["--page-size", "8k"], &["--page-size 8k: allowed: 1KiB, 2KiB, 4KiB"]);
    refused(&["--page-size", "4KB"], &["--page-size 4KB:", "write KiB"]);
    refused(&["--in-flight", "65"], &["1 to 64"]);
    refused(&["--listen", "7077"], &["--listen 7077:", "127.0.0.1:7077"]);
    refused(&["--data", "a\0b"], &["zero byte"]);
    refused(&["--queue-bytes", "\u{1b}[2J\n"], &["--queue-bytes"]);
    refused(&["--queue-bytes", &"9".repeat(1 << 16)], &["999..."]);
    let error = read_both(&[], &[("RACERD_DURABILITY", "best")]).unwrap_err();
    assert_eq!(error, "RACERD_DURABILITY=best: allowed: full, normal, memory");
}

#[test]
fn typos_get_a_suggestion() {
    refused(&["--max-mesage-size", "1"], &["--max-mesage-size: unknown setting; did you mean --max-message-size?"]);
    refused(&["--ping_period=1s"], &["did you mean --ping-period?"]);
    refused(&["--colour"], &["--colour: unknown setting; see racerd help settings"]);
    refused(&["--confg", "x"], &["did you mean --config?"]);
    refused(&["--chek-config"], &["did you mean --check-config?"]);
    assert!(read_both(&[], &[("RACERD_CONFGI", "x")]).unwrap_err().ends_with("did you mean RACERD_CONFIG?"));
    let error = read_both(&[], &[("RACERD_LISTNE", "x")]).unwrap_err();
    assert_eq!(error, "RACERD_LISTNE: unknown setting; did you mean RACERD_LISTEN?");
    assert!(read_both(&[], &[("RACERD_PORT", "8080")]).unwrap_err().contains("RACERD_PORT: unknown setting"));
    assert!(read_both(&[], &[("RACERD_", "")]).is_err());
}

#[test]
fn the_environment_may_hold_other_things() {
    let kubernetes = [
        ("RACERD_SERVICE_HOST", "10.0.0.1"),
        ("RACERD_SERVICE_PORT", "7077"),
        ("RACERD_SERVICE_PORT_HTTP", "7077"),
        ("RACERD_PORT", "tcp://10.0.0.1:7077"),
        ("RACERD_PORT_7077_TCP_ADDR", "10.0.0.1"),
    ];
    let parsed = read_both(&[], &kubernetes).unwrap();
    assert_eq!((parsed.settings, parsed.ignored.len()), (Settings::default(), 5));
    let parsed = read_both(&[], &[("PATH", "/bin"), ("racerd_listen", "x"), ("RACERD", "x"), ("RACERD_DATA", "")]);
    assert_eq!(parsed, Ok(Parsed::default()));
}

#[cfg(unix)]
#[test]
fn what_is_not_unicode_is_an_error_only_where_it_is_ours() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(b"\xff\n".to_vec());
    assert_eq!(parse(None, [], [(odd(), odd()), ("HOME".into(), odd())]).unwrap(), Parsed::default());
    for result in [
        parse(None, [odd()], []),
        parse(None, [], [("RACERD_DATA".into(), odd())]),
        parse(None, ["--data".into(), odd()], []),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("not valid UTF-8") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn relations_are_told_in_words() {
    refused(&["--ping-period", "60s"], &["--ping-period 60s and pong-wait 60s (default)", "9/10"]);
    refused(&["--max-message-size", "256KiB"], &["queue-bytes 256KiB (default) and --max-message-size 256KiB"]);
    refused(&["--max-message-size", "64KiB"], &["reply-bytes 64KiB (default) and --max-message-size 64KiB"]);
    refused(&["--page-bytes", "64KiB"], &["reply-bytes 64KiB (default) and --page-bytes 64KiB"]);
    refused(
        &["--page-bytes", "1MiB", "--reply-bytes", "2MiB"],
        &["queue-bytes 256KiB (default) and --page-bytes 1MiB"],
    );
    refused(&["--append-bytes", "32KiB"], &["--append-bytes 32KiB and max-message-size 32KiB (default)"]);
    refused(&["--tail-bytes", "32MiB"], &["--tail-bytes 32MiB and tail-bytes-total 16MiB (default)"]);
    refused(&["--max-database-size", "1k"], &["--max-database-size 1KiB", "at least 1MiB"]);
    assert!(read(&["--ping-period", "90ms", "--pong-wait", "100ms"]).is_ok());
}

#[test]
fn the_same_address_twice_is_one() {
    assert_eq!(read(&["--listen", "127.0.0.1:1,127.0.0.1:1"]).unwrap().settings.listening.listen.len(), 1);
}

#[test]
fn a_rate_of_zero_is_accepted() {
    let limits =
        read_both(&[], &[("RACERD_REQUEST_RATE", "0"), ("RACERD_HANDSHAKE_RATE", "0")]).unwrap().settings.limits;
    assert_eq!((limits.request_rate, limits.handshake_rate), (0, 0));
}

#[test]
fn a_listener_for_others_needs_open() {
    let check = |listen: &str, open: &str| exposed(&read(&["--listen", listen, open]).unwrap());
    for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "127.0.0.1:1,192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        assert!(check(address, "--open=false").unwrap_err().to_string().contains("--open"), "{address}");
        assert!(check(address, "--open").is_ok(), "{address}");
    }
    for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(check(address, "--open=false").is_ok(), "{address}");
    }
}

proptest! {
    #[test]
    fn any_arguments_give_settings_or_one_line(
        args in proptest::collection::vec(prop_oneof![
            any::<String>(),
            proptest::sample::select(all().map(|s| format!("--{}", s.flag())).collect::<Vec<_>>()),
            "[0-9]{1,20}(k|KiB|ms|s|m|/s)?",
        ], 0..6),
        value in any::<String>(),
        nth in 0..all().count(),
    ) {
        let variable = all().nth(nth).unwrap().variable();
        let environment = [(OsString::from(variable), OsString::from(value))];
        match parse(None, args.iter().map(OsString::from), environment) {
            Ok(parsed) => prop_assert!(relations::check(&parsed).is_ok()),
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
        }
    }
}
