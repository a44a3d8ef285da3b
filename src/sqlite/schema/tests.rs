//! Versions, and what a run finds in the row about the log.

use super::*;
use crate::types::Digest;

fn run(durability: Durability, boot: &'static str, fresh: &'static str) -> Run<'static> {
    let (new_token_salt, new_log_salt) = ([fresh.len() as u8; 32], LogSalt([fresh.len() as u8; 16]));
    Run { durability, boot, fresh, new_token_salt, new_log_salt, data_key: None, lost: false }
}

#[test]
fn the_epoch_changes_when_seqs_could_be_reused_and_only_then() {
    use Durability::{Full, Normal};
    // (durability, boot, ended cleanly) of one run; durability and boot of the next; whether the epoch stays.
    let cases = [
        (Full, "b1", false, Full, "b2", true),
        (Full, "b1", false, Normal, "b2", true),
        (Normal, "b1", false, Normal, "b1", true),
        (Normal, "b1", true, Normal, "b2", true),
        (Normal, "b1", false, Normal, "b2", false),
        (Normal, "b1", false, Full, "b2", false),
        (Normal, "", false, Normal, "", false),
    ];
    for (durability, boot, clean, next, next_boot, stays) in cases {
        let conn = Connection::open_in_memory().unwrap();
        assert_eq!(migrate(&conn).unwrap(), VERSION);
        assert_eq!(begin_run(&conn, &run(durability, boot, "first")).unwrap().epoch.0.as_ref(), "first");
        if clean {
            end_run(&conn, 77, true).unwrap();
        }
        let begun = begin_run(&conn, &run(next, next_boot, "second")).unwrap();
        assert_eq!(begun.token_key, *plain_tokens(&[5; 32]), "the first one's, whatever the epoch is");
        let expected = if stays { "first" } else { "second" };
        assert_eq!(begun.epoch.0.as_ref(), expected, "{durability:?} {boot} {clean} {next:?} {next_boot}");
        assert_eq!(begun.running, if clean { 77 } else { 0 });
    }
}

#[test]
fn a_migrated_database_is_left_alone_and_a_newer_one_too() {
    let conn = Connection::open_in_memory().unwrap();
    migrate(&conn).unwrap();
    assert_eq!(migrate(&conn).unwrap(), VERSION);
    conn.pragma_update(None, "user_version", VERSION + 1).unwrap();
    assert_eq!(migrate(&conn).unwrap(), VERSION + 1);
    let id: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_eq!(id, APPLICATION_ID);
}

/// What is stored in the schema of a file is the very text, comments and all, and a file is held against it.
#[test]
fn a_step_is_never_changed_once_files_have_it() {
    const DIGESTS: [&str; 13] = [
        "ae5d5a98cc1574a4040396cc8df865d8",
        "582bf479724c6283f37013ba6b761caf",
        "04e567480ddebbf40cf1705a6af022a5",
        "80a9b54727d6d5362bce61d60952ffd3",
        "8720a1842a2ef6e350d4f52dc9556152",
        "30272870ec901742d5e4d537c0b1ba87",
        "5da3adf9016ad067aa9cbd0682b3971d",
        "243b00473176a4bccf03b7040ef13ab5",
        "d5fca00a8557ae1362528a1064268ac0",
        "65a384d01fa89011917d017828b6683b",
        "0fd34f00f37a27713e09374b2b9f492b",
        "5b9280e0ef34ce45828fa3cf69d543e6",
        "ad5dc2604efb2996882d6e27dc00a195",
    ];
    let digest = |step: &&str| Digest::of(step.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect();
    let digests: Vec<String> = MIGRATIONS.iter().map(digest).collect();
    assert_eq!(digests, DIGESTS);
}

/// A room's row has the time of its folded head only; its last message may be newer, or older than that of another.
#[test]
fn the_newest_time_may_be_that_of_a_message_that_waits_for_a_fold() {
    let conn = Connection::open_in_memory().unwrap();
    migrate(&conn).unwrap();
    assert_eq!(newest(&conn), Ok(None), "no room");
    let say = |room: i64, seq: u64, at: i64| {
        let id = message_id(room, Seq(seq));
        conn.execute("INSERT INTO messages (id, at, name, body) VALUES (?1, ?2, '', '')", params![id, at]).unwrap();
    };
    conn.execute_batch("INSERT INTO rooms (id, name, head, at, common) VALUES (1, 'a', 0, 0, 0)").unwrap();
    assert_eq!(newest(&conn), Ok(None), "a room without messages");
    say(1, 1, 500);
    say(1, 2, 700);
    assert_eq!(newest(&conn), Ok(Some(WallMillis(700))), "nothing is folded");
    conn.execute_batch("UPDATE rooms SET head = 1, at = 500").unwrap();
    assert_eq!(newest(&conn), Ok(Some(WallMillis(700))), "one of two is");
    conn.execute_batch("INSERT INTO rooms (id, name, head, at, common) VALUES (2, 'b', 9, 600, 0)").unwrap();
    assert_eq!(newest(&conn), Ok(Some(WallMillis(700))));
    conn.execute_batch("UPDATE rooms SET head = 20, at = 800 WHERE id = 2").unwrap();
    assert_eq!(newest(&conn), Ok(Some(WallMillis(800))), "its messages were deleted");
}
