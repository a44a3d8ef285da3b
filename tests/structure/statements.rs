//! The plans of all SQL statements: each one in `src/sqlite` finds its rows by a whole key, or in the order of a key up
//! to a LIMIT with no other condition, or it is named below with the reason why it may read more. The SQLite that is
//! built in explains them, on a database with 100,000 rows in each table, without and with statistics.
//!
//! Statements are found in the sources, as the strings that begin with one of SQL's verbs. The rules at the end see to
//! it that no statement can be written in another way.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use crate::source::{File, Literal, collect, paths, strings, strip, test_modules, without_tests};

/// A statement, and a line of its plan that reads more than a key, a stretch or a step, or sorts.
struct Exception {
    file: &'static str,
    /// The beginning of the statement.
    sql: &'static str,
    plan: &'static str,
    reason: &'static str,
}

const fn reads(file: &'static str, sql: &'static str, plan: &'static str, reason: &'static str) -> Exception {
    Exception { file, sql, plan, reason }
}

const CHECK: &str = "'racerd check' reads everything, once";
const SALVAGE: &str = "'racerd salvage' reads everything, once";
const REKEY: &str = "'racerd rekey' writes everything anew, once";
const BACK: &str = "a test's database is sealed as before, once";
const EMPTIES: &str = "some rows at a time, whichever they are, until there are none";
const OLDEST: &str = "the first rows in the order of the table, up to a limit";
const NO_TABLE: &str = "no table of the file";
const STRETCH: &str = "SEARCH messages USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
const KEY_STRETCH: &str = "SEARCH keys USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
const STEP: &str = "the 2,000 windows or 1,000 messages of one step at most";
const COUNTED: &str = "the 2,000 rows of one step of counting at most";
const UNFOLDED: &str = "what waits for a fold, which is bounded";

