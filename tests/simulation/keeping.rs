//! The kind of log that a run has, and its retention: in memory, or in a database with limits by age, by count and by
//! size. Drawn from a random source of its own, so that the rest of a seed's run stays the same without it.

use racerd::crypto::at_rest::DataKey;
use racerd::protocol::encrypted;
use racerd::sqlite::StoreOptions;
use racerd::store::Bounds;
use racerd::testing::Random;
use racerd::types::{Durability, OnDamage, PageSize};

use super::agenda::{Micros, SECOND};
use super::limits::Limits;

/// Of the runs whose log outlives the server, one in this many uses SQLite: it is about ten times as expensive to
/// simulate.
const DATABASES: usize = 12;

#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// SQLite keeps the log.
    pub in_database: bool,
    /// Messages that are kept per room; 0: all.
    pub messages: u64,
    /// Retention time in milliseconds; 0: forever.
    pub keep_for: u64,
    /// The size limit of the database, in bytes.
    pub bytes: u64,
    pub page_size: PageSize,
    /// The key that seals its rows, if they are sealed.
    pub key: Option<[u8; 32]>,
    /// The approximate time between two damaged rows; 0 for never. Plain rows are restored before the next start, as
    /// from a backup: the tests of the store and of the server cover a start on a damaged database.
    pub damage: Micros,
    /// Seconds for which sessions are parked, in a run with many rooms that are emptied, removed, and come anew.
    pub brief: Option<u64>,
}

impl Keeping {
    pub fn draw(limits: &Limits, databases: bool, random: &mut Random) -> Keeping {
        let in_database = limits.durability != Durability::Memory && (random.below(DATABASES) == 0 || databases);
        let messages = if random.below(3) == 0 { random.magnitude((1, 100)) } else { 0 };
        let keep_for = match random.below(4) {
            0 => 0,
            1 => random.magnitude((86_400_000, 30 * 86_400_000)),
            _ => random.magnitude((1_000, 600_000)),
        };
        let bytes = if random.below(3) == 0 { random.magnitude((160 << 10, 1 << 20)) } else { 1 << 30 };
        let key = (random.below(3) == 0).then(|| random.array());
        let damage = if key.is_some() && random.coin() { random.magnitude((SECOND, 60 * SECOND)) } else { 0 };
        let is_plain = key.is_none() && random.below(2) == 0;
        let damage = if is_plain { random.magnitude((SECOND, 60 * SECOND)) } else { damage };
        let page_size = *random.pick(&PageSize::ALL);
        let brief = (in_database && random.below(3) == 0).then(|| random.magnitude((1, 5)));
        let keep_for = if brief.is_some() { random.magnitude((500, 3_000)) } else { keep_for };
        // In a small database that keeps everything, whoever has written most is refused first.
        if in_database && brief.is_none() && random.below(4) == 0 {
            let bytes = random.magnitude((160 << 10, 400 << 10));
            return Keeping { in_database, messages: 0, keep_for: 0, bytes, page_size, key, damage, brief };
        }
        Keeping { in_database, messages, keep_for, bytes, page_size, key, damage, brief }
    }

    /// Returns whether messages may be pruned at all.
    pub fn lets_go(&self) -> bool {
        self.messages > 0 || self.keep_for > 0
    }

    pub fn bounds(&self, limits: &Limits) -> Bounds {
        Bounds {
            max_database_size: self.bytes,
            memory_room_bytes: limits.room_bytes,
            memory_total_bytes: limits.total_bytes,
            keep_messages: self.messages,
            keep_for: self.keep_for,
            rooms_max: 0xff_ffff,
            parked_max: limits.parked_max as u64,
            park_for: limits.park_for,
            commit_delay: std::time::Duration::ZERO,
        }
    }

    pub fn options(&self, limits: &Limits, random: &mut Random) -> StoreOptions {
        StoreOptions {
            path: Default::default(),
            durability: limits.durability,
            page_size: self.page_size,
            bounds: self.bounds(limits),
            on_damage: OnDamage::Stop,
            scrub_rate: 0,
            data_key: self.key.map(DataKey::new),
            new_epoch: random.array(),
            new_token_salt: random.array(),
            new_log_salt: random.array(),
            sealed_body: encrypted::of_stored,
            boot_id: String::new(),
        }
    }
}
