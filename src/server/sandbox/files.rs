//! The file half of the sandbox: Landlock (Linux 5.13 and later). From its version 4 on it also forbids to listen on
//! further TCP ports and to connect to any, and from version 6 on to signal other processes.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use super::{Hold, Reach};

/// The version whose rights are taken away. An older kernel takes those that it knows; rights of later versions are
/// left alone, since no kernel that has them was at hand to try.
const VERSION: ABI = ABI::V7;

const ABSENT: &str = "this kernel has no Landlock (it needs Linux 5.13 or later, with landlock among its LSMs)";
const OLD: &str = "this kernel's Landlock is too old to forbid connections to other machines or signals to other \
                   processes (Linux 6.12 can)";

/// Returns whether a server would be held. Changes nothing.
pub fn offered() -> Hold {
    if rules(CompatLevel::HardRequirement).and_then(Ruleset::create).is_ok() {
        Hold::Whole
    } else if Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
    {
        Hold::Part(OLD)
    } else {
        Hold::Missing(ABSENT.to_string())
    }
}

/// Takes from this thread, and from those that it makes later, every right to files but these.
pub fn enter(reach: &Reach) -> Hold {
    match restrict(reach) {
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => Hold::Whole,
            RulesetStatus::PartiallyEnforced => Hold::Part(OLD),
            RulesetStatus::NotEnforced => Hold::Missing(ABSENT.to_string()),
        },
        Err(error) => Hold::Missing(error.to_string()),
    }
}

/// Returns what is forbidden but for exceptions.
fn rules(level: CompatLevel) -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::Signal)
}

fn restrict(reach: &Reach) -> Result<RestrictionStatus, RulesetError> {
    let reading = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let writing = reading | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    let mut rules = rules(CompatLevel::BestEffort)?.create()?;
    for (paths, access) in [(&reach.written, writing), (&reach.read, reading)] {
        for path in paths {
            // The part of the server that opens a missing path reports it.
            let Ok(place) = PathFd::new(path) else { continue };
            let access: BitFlags<AccessFs> = if path.is_dir() { access } else { access & AccessFs::from_file(VERSION) };
            rules = rules.add_rule(PathBeneath::new(place, access))?;
        }
    }
    rules.restrict_self()
}