const EXCEPTIONS: &[Exception] = &[
    reads(
        "back.rs",
        "SELECT messages.id, messages.at, member, body, name, era",
        "SEARCH messages USING INTEGER PRIMARY KEY (rowid>?)",
        BACK,
    ),
    reads("back.rs", "SELECT id, session, at, rooms FROM parked", "SCAN parked", BACK),
    reads("check.rs", "SELECT id, name, head, at, common, oldest, oldest_at FROM rooms", "SCAN rooms", CHECK),
    reads("check.rs", "SELECT id, name, head, at, common, oldest, oldest_at, era FROM rooms", "SCAN rooms", CHECK),
    reads("check.rs", "SELECT id, at, name, body, member, key FROM messages", "SCAN messages", CHECK),
    reads("check.rs", "SELECT id, name, head, at, common FROM rooms", "SCAN rooms", CHECK),
    reads("check.rs", "SELECT id, at, name, body, member, NULL FROM messages", "SCAN messages", CHECK),
    reads("check.rs", "SELECT room, entries FROM keys", "SCAN keys USING INDEX sqlite_autoindex_keys_1", CHECK),
    reads(
        "check.rs",
        "SELECT room, count(*), min(seq), max(seq) FROM common_keys",
        "SCAN common_keys USING COVERING INDEX common_keys_by_age",
        CHECK,
    ),
    reads("check.rs", "PRAGMA integrity_check(", "reads everything", CHECK),
    reads(
        "check.rs",
        "SELECT count(*) FROM free_rooms JOIN rooms",
        "SCAN rooms USING COVERING INDEX sqlite_autoindex_rooms_1",
        CHECK,
    ),
    reads("removal.rs", "SELECT id FROM free_rooms ORDER BY id LIMIT 1", "SCAN free_rooms", OLDEST),
    reads("removal.rs", "SELECT at FROM parked ORDER BY id LIMIT 1", "SCAN parked", OLDEST),
    reads(
        "scrub.rs",
        "SELECT oldest_at, id FROM rooms WHERE oldest_at IS NOT NULL",
        "SEARCH rooms USING COVERING INDEX rooms_by_oldest (oldest_at>?)",
        "in the order of the index, up to a limit: it has no room without a message",
    ),
    reads(
        "scrub.rs",
        "SELECT bytes, id FROM rooms WHERE bytes >= 16384",
        "SEARCH rooms USING COVERING INDEX rooms_by_size (bytes>?)",
        "in the order of the index, up to a limit: it has no room that is not large",
    ),
    reads("repair/sealed_salvage.rs", "SELECT 1 FROM messages WHERE name = '' AND substr", "SCAN messages", SALVAGE),
    reads("repair/rekey.rs", "SELECT 1 FROM messages WHERE name = '' AND substr", "SCAN messages", REKEY),
    reads("sizes.rs", "SELECT count(*), coalesce(sum(length(body)), 0) FROM messages", STRETCH, SALVAGE),
    reads("weight.rs", "SELECT count(*), ifnull(sum(length(entries)), 0) FROM keys", KEY_STRETCH, COUNTED),
    reads(
        "weight.rs",
        "SELECT ifnull(sum(common), 0) FROM rooms",
        "SEARCH rooms USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        COUNTED,
    ),
    reads("schema.rs", "DELETE FROM standings WHERE id IN", "SCAN standings", EMPTIES),
    reads("standings.rs", "SELECT count(*) FROM standings", "SCAN standings", "once a start; 16,000 rows at most"),
    reads(
        "standings.rs",
        "DELETE FROM standings WHERE id > ?1",
        "SEARCH standings USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "the 4,096 rows of one step at most",
    ),
    reads("start_check.rs", "PRAGMA quick_check(1)", "reads everything", "a start reads as far as its time goes"),
    reads(
        "parked.rs",
        "SELECT count(*), coalesce(sum(",
        "SCAN parked",
        "once a start; --parked-max and an eighth of the maximum size bound it",
    ),
    reads("fold.rs", "SELECT id, at, length(body), key FROM messages", STRETCH, UNFOLDED),
    reads("parked.rs", "DELETE FROM parked WHERE at < ?1 AND id IN", "SCAN parked", OLDEST),
    reads("parked.rs", "SELECT id, octet_length(name)", "SCAN parked", OLDEST),
    reads(
        "parked.rs",
        "DELETE FROM parked WHERE id <= ?1",
        "SEARCH parked USING INTEGER PRIMARY KEY (rowid<?)",
        OLDEST,
    ),
    reads("removal.rs", "SELECT count(*) FROM removals", "SCAN removals", "once a start, in a small database"),
    reads(
        "removal.rs",
        "DELETE FROM removals WHERE place <= ?1",
        "SEARCH removals USING INTEGER PRIMARY KEY (rowid<?)",
        OLDEST,
    ),
    reads("piecemeal.rs", "SELECT id, at FROM messages", STRETCH, UNFOLDED),
    reads("prune.rs", "DELETE FROM keys WHERE id > ?1", KEY_STRETCH, STEP),
    reads("prune.rs", "DELETE FROM keys WHERE id > ?1", STRETCH, "as far as the first row"),
    reads("prune.rs", "SELECT DISTINCT room FROM keys", KEY_STRETCH, STEP),
    reads("prune.rs", "SELECT DISTINCT room FROM keys", "USE TEMP B-TREE FOR DISTINCT", STEP),
    reads("retention.rs", "DELETE FROM messages WHERE id > ?1", STRETCH, STEP),
    reads(
        "schema.rs",
        "SELECT max(at) FROM (",
        "SCAN rooms",
        "each room, once, when messages begin to go by their age",
    ),
    reads(
        "schema.rs",
        "SELECT count(*) FROM pragma_table_info",
        "SCAN pragma_table_info VIRTUAL TABLE INDEX 0:",
        NO_TABLE,
    ),
    reads("schema.rs", "SELECT name, sql FROM sqlite_schema", "SCAN sqlite_schema", "a row for each table and index"),
    reads(
        "sealed_bodies.rs",
        "DELETE FROM sealed_bodies WHERE id > ?1",
        "SEARCH sealed_bodies USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "those of the messages that one step of retention deletes",
    ),
    reads("sealed_bodies.rs", "DELETE FROM sealed_bodies WHERE id IN", "SCAN sealed_bodies", EMPTIES),
    reads("repair/copying.rs", "VACUUM INTO ?1", "reads everything", "'racerd backup' copies everything"),
    reads("repair/copying.rs", "VACUUM", "reads everything", "'racerd restore' and 'racerd salvage' copy everything"),
    reads(
        "repair/copying.rs",
        "SELECT count(*) FROM sqlite_schema",
        "SCAN sqlite_master",
        "a row for each table and index",
    ),
    reads(
        "repair/copying.rs",
        "SELECT page_count * page_size",
        "SCAN pragma_page_count VIRTUAL TABLE INDEX 0:",
        NO_TABLE,
    ),
    reads(
        "repair/copying.rs",
        "SELECT page_count * page_size",
        "SCAN pragma_page_size VIRTUAL TABLE INDEX 0:",
        NO_TABLE,
    ),
    reads(
        "repair/rekey.rs",
        "SELECT page_count * page_size",
        "SCAN pragma_page_count VIRTUAL TABLE INDEX 0:",
        NO_TABLE,
    ),
    reads("repair/rekey.rs", "SELECT page_count * page_size", "SCAN pragma_page_size VIRTUAL TABLE INDEX 0:", NO_TABLE),
    reads("repair/rekey.rs", "SELECT count(*) FROM messages", "SCAN messages", REKEY),
    reads("repair/rekey.rs", "VACUUM", "reads everything", REKEY),
    reads("repair/rekey.rs", "UPDATE messages SET key = NULL", STRETCH, REKEY),
    reads(
        "repair/rekey.rs",
        "DELETE FROM parked WHERE id IN",
        "SCAN parked USING COVERING INDEX sqlite_autoindex_parked_1",
        EMPTIES,
    ),
    reads(
        "repair/rekey.rs",
        "DELETE FROM keys WHERE id IN",
        "SCAN keys USING COVERING INDEX sqlite_autoindex_keys_1",
        EMPTIES,
    ),
    reads(
        "repair/rekey.rs",
        "DELETE FROM common_keys WHERE (room, key) IN",
        "SCAN common_keys USING COVERING INDEX common_keys_by_age",
        EMPTIES,
    ),
    // Only with statistics.
    reads("repair/rekey.rs", "DELETE FROM common_keys WHERE (room, key) IN", "CREATE BLOOM FILTER", EMPTIES),
    reads(
        "repair/rekey.rs",
        "DELETE FROM common_keys WHERE (room, key) IN",
        "SEARCH common_keys USING PRIMARY KEY (room=?)",
        REKEY,
    ),
    reads("repair/rekey.rs", "DELETE FROM standings WHERE id IN", "SCAN standings", EMPTIES),
    reads("repair/rekey.rs", "UPDATE rooms SET common = 0", "SCAN rooms", REKEY),
    reads("repair/salvage.rs", "SELECT count(*) FROM messages", "SCAN messages", SALVAGE),
    reads(
        "repair/salvage.rs",
        "SELECT count(*) FROM keys",
        "SCAN keys USING COVERING INDEX sqlite_autoindex_keys_1",
        SALVAGE,
    ),
    reads(
        "repair/salvage.rs",
        "SELECT count(*) FROM common_keys",
        "SCAN common_keys USING COVERING INDEX common_keys_by_age",
        SALVAGE,
    ),
    reads(
        "repair/salvage.rs",
        "SELECT count(*) FROM parked",
        "SCAN parked USING COVERING INDEX sqlite_autoindex_parked_1",
        SALVAGE,
    ),
    reads("repair/salvage.rs", "SELECT id, rooms FROM parked", "SCAN parked", SALVAGE),
    reads(
        "repair/salvage.rs",
        "UPDATE rooms SET common = (SELECT count(*)",
        "SEARCH common_keys USING COVERING INDEX common_keys_by_age (room=?)",
        SALVAGE,
    ),
    reads(
        "repair/salvage.rs",
        "SELECT id, entries FROM keys WHERE room",
        "SEARCH keys USING INDEX sqlite_autoindex_keys_1 (room=?)",
        SALVAGE,
    ),
    reads(
        "repair/salvage.rs",
        "SELECT key, seq FROM common_keys WHERE room",
        "SEARCH common_keys USING COVERING INDEX common_keys_by_age (room=?)",
        SALVAGE,
    ),
    reads("repair/salvage.rs", "SELECT count(*), min(id) FROM messages WHERE id > ?1", STRETCH, SALVAGE),
    reads("repair/salvage.rs", "SELECT id FROM messages WHERE id > ?1", STRETCH, SALVAGE),
    reads("repair/sealed_salvage.rs", "SELECT id, at, member, body FROM messages", STRETCH, SALVAGE),
    reads("repair/sealed_salvage.rs", "DELETE FROM messages WHERE name <> ''", "SCAN messages", SALVAGE),
    reads("repair/sealed_salvage.rs", "SELECT id, session, at, rooms FROM parked", "SCAN parked", SALVAGE),
];

