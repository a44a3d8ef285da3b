//! `racerd pin [--url]`: what a client has to know of a server with sealed sockets, from the settings.

use super::{Failure, given::Given, say};
use crate::config::Settings;
use crate::crypto::sealed::Pin;
use crate::key_file;
use crate::types::Place;
use std::ffi::OsString;

/// Prints the pin, then the page's URL with it for each address that is listened on; with `--url` the latter alone.
///
/// # Errors
/// [`Failure::Usage`] where a setting is wrong, no key is set, or it cannot be read.
pub fn run(
    mut args: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let before = args.len();
    args.retain(|arg| arg != "--url");
    let urls_only = args.len() < before;
    let settings = Given::new(args, environment).read()?.settings;
    let Some(path) = &settings.sealed.sealed_key else {
        let text = "no key is set: give --sealed-key FILE; racerd keygen FILE makes one";
        return Err(Failure::Usage(text.to_string()));
    };
    let pin = key_file::read_sealed_key(path).map_err(Failure::of_file)?.pin();
    let mut text = if urls_only { String::new() } else { format!("{pin}\n") };
    for url in urls(&settings, &pin) {
        text.push_str(&url);
        text.push('\n');
    }
    say(&text);
    Ok(())
}

/// The page's URLs. Where all addresses of the machine are listened on, the first of the names that are set stands for it;
/// where there is none, `HOST`, for a person to fill in.
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
