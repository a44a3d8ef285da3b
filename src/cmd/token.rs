//! `racerd token SUB`: makes a token for somebody, and the line of the access file by which they are known.

use super::command::{Argument, Command, Completion, Example, Group, Opt, OptValue, Run, Settings};
use super::{Args, Failure, complain, random, say};
use crate::access::{Credential, Door, Grants, Sub};
use crate::config::shown;
use crate::types::{Name, Right, RoomId, RoomPattern};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use std::ffi::OsString;
use zeroize::Zeroizing;

/// How tokens begin, so that they are recognized where they should not be: in a log, or in a repository.
const BEGINNING: &str = "rt1_";

pub const COMMAND: Command = Command {
    word: "token",
    group: Group::Keys,
    usage: &["token SUB [--name NAME] [--grant ROOM=RIGHT]... [--admin]"],
    summary: "Make a token for somebody, and their line of the access file",
    about: &[
        "Prints a new token on the first line, and on the second what belongs under [people] in the access file \
         (--access-file). The token is for its owner alone and is kept nowhere; the line has only its SHA-256.",
        "A running server reads the access file again at SIGHUP. Who loses a token gets a new one: list both digests, \
         token_sha256 = [\"...\", \"...\"], until the old one is no longer used.",
    ],
    arguments: &[Argument {
        name: "SUB",
        text: "What the server calls them: 1 to 64 characters of A-Z a-z 0-9 . _ ~ + @ -. Other people see NAME.",
        completion: Completion::None,
    }],
    options: &[
        Opt { name: "name", value: OptValue::Text("NAME"), text: "The name that others see. Without it, it is SUB." },
        Opt {
            name: "grant",
            value: OptValue::Text("ROOM=RIGHT"),
            text: "What they may do, and where: read, send or moderate, each of which includes those before it, in a room, \
                   in all whose id begins so (team-*), or in every room (*). It may be given more than once.",
        },
        Opt { name: "admin", value: OptValue::None, text: "They may do everything, in every room." },
    ],
    settings: Settings::NotTaken,
    surplus: "it makes a token for one SUB",
    examples: &[Example {
        line: "racerd token alice --name Alice --grant 'team-*=send' --grant '*=read'",
        text: "Then: racerd --access-file access.toml",
    }],
    exit_codes: &[],
    run: Run::OneShot(run),
};

/// Makes the token and prints it with its line.
///
/// # Errors
/// [`Failure::Usage`] where the sub, the name or a grant is none; [`Failure::Failed`] without randomness.
fn run(mut args: Args) -> Result<(), Failure> {
    let person = Described::read(&mut args).map_err(|text| Failure::Usage(text.into()))?;
    let secret = random::<32>().map_err(|why| Failure::Failed(why.into()))?;
    let token = Zeroizing::new(format!("{BEGINNING}{}", BASE64URL_NOPAD.encode(&*secret)));
    say(&format!("{}\n{}\n", *token, person.line(&Credential::of(token.as_bytes()))));
    complain(
        "the first line is the token, which is kept nowhere; the second belongs under [people] in the access file",
    );
    Ok(())
}

/// Somebody as the arguments describe them.
#[derive(Debug)]
struct Described {
    sub: String,
    name: Option<Name>,
    grants: Grants,
}

impl Described {
    fn read(args: &mut Args) -> Result<Described, String> {
        let text = |what: &str, value: OsString| value.into_string().map_err(|_| format!("{what} is not valid UTF-8"));
        let sub = text("SUB", args.required("SUB").map_err(|failure| failure.to_string())?)?;
        if Sub::at(Door::File, &sub).is_none() {
            return Err(format!("token: {}: {}", shown(&sub), Sub::RULE));
        }
        let mut read = Described { sub, name: None, grants: Grants::default() };
        for (option, value) in args.take_options() {
            let value = text(&format!("--{option}"), value)?;
            match option {
                "name" => read.name = Some(Name::parse(&value).map_err(|fault| format!("--name: {}", fault.text()))?),
                "admin" => read.grants.admin = true,
                _ => read.grants.rooms.push(grant(&value)?),
            }
        }
        match read.grants.rooms.len() <= Grants::MAX {
            true => Ok(read),
            false => Err(format!("--grant: at most {} of them", Grants::MAX)),
        }
    }