/// What a search names if it finds one row at most.
const KEYS: &[&str] = &["rowid=?", "name=?", "session=?", "room=? AND session=?", "room=? AND key=?"];

/// How a statement begins that SQLite can explain, and any other.
const PLANNED: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"];
const OTHER: &[&str] = &["BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "VACUUM", "ANALYZE", "REINDEX", "ATTACH", "DETACH"];

/// How a part of a statement begins.
const PARTS: &[&str] = &[
    "FROM",
    "WHERE",
    "AND",
    "OR",
    "NOT",
    "EXISTS",
    "JOIN",
    "ORDER",
    "GROUP",
    "LIMIT",
    "HAVING",
    "UNION",
    "SET",
    "VALUES",
    "ON",
    "RETURNING",
    "CREATE",
    "ALTER",
    "DROP",
];

const TABLES: &[&str] = &[
    "meta",
    "rooms",
    "free_rooms",
    "removals",
    "messages",
    "keys",
    "common_keys",
    "parked",
    "sealed_bodies",
    "sealed_bodies_filled",
    "log_salt",
    "standings",
];

/// Tables of one row.
const ONE_ROW: &[&str] = &["meta", "sealed_bodies_filled", "log_salt"];

/// Methods of rusqlite's connection that take SQL.
const METHODS: &[&str] =
    &["prepare", "prepare_cached", "prepare_with_flags", "execute", "execute_batch", "query_row", "query_one"];

#[derive(Debug, PartialEq)]
struct Statement {
    path: String,
    line: usize,
    sql: String,
}

impl Statement {
    fn starts_with(&self, words: &[&str]) -> bool {
        words.contains(&first_word(&self.sql))
    }

    fn fault(&self, what: &str) -> String {
        format!("{}:{}: {what}: {}", self.path, self.line, self.sql)
    }
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("")
}

/// The statements of these files, and what keeps others from being seen.
#[derive(Default)]
struct Found {
    statements: Vec<Statement>,
    faults: Vec<String>,
}

impl Found {
    fn of(files: &[File]) -> Found {
        let tests: Vec<String> = files.iter().flat_map(test_modules).collect();
        let is_below = |file: &File, path: &String| {
            file.path == format!("{path}.rs") || file.path.starts_with(&format!("{path}/"))
        };
        let mut found = Found::default();
        for file in files.iter().filter(|file| !tests.iter().any(|path| is_below(file, path))) {
            if file.path.starts_with("src/sqlite/") {
                found.add(file);
            } else if file.text.contains("rusqlite") {
                let code = without_tests(&strip(&file.text));
                let named = paths(&code).into_iter().filter(|(_, path)| path[0] == "rusqlite");
                let fault = |(line, _)| format!("{}:{line}: names rusqlite, which only src/sqlite may", file.path);
                found.faults.extend(named.map(fault));
            }
        }
        found
    }

    fn add(&mut self, file: &File) {
        let (code, literals) = strings(&file.text);
        let parts = parts_of(&code, &literals);
        // The tables themselves.
        let schema = code
            .find("const MIGRATIONS")
            .map_or(0..0, |start| start..start + code[start..].find("];").expect("the end of the migrations"));
        let mut used = BTreeSet::new();
        for literal in literals.iter().filter(|literal| !schema.contains(&literal.start)) {
            let text = literal.text.trim();
            let is_statement = [PLANNED, OTHER].concat().contains(&first_word(text));
            if !is_statement {
                let is_part = parts.iter().any(|(_, part)| part.start == literal.start);
                if !is_part && (is_part_of_sql(text) || names_a_table(text)) {
                    let what = "is a part of a statement, or one that does not begin with a verb in capitals";
                    self.faults.push(format!("{}:{}: {what}: {text}", file.path, literal.line));
                }
                continue;
            }
            let mut sql = text.to_owned();
            for (name, part) in &parts {
                let place = format!("{{{name}}}");
                if sql.contains(&place) {
                    sql = sql.replace(&place, part.text.trim());
                    used.insert(part.start);
                }
            }
            for sql in sql.split(';').map(str::trim).filter(|sql| !sql.is_empty()) {
                let statement = Statement { path: file.path.clone(), line: literal.line, sql: sql.to_owned() };
                if statement.starts_with(PLANNED) && sql.contains('{') {
                    self.faults.push(statement.fault("has a place for something that is no constant of this file"));
                }
                self.statements.push(statement);
            }
        }
        for (name, part) in &parts {
            if is_part_of_sql(part.text.trim()) && !used.contains(&part.start) {
                self.faults.push(format!("{}:{}: no statement has the part {{{name}}}", file.path, part.line));
            }
        }
        self.check_calls(file, &code, &literals);
    }

    /// Finds calls whose SQL is not a string, and strings that are put together.
    fn check_calls(&mut self, file: &File, code: &str, literals: &[Literal]) {
        let line = |index: usize| 1 + code[..index].matches('\n').count();
        for name in ["concat!", "include_str!"] {
            if let Some(index) = code.find(name) {
                self.faults.push(format!("{}:{}: `{name}`: a statement is one string", file.path, line(index)));
            }
        }
        for method in METHODS {
            let call = format!(".{method}(");
            for (index, _) in code.match_indices(&call) {
                let rest = code[index + call.len()..].trim_start().trim_start_matches('&');
                let rest = rest.strip_prefix("format!(").map_or(rest, str::trim_start);
                let start = code.len() - rest.len();
                let is_good = match rest.as_bytes().first() {
                    Some(b'"') => literals
                        .iter()
                        .find(|literal| literal.start == start)
                        .is_some_and(|literal| [PLANNED, OTHER].concat().contains(&first_word(literal.text.trim()))),
                    // Parameters of a statement that is prepared already.
                    Some(b'[' | b')') => true,
                    // A variable: its string stands somewhere else, and is found there.
                    Some(_) => !rest.starts_with("String::"),
                    None => false,
                };
                if !is_good {
                    self.faults.push(format!("{}:{}: `{method}` of something else than SQL", file.path, line(index)));
                }
            }
        }
    }
}

/// Returns the constants of a file that are strings, by name.
fn parts_of<'a>(code: &'a str, literals: &'a [Literal]) -> Vec<(&'a str, &'a Literal)> {
    let named = code.match_indices("const ").filter_map(|(index, _)| {
        let (name, value) = code[index + 6..].split_once(": &str = ")?;
        let start = code.len() - value.trim_start().len();
        let literal = literals.iter().find(|literal| literal.start == start)?;
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_').then_some((name, literal))
    });
    named.collect()
}

