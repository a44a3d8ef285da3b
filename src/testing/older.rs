//! Databases of older versions: the SQL that takes one of the newest version back. Its rows stay what a server wrote.
//! `sqlite/back.rs` seals those of a sealed one as before.

/// `BACK[n]` takes version n + 2 back to version n + 1.
const BACK: [&str; 12] = [
    "DROP TABLE parked; ALTER TABLE meta DROP COLUMN token_key",
    "ALTER TABLE meta DROP COLUMN rekey; ALTER TABLE meta DROP COLUMN key_id",
    "DROP TABLE sealed_bodies_filled; DROP TABLE sealed_bodies",
    "ALTER TABLE meta DROP COLUMN clock",
    "ALTER TABLE meta DROP COLUMN scrubbed; ALTER TABLE meta DROP COLUMN damage",
    "ALTER TABLE messages DROP COLUMN key",
    "DROP INDEX rooms_by_oldest; ALTER TABLE rooms DROP COLUMN oldest_at; ALTER TABLE rooms DROP COLUMN oldest",
    "DROP TABLE free_rooms; DROP TABLE removals; DROP INDEX rooms_by_use; ALTER TABLE rooms DROP COLUMN used;
     ALTER TABLE rooms DROP COLUMN era",
    "DROP INDEX rooms_by_size; ALTER TABLE rooms DROP COLUMN bytes",
    // Those versions store a key, if rows are plain.
    "UPDATE meta SET token_key = CASE WHEN key_id IS NULL THEN token_salt END; ALTER TABLE meta DROP COLUMN token_salt",
    "DROP TABLE log_salt; ALTER TABLE meta DROP COLUMN log_salt",
    "DROP TABLE standings",
];

/// The first version whose rows may be sealed.
pub const FIRST_SEALED: i32 = 3;

/// The first version that has a salt for the key of session tokens, and the first that has one for that of sealed rows.
pub const FIRST_WITH_A_TOKEN_SALT: i32 = 11;
pub const FIRST_WITH_A_LOG_SALT: i32 = 12;

/// The versions before the newest one.
pub fn versions() -> std::ops::RangeInclusive<i32> {
    1..=BACK.len() as i32
}

/// Returns whether sealed rows of a database of this version know no salt.
pub fn is_sealed_without_a_salt(version: i32) -> bool {
    version < FIRST_WITH_A_LOG_SALT
}

/// Returns the SQL that takes a database of the newest version, closed in order, back to an older version. (A server
/// that was killed leaves heads and keys in the rows of messages alone, which versions before 7 do not know.) A sealed
/// one can go back to [`FIRST_SEALED`].
///
/// # Panics
/// There is no such older version.
pub fn back_to(version: i32) -> String {
    assert!(versions().contains(&version), "version {version} is not an older one");
    let back = BACK.iter().skip(version as usize - 1).rev().copied();
    let ends = format!("PRAGMA user_version = {version}");
    back.chain([ends.as_str()]).collect::<Vec<_>>().join("; ")
}