    /// Returns the line of the access file.
    fn line(&self, credential: &Credential) -> String {
        let mut fields = Vec::new();
        if let Some(name) = &self.name {
            fields.push(format!("name = {}", quoted(name.as_str())));
        }
        fields.push(format!("token_sha256 = \"{}\"", HEXLOWER.encode(&credential.0)));
        if !self.grants.rooms.is_empty() {
            // Neither a pattern nor a right has a character that TOML would need to have escaped.
            let grants: Vec<String> =
                self.grants.rooms.iter().map(|(rooms, right)| format!("\"{rooms}\" = \"{right}\"")).collect();
            fields.push(format!("grants = {{ {} }}", grants.join(", ")));
        }
        if self.grants.admin {
            fields.push("admin = true".to_owned());
        }
        format!("\"{}\" = {{ {} }}", self.sub, fields.join(", "))
    }
}

/// Returns a text as TOML. A name has no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn grant(text: &str) -> Result<(RoomPattern, Right), String> {
    let wrong = |why: &str| format!("--grant {}: {why}", shown(text));
    let (rooms, right) = text.rsplit_once('=').ok_or_else(|| wrong("write ROOM=RIGHT, such as 'team-*=send'"))?;
    let rooms = RoomPattern::parse(rooms)
        .ok_or_else(|| wrong(&format!("the room is {}: {}", RoomPattern::RULE, RoomId::RULE)))?;
    let right = Right::parse(right).ok_or_else(|| wrong("the right is read, send or moderate"))?;
    Ok((rooms, right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::people;
    use crate::config::File;

    fn of(args: &[&str]) -> Result<Described, String> {
        let mut args =
            Args::read(&COMMAND, args.iter().map(OsString::from), []).map_err(|failure| failure.to_string())?;
        Described::read(&mut args)
    }

    /// What is printed is read back as what was asked for.
    #[test]
    fn the_line_is_one_of_an_access_file() {
        let credential = Credential::of(b"secret");
        for (args, name, rights) in [
            (&["alice"][..], "alice", [None, None]),
            (&["a.b@c", "--name", "A \"b\" \\", "--grant", "team-*=send"], "A \"b\" \\", [Some(Right::Send), None]),
            (&["--grant=*=read", "x", "--grant", "team-a=moderate"], "x", [Some(Right::Moderate), Some(Right::Read)]),
            (&["root", "--admin"], "root", [Some(Right::Moderate); 2]),
        ] {
            let text = format!("[people]\n{}\n", of(args).unwrap().line(&credential));
            let people = people(&File { name: "access.toml", text: &text }).unwrap();
            let [person] = people.as_slice() else { panic!("{text}") };
            let has = ["team-a", "lobby"].map(|room| person.grants.right_in(&RoomId::parse(room).unwrap()));
            assert_eq!((person.name.as_str(), has), (name, rights), "{text}");
            assert_eq!(person.credentials, [credential]);
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (args, expected) in [
            (&[][..], "token needs SUB; usage: racerd token SUB"),
            (&["a b"], "token: a b: it has 1 to 64 characters"),
            (&["a", "--grant", "lobby"], "--grant lobby: write ROOM=RIGHT"),
            (&["a", "--grant", "lobby=write"], "--grant lobby=write: the right is read, send or moderate"),
            (&["a", "--grant", "a/b=read"], "--grant a/b=read: the room is neither"),
            (&["a", "--name", ""], "--name: a name has"),
            (&["a", "b"], "token: too many arguments"),
        ] {
            let error = of(args).unwrap_err();
            assert!(error.starts_with(expected), "{args:?}: {error}");
        }
    }
}