fn is_part_of_sql(text: &str) -> bool {
    PARTS.contains(&first_word(text)) && text.contains(' ')
}

/// Returns whether a text names a table as SQL does.
fn names_a_table(text: &str) -> bool {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let before = ["FROM", "INTO", "JOIN", "UPDATE", "TABLE"];
    words.windows(2).any(|pair| before.contains(&pair[0].to_ascii_uppercase().as_str()) && TABLES.contains(&pair[1]))
}

/// Returns whether a statement may read as this line of its plan says, and nothing more has to be known of it.
fn is_bounded(line: &str, sql: &str) -> bool {
    // What is read for them has lines of its own.
    let frames = ["LIST SUBQUERY", "SCALAR SUBQUERY", "CORRELATED SCALAR SUBQUERY", "CO-ROUTINE", "COMPOUND QUERY"];
    if frames.iter().any(|frame| line.starts_with(frame)) || ["LEFT-MOST SUBQUERY", "UNION ALL"].contains(&line) {
        return true;
    }
    if line.strip_prefix("SCAN ").is_some_and(|table| ONE_ROW.contains(&table)) {
        return true;
    }
    let Some(rest) = line.strip_prefix("SEARCH ") else { return false };
    match rest.split_once(" (") {
        // The least or greatest of a key.
        None => !rest.contains(' '),
        Some((_, named)) => {
            let named = named.strip_suffix(')').unwrap_or(named);
            // Another condition would read on until it holds.
            KEYS.contains(&named) || sql.contains(" LIMIT ") && conditions(sql) == named.split(" AND ").count()
        }
    }
}

