//! The attacks: name, what each does, what it is to leave alone, how the server stands there, and by which bounds it
//! is judged. What an attack says is in the module of its group.

pub mod abroad;
mod connections;
mod http;
mod machines;
mod rooms;
mod sockets;
mod tls;

pub use tls::client as tls_client;

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::judge::Bounds;
use crate::load::Plan;
use crate::wire;

/// From where an attack comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One address, with as many connections as an address may have.
    One,
    /// 60 addresses of 60 networks.
    Sixty,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Form::One => "1",
            Form::Sixty => "60",
        }
    }

    pub fn of(name: &str) -> Option<Form> {
        [Form::One, Form::Sixty].into_iter().find(|form| form.name() == name)
    }

    pub fn sources(self) -> Vec<Ipv6Addr> {
        match self {
            Form::One => vec![wire::attacker(0)],
            Form::Sixty => (0..wire::ATTACKERS).map(wire::attacker).collect(),
        }
    }

    /// Returns how many connections an attack holds: 256 of one address, or eight of each of sixty.
    pub fn connections(self) -> usize {
        match self {
            Form::One => 256,
            Form::Sixty => 480,
        }
    }
}

/// The certificate's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certificate {
    P256,
    Rsa2048,
    Rsa4096,
}

/// The fault of the machine on which the server runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    Sound,
    /// Each sync of the disk takes so long.
    SlowDisk(Duration),
    /// A cgroup limits the memory to this many bytes.
    Memory(u64),
    /// This many files may be open.
    Files(u32),
    /// The disk has this many bytes.
    Disk(u64),
    /// Nobody reads the log.
    LogUnread,
    /// The server is stopped for so long in the middle of the attack.
    Stopped(Duration),
}

/// How the server is started, beside its addresses and its database.
#[derive(Clone, Copy)]
pub struct Shape {
    pub arguments: &'static [&'static str],
    pub machine: Machine,
    pub tls: Option<Certificate>,
    /// It also speaks sealed.
    pub is_sealed: bool,
    /// Honest members who are idle meanwhile.
    pub idle: usize,
}

pub const SOUND: Shape = Shape { arguments: &[], machine: Machine::Sound, tls: None, is_sealed: false, idle: 10 };

/// Which attacks run if none is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    Short,
    Long,
}

#[derive(Clone, Copy)]
pub struct Attack {
    pub name: &'static str,
    pub does: &'static str,
    pub protects: &'static str,
    pub length: Length,
    pub forms: &'static [Form],
    pub shape: Shape,
    pub plan: fn(Form) -> Plan,
    pub bounds: Bounds,
}

impl Attack {
    /// Lets the server stand otherwise.
    fn on(self, shape: Shape) -> Attack {
        Attack { shape, ..self }
    }

    /// Judges it by other bounds.
    fn within(self, bounds: Bounds) -> Attack {
        Attack { bounds, ..self }
    }
}

/// Returns an attack on a sound machine, by the stated bounds.
fn attack(
    name: &'static str,
    does: &'static str,
    protects: &'static str,
    length: Length,
    forms: &'static [Form],
    plan: fn(Form) -> Plan,
) -> Attack {
    Attack { name, does, protects, length, forms, shape: SOUND, plan, bounds: Bounds::STATED }
}

pub const BOTH: &[Form] = &[Form::One, Form::Sixty];
pub const ONE: &[Form] = &[Form::One];
pub const SIXTY: &[Form] = &[Form::Sixty];

/// Returns all attacks.
pub fn all() -> Vec<Attack> {
    [http::attacks(), sockets::attacks(), rooms::attacks(), tls::attacks(), connections::attacks(), machines::attacks()]
        .concat()
}

pub fn named(name: &str) -> Option<Attack> {
    all().into_iter().find(|attack| attack.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_have_names_of_their_own_and_say_what_they_do() {
        let all = all();
        let names: std::collections::BTreeSet<_> = all.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all.len());
        for attack in &all {
            assert!(attack.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert!(!attack.does.is_empty() && !attack.protects.is_empty() && !attack.forms.is_empty());
        }
    }

    #[test]
    fn every_attack_has_somebody_who_does_it() {
        for attack in all() {
            for form in attack.forms {
                let plan = (attack.plan)(*form);
                assert!(!plan.before.is_empty() || !plan.attack.is_empty(), "{}", attack.name);
                for script in plan.before.iter().chain(&plan.attack) {
                    assert!(script.connections > 0 && !script.sources.is_empty(), "{}", attack.name);
                }
            }
        }
    }
}
