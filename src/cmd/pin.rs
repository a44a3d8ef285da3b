//! `racerd pin [--url]`: prints the pin of a server with sealed sockets, from its settings.

use super::command::{Command, Example, Group, Opt, OptValue, Run, Settings as TakesSettings};
use super::{Args, Failure, say};
use crate::config::Settings;
use crate::crypto::sealed::{Pin, SealedKey};
use crate::key_file;
use crate::types::Place;

pub const COMMAND: Command = Command {
    word: "pin",
    group: Group::Keys,
    usage: &["pin [--url] [SETTINGS]"],
    summary: "Print the pin of sealed sockets, and the page's URLs with it",
    about: &[
        "Prints the pin of the key that the settings name (--sealed-key), then the URL of the page with that pin for \
         each address listened on. A client that is given the pin connects to the server that has this key, or not at \
         all.",
        "Where the settings name two keys, it prints both pins, and which is which. The URLs have the present one.",
    ],
    arguments: &[],
    options: &[Opt { name: "url", value: OptValue::None, text: "Print the URLs only." }],
    settings: TakesSettings::Taken,
    surplus: "settings begin with two dashes",
    examples: &[Example { line: "racerd pin --sealed-key sealed.key --host gateway.lan", text: "" }],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Prints the pin, then the page's URL with it for each address listened on; with `--url` the URLs only.
///
/// # Errors
/// [`Failure::Usage`] where a setting is wrong, no key is set, or it cannot be read.
fn run(args: Args) -> Result<(), Failure> {
    let urls_only = args.has("url");
    let settings = args.into_invocation().read()?.settings;
    let pins: Vec<Pin> = key_file::sealed_keys(&settings)?.iter().map(SealedKey::pin).collect();
    let Some(pin) = pins.first() else {
        let text = "no key is set: give --sealed-key FILE; racerd keygen FILE makes one";
        return Err(Failure::Usage(text.into()));
    };
    let mut text = match pins.as_slice() {
        _ if urls_only => String::new(),
        [present, earlier] => format!("{present} present\n{earlier} before it\n"),
        _ => format!("{pin}\n"),
    };
    for url in urls(&settings, pin) {
        text.push_str(&url);
        text.push('\n');
    }
    say(&text);
    Ok(())
}

/// Returns the page's URLs. For a listener on all addresses of the machine, the URL has the first name of `--host`;
/// where there is none, the word `HOST`, for the user to replace.
fn urls(settings: &Settings, pin: &Pin) -> Vec<String> {
    let name = settings.listening.host.iter().find(|name| *name != "*").map_or("HOST", String::as_str);
    let authority = |place: &Place| match place.is_unspecified() {
        true => format!("{name}:{}", place.port()),
        false => place.authority(),
    };
    let scheme = if settings.tls.is_on() { "https" } else { "http" };
    let url = |address| format!("{scheme}://{}/rooms/lobby#pin={pin}", authority(address));
    settings.listening.listen.iter().map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_what_is_listened_on() {
        let mut settings = Settings::default();
        let pin = Pin::parse(&"A".repeat(43)).unwrap();
        settings.listening.listen = ["127.0.0.1:80", "[::1]:7077", "0.0.0.0:1"].map(|a| a.parse().unwrap()).to_vec();
        let tail = format!("/rooms/lobby#pin={pin}");
        let expected =
            ["http://127.0.0.1:80", "http://[::1]:7077", "http://HOST:1"].map(|head| format!("{head}{tail}"));
        assert_eq!(urls(&settings, &pin), expected);
        settings.listening.host = vec!["gateway.lan".to_string()];
        assert_eq!(urls(&settings, &pin)[2], format!("http://gateway.lan:1{tail}"));
        settings.tls.tls_self_signed = Some("tls".into());
        assert_eq!(urls(&settings, &pin)[0], format!("https://127.0.0.1:80{tail}"));
    }
}