/// Returns how many conditions the last WHERE of a statement has.
fn conditions(sql: &str) -> usize {
    let Some((_, after)) = sql.rsplit_once(" WHERE ") else { return 0 };
    let end = [" ORDER ", " GROUP ", " LIMIT "].iter().filter_map(|word| after.find(word)).min();
    let condition = &after[..end.unwrap_or(after.len())];
    1 + [" AND ", " OR "].iter().map(|word| condition.matches(word).count()).sum::<usize>()
}

/// Returns what the plan of a statement says, a line each.
fn plan(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    statement.raw_query().mapped(|row| row.get(3)).collect()
}

/// Returns what is wrong with the plans of these statements. Adds the places of the exceptions that one needs.
fn judge(conn: &Connection, statements: &[Statement], needed: &mut BTreeSet<usize>) -> Vec<String> {
    let mut faults = Vec::new();
    for statement in statements {
        let sql = statement.sql.as_str();
        let lines = if statement.starts_with(PLANNED) {
            match plan(conn, sql) {
                Ok(lines) => lines,
                Err(error) => {
                    faults.push(statement.fault(&error.to_string()));
                    continue;
                }
            }
        } else {
            let whole =
                ["VACUUM", "ANALYZE", "REINDEX", "PRAGMA integrity_check", "PRAGMA quick_check", "PRAGMA optimize"];
            let reads_all = whole.iter().any(|start| sql.starts_with(start));
            reads_all.then(|| "reads everything".to_owned()).into_iter().collect()
        };
        // The LIMIT of a statement inside another bounds nothing of the outer one, whose lines come first.
        let outer = sql.split("(SELECT").next().unwrap_or(sql);
        let inner_from = lines.iter().position(|line| line.contains("SUBQUERY")).unwrap_or(lines.len());
        let part_of = |index: usize| if index < inner_from { outer } else { sql };
        let unbounded = lines.iter().enumerate().filter(|(index, line)| !is_bounded(line, part_of(*index)));
        for (_, line) in unbounded {
            let exception = EXCEPTIONS.iter().position(|exception| {
                statement.path.strip_prefix("src/sqlite/") == Some(exception.file)
                    && sql.starts_with(exception.sql)
                    && exception.plan == line
            });
            match exception {
                Some(index) => drop(needed.insert(index)),
                None => faults.push(statement.fault(&format!("its plan says \"{line}\""))),
            }
        }
    }
    faults
}

