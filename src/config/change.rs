//! Compares newly read settings with those of a running server: which values take effect at once, and which wait for a
//! restart. Knows nothing of the parts that apply them.

use super::{Settings, all};

/// The difference between the settings in effect and those that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The settings in effect from now on: those that were read, except the ones that cannot change while running.
    pub settings: Settings,
    /// Settings that take their new value now, in the order of the declaration.
    pub taken: Vec<Changed>,
    /// Settings whose new value differs from the one in effect, and needs a restart.
    pub waiting: Vec<Changed>,
}

/// One setting, with its values as a user would write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub field: &'static str,
    pub old: String,
    pub new: String,
}

impl Change {
    /// Computes the change from the running settings to those that were read.
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
                // Cannot fail: a setting takes back a value that it gave.
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
        // A live value is taken once; the others keep waiting.
        let again = Change::between(&change.settings, &read);
        assert_eq!((again.taken.len(), again.waiting.len()), (0, 1));
        assert_eq!(Change::between(&running, &running), Change { settings: running.clone(), ..Change::default() });
    }
}
