//! What another reading of the settings changes for a server that runs: which values it takes at once, and which wait
//! for a restart. Knows nothing of the parts that keep within them.

use super::{Settings, all};

/// The difference between what holds and what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is to hold from now on: what was read, but for the settings that cannot change while running.
    pub settings: Settings,
    /// Settings that take their new value now, in the order of the declaration.
    pub taken: Vec<Changed>,
    /// Settings that were read otherwise than they hold, and need a restart.
    pub waiting: Vec<Changed>,
}

/// One setting, with its values as one would write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub field: &'static str,
    pub old: String,
    pub new: String,
}

impl Change {
    /// From what holds and what was read.
    pub fn between(running: &Settings, read: &Settings) -> Change {
        let mut change = Change { settings: read.clone(), ..Change::default() };
        for setting in all() {
            let (old, new) = ((setting.read)(running), (setting.read)(read));
            if old == new {
                continue;
            }
            let changed = Changed { field: setting.field, old: setting.show(running), new: setting.show(read) };
            if setting.live {
                change.taken.push(changed);
            } else {
                // What a setting gave, it takes.
                let _ = (setting.write)(&mut change.settings, old);
                change.waiting.push(changed);
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_ones_are_taken_and_others_wait() {
        let running = Settings::default();
        let mut read = Settings::default();
        read.time.ping_period = 5_000;
        read.storage.data = "other.db".into();
        let change = Change::between(&running, &read);
        let changed = |field, old: &str, new: &str| Changed { field, old: old.to_string(), new: new.to_string() };
        assert_eq!(change.taken, [changed("ping_period", "25s", "5s")]);
        assert_eq!(change.waiting, [changed("data", "racerd.db", "other.db")]);
        assert_eq!(change.settings.time.ping_period, 5_000);
        assert_eq!(change.settings.storage, running.storage);
        // Taken once; what waits goes on waiting.
        let again = Change::between(&change.settings, &read);
        assert_eq!((again.taken.len(), again.waiting.len()), (0, 1));
        assert_eq!(Change::between(&running, &running), Change { settings: running.clone(), ..Change::default() });
    }
}