/// Returns a database with the tables that the source of the schema makes, and 100,000 rows in each that has more than
/// one: half of them in one room.
fn database(schema: &File) -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    let (code, literals) = strings(&schema.text);
    let start = code.find("const MIGRATIONS").expect("the migrations");
    let end = start + code[start..].find("];").expect("their end");
    for migration in literals.iter().filter(|literal| (start..end).contains(&literal.start)) {
        // With its lines, which end comments.
        let text = schema.text[migration.start + 1..].split('"').next().unwrap();
        conn.execute_batch(text).unwrap();
    }
    let tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let tables: Vec<String> = { tables }.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut known: Vec<&str> = TABLES.to_vec();
    known.sort_unstable();
    assert_eq!(tables, known, "add the table to TABLES, and rows to it here");
    conn.execute_batch(
        "BEGIN;
         CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             SELECT i, iif(i <= 50000, 1, i) AS room, unhex(printf('%032x', i)) AS bytes FROM n;
         INSERT INTO meta (id, epoch, clean, boot, durability, running) VALUES (1, 'e', 1, '', 'full', 1);
         INSERT INTO rooms (id, name, head, at, common, oldest, oldest_at) SELECT i, 'r' || i, 1, i, 0, 1, i FROM n;
         INSERT INTO messages (id, at, name, body) SELECT (room << 39) + i, i, 'n', 'x' FROM n;
         INSERT INTO standings (id, at, generation) SELECT i, i, 1 FROM n;
         INSERT INTO keys (room, session, used, entries) SELECT room, bytes, i, x'' FROM n;
         INSERT INTO common_keys (room, key, body, seq, at) SELECT room, bytes, bytes, i, i FROM n;
         INSERT INTO parked (session, at, member, name, generation, rooms) SELECT bytes, i, i, 'n', 1, x'' FROM n;
         INSERT INTO sealed_bodies (id, digest) SELECT (room << 39) + i, bytes FROM n;
         INSERT INTO free_rooms (id) SELECT i + 100000 FROM n;
         INSERT INTO removals (place, count) SELECT i, 1 FROM n;
         COMMIT;",
    )
    .unwrap();
    for table in TABLES.iter().filter(|table| !ONE_ROW.contains(table)) {
        let count: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 100_000, "{table}");
    }
    conn
}

