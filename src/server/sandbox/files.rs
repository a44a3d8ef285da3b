//! The file half of the sandbox: Landlock (Linux 5.13 and later). From its version 4 on it also forbids to listen on
//! further TCP ports and to connect to any, and from version 6 on to signal other processes.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use super::{Hold, Reach};

/// The versions that bring rights to take away, oldest first. An older kernel takes those that it knows. Version 7 only
/// brings what is logged; rights of later versions are left alone, since no kernel that has them was at hand to try.
const VERSIONS: [ABI; 6] = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];

const ABSENT: &str = "this kernel has no Landlock (it needs Linux 5.13 or later, with landlock among its LSMs)";

/// Accesses that older kernels cannot forbid, each with the first version of Linux that can.
const LATER: [(ABI, &str); 4] = [
    (ABI::V3, "emptying files that are only read (Linux 6.2 can)"),
    (ABI::V4, "TCP connections to other machines and further TCP ports (6.7)"),
    (ABI::V5, "commands to devices (6.10)"),
    (ABI::V6, "signals to other processes and their abstract sockets (6.12)"),
];

/// The accesses that are denied except where a rule allows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights {
    files: BitFlags<AccessFs>,
    ports: BitFlags<AccessNet>,
    scopes: BitFlags<Scope>,
}

/// Returns what is taken away with a Landlock of this version.
fn rights(version: ABI, reach: &Reach) -> Rights {
    let mut scopes = Scope::from_all(version);
    if reach.abstract_sockets {
        scopes.remove(Scope::AbstractUnixSocket);
    }
    Rights { files: AccessFs::from_all(version), ports: AccessNet::from_all(version), scopes }
}

/// Returns how far a Landlock of this version holds a server.
fn hold(version: ABI) -> Hold {
    if version == ABI::Unsupported {
        return Hold::Missing(ABSENT.to_string());
    }
    let lacks: Vec<&str> = LATER.iter().filter(|(since, _)| version < *since).map(|(_, what)| *what).collect();
    match lacks.is_empty() {
        true => Hold::Whole,
        false => Hold::Part(format!("this kernel's Landlock is too old to forbid {}", lacks.join(", "))),
    }
}

/// Returns the version of this kernel, or the newest whose rights are taken away. Changes nothing.
fn version() -> ABI {
    let reach = Reach::default();
    let is_there =
        |version: &ABI| rules(rights(*version, &reach), CompatLevel::HardRequirement).and_then(Ruleset::create).is_ok();
    VERSIONS.into_iter().rev().find(is_there).unwrap_or(ABI::Unsupported)
}

/// Returns whether a server would be held. Changes nothing.
pub fn offered() -> Hold {
    hold(version())
}

/// Takes from this thread, and from those that it makes later, every right to files but these.
pub fn enter(reach: &Reach) -> Hold {
    let version = version();
    if version == ABI::Unsupported {
        return hold(version);
    }
    match restrict(reach, version) {
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => hold(version),
            RulesetStatus::PartiallyEnforced => Hold::Part("the kernel enforces only a part of it".to_string()),
            RulesetStatus::NotEnforced => Hold::Missing(ABSENT.to_string()),
        },
        Err(error) => Hold::Missing(error.to_string()),
    }
}

/// Returns what is forbidden but for exceptions. Nothing may be asked for by an empty set.
fn rules(rights: Rights, level: CompatLevel) -> Result<Ruleset, RulesetError> {
    let mut rules = Ruleset::default().set_compatibility(level).handle_access(rights.files)?;
    if !rights.ports.is_empty() {
        rules = rules.handle_access(rights.ports)?;
    }
    if !rights.scopes.is_empty() {
        rules = rules.scope(rights.scopes)?;
    }
    Ok(rules)
}

fn restrict(reach: &Reach, version: ABI) -> Result<RestrictionStatus, RulesetError> {
    let rights = rights(version, reach);
    let mut rules = rules(rights, CompatLevel::BestEffort)?.create()?;
    for (paths, access) in [(&reach.written, WRITING), (&reach.read, READING)] {
        for path in paths {
            // The part of the server that opens a missing path reports it.
            let Ok(place) = PathFd::new(path) else { continue };
            let access = access & rights.files;
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(version) };
            rules = rules.add_rule(PathBeneath::new(place, access))?;
        }
    }
    rules.restrict_self()
}

const READING: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const WRITING: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile});

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server asks for of each Landlock, and what it says of it.
    #[test]
    fn each_version_is_asked_for_what_it_has_and_the_rest_is_told() {
        let (none, tcp) = (BitFlags::EMPTY, AccessNet::BindTcp | AccessNet::ConnectTcp);
        let one = AccessFs::from_all(ABI::V1);
        let (two, three) = (one | AccessFs::Refer, one | AccessFs::Refer | AccessFs::Truncate);
        let five = three | AccessFs::IoctlDev;
        let all = Scope::Signal | Scope::AbstractUnixSocket;
        for (version, files, ports, scopes, lacks) in [
            (ABI::Unsupported, BitFlags::EMPTY, none, BitFlags::EMPTY, 4),
            (ABI::V1, one, none, BitFlags::EMPTY, 4),
            (ABI::V2, two, none, BitFlags::EMPTY, 4),
            (ABI::V3, three, none, BitFlags::EMPTY, 3),
            (ABI::V4, three, tcp, BitFlags::EMPTY, 2),
            (ABI::V5, five, tcp, BitFlags::EMPTY, 1),
            (ABI::V6, five, tcp, all, 0),
            (ABI::V7, five, tcp, all, 0),
        ] {
            assert_eq!(rights(version, &Reach::default()), Rights { files, ports, scopes }, "{version:?}");
            // What is not there is not asked for: the kernel would refuse all of it.
            for access in [READING, WRITING] {
                assert!(rights(version, &Reach::default()).files.contains(access & files), "{version:?}");
            }
            match hold(version) {
                Hold::Missing(reason) => assert!(version == ABI::Unsupported && reason == ABSENT, "{reason}"),
                Hold::Part(but) => {
                    let told = LATER.iter().filter(|(_, what)| but.contains(what)).count();
                    assert_eq!(told, lacks, "{version:?}: {but}");
                    // The newest lack is told whenever there is one, and the text is one line.
                    assert!(but.ends_with(LATER[3].1) && !but.contains('\n'), "{but}");
                }
                Hold::Whole => assert_eq!(lacks, 0, "{version:?}"),
            }
        }
    }

    /// A service manager whose socket has an abstract name must still be told.
    #[test]
    fn an_abstract_socket_of_the_service_manager_stays_in_reach() {
        let reach = Reach { abstract_sockets: true, ..Reach::default() };
        assert_eq!(rights(ABI::V6, &reach).scopes, BitFlags::from(Scope::Signal));
    }

    /// The running kernel is one of these, and looking takes nothing away.
    #[test]
    fn looking_changes_nothing() {
        assert_eq!(offered(), hold(version()));
        assert!(std::fs::read("/proc/self/exe").is_ok());
    }
}