#[test]
fn no_statement_scans_or_sorts_unless_it_is_meant_to() {
    let mut files = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "src", &mut files);
    let schema = files.iter().find(|file| file.path == "src/sqlite/schema.rs").expect("the schema");
    let conn = database(schema);
    let Found { statements, mut faults } = Found::of(&files);
    assert!(statements.len() > 150, "found {} statements", statements.len());
    let mut needed = BTreeSet::new();
    faults.extend(judge(&conn, &statements, &mut needed));
    // A program that looks at the database may leave statistics in it, which SQLite then plans by.
    conn.execute_batch("ANALYZE").unwrap();
    let planned = judge(&conn, &statements, &mut needed);
    faults.extend(planned.into_iter().map(|fault| format!("with statistics: {fault}")));
    for (index, Exception { file, sql, plan, reason }) in EXCEPTIONS.iter().enumerate() {
        if !needed.contains(&index) {
            faults.push(format!("tests/structure/statements.rs: {file} no longer needs: {sql}: {plan} ({reason})"));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[cfg(test)]
fn faults_of(text: &str) -> Vec<String> {
    let file = File { path: "src/sqlite/sample.rs".to_owned(), text: text.to_owned() };
    Found::of(&[file]).faults
}

#[test]
fn samples_of_statements_that_are_not_seen() {
    for (text, words) in [
        ("fn f() { c.execute(\"delete from rooms\", []) }", "does not begin with a verb in capitals"),
        ("fn f() { let end = \"ORDER BY body\"; }", "is a part of a statement"),
        ("const END: &str = \"ORDER BY body\";", "no statement has the part {END}"),
        ("fn f() { c.prepare(&format!(\"SELECT * FROM {table}\")) }", "no constant of this file"),
        ("fn f() { c.prepare(&format!(\"{verb} * FROM x\")) }", "`prepare` of something else than SQL"),
        ("fn f() { c.prepare(concat!(\"SELECT * \", \"FROM rooms\")) }", "`concat!`"),
        ("fn f() { c.execute_batch(include_str!(\"x.sql\")) }", "`include_str!`"),
    ] {
        let faults = faults_of(text);
        assert!(faults.iter().any(|fault| fault.contains(words)), "{text}: {faults:?}");
    }
    let elsewhere = File { path: "src/cmd/x.rs".to_owned(), text: "use rusqlite::Connection;".to_owned() };
    assert!(Found::of(&[elsewhere]).faults[0].contains("names rusqlite"));
    for text in [
        "#[cfg(test)]\nmod tests { fn f() { c.execute(\"delete from rooms\", []) } }",
        "fn f() { statement.execute([1])?; statement.query_row(params![1], f) }",
        "fn f() -> &str { \"no message goes from one room into another\" }",
    ] {
        assert_eq!(faults_of(text), [""; 0], "{text}");
    }
    let text =
        "const W: &str = \"WHERE\n  id = ?1\";\nfn f() { c.prepare(&format!(\"SELECT 1 \\\n FROM rooms {W}\")) }";
    let found = Found::of(&[File { path: "src/sqlite/x.rs".to_owned(), text: text.to_owned() }]);
    let sql = "SELECT 1 FROM rooms WHERE id = ?1".to_owned();
    assert_eq!(found.statements, [Statement { path: "src/sqlite/x.rs".to_owned(), line: 3, sql }]);
    assert_eq!(found.faults, [""; 0]);
}

/// What bounds a statement inside another does not bound the other.
#[test]
fn samples_of_statements_with_another_inside() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE common_keys (room, key, seq, PRIMARY KEY (room, key)) WITHOUT ROWID").unwrap();
    for (key, is_bounded) in [("key", true), ("+key", false)] {
        let inner = "(SELECT key FROM common_keys WHERE room = ?1 ORDER BY key LIMIT ?2)";
        let sql = format!("DELETE FROM common_keys WHERE room = ?1 AND {key} IN {inner}");
        let statement = Statement { path: "src/sqlite/x.rs".to_owned(), line: 1, sql };
        let faults = judge(&conn, &[statement], &mut BTreeSet::new());
        assert_eq!(faults.is_empty(), is_bounded, "{key}: {faults:?}");
    }
}

#[test]
fn samples_of_plans() {
    for (line, sql, is_good) in [
        ("SEARCH keys USING INDEX sqlite_autoindex_keys_1 (room=? AND session=?)", "", true),
        ("SEARCH keys USING INDEX sqlite_autoindex_keys_1 (room=?)", "SELECT x", false),
        (
            "SEARCH keys USING INDEX sqlite_autoindex_keys_1 (room=?)",
            "SELECT x WHERE room = ?1 ORDER BY session LIMIT ?2",
            true,
        ),
        ("SEARCH messages USING INTEGER PRIMARY KEY (rowid>?)", "SELECT x", false),
        ("SEARCH messages USING INTEGER PRIMARY KEY (rowid>?)", "SELECT x WHERE id > ?1 ORDER BY id LIMIT ?2", true),
        ("SEARCH messages USING INTEGER PRIMARY KEY (rowid>?)", "SELECT x WHERE id > ?1 AND at > 5 LIMIT ?2", false),
        (
            "SEARCH messages USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            "SELECT x WHERE id > ?1 AND id < ?2",
            false,
        ),
        ("SEARCH n USING AUTOMATIC COVERING INDEX (i=?)", "", false),
        ("SEARCH rooms", "", true),
        ("SCAN rooms", "SELECT x LIMIT ?1", false),
        ("USE TEMP B-TREE FOR ORDER BY", "SELECT x LIMIT ?1", false),
        ("BLOOM FILTER ON n (i=?)", "", false),
    ] {
        assert_eq!(is_bounded(line, sql), is_good, "{line}; {sql}");
    }
}
