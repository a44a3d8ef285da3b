//! Reads of rooms in a database with some damaged pages, in both directions.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::sqlite::contract::{Bench, options};
use crate::sqlite::files::Files;
use crate::sqlite::repair::damage_tests::{ROOMS, database};
use crate::sqlite::repair::image::{self, Image};
use crate::sqlite::schema;
use crate::sqlite::tests::{open_quick, outside};
use crate::store::samples::read;
use crate::store::{StoreEvent, StoreRequest};
use crate::testing::{Random, TempDir};
use crate::types::Durability;

/// Returns all messages of a room, read page by page in this direction.
fn paged(bench: &mut Bench, room: &str, rising: bool, limit: u32) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::new();
    loop {
        let span = match (rising, all.first(), all.last()) {
            (true, _, last) => Span::After(last.map_or(Seq::ZERO, |last| last.seq)),
            (false, None, _) => Span::Newest,
            (false, Some(first), _) => Span::Before(first.seq),
        };
        bench.submit([StoreRequest::Read(read(room, span, limit, 1 << 20))]);
        let page = loop {
            match bench.next() {
                StoreEvent::Page(page) => break page,
                StoreEvent::Unreadable(_) => {}
                other => panic!("{room}: {other:?}"),
            }
        };
        assert!(page.messages.windows(2).all(|two| two[0].seq.next() == two[1].seq), "{room}: a hole");
        let more = page.more;
        assert!(!more || !page.messages.is_empty(), "{room}: nothing goes on from here");
        let at = if rising { all.len() } else { 0 };
        all.splice(at..at, page.messages);
        if !more {
            return all;
        }
    }
}

#[test]
fn what_damage_has_left_is_read_whole_and_in_order_and_what_is_lost_keeps_its_place() {
    let source = TempDir::new();
    let (path, said) = database(&source);
    let sound = fs::read(&path).unwrap();
    // The page of the file in which each message begins; a short message is in no other page.
    let mut image = Image::open(&Files::at(&path).unwrap()).unwrap();
    let mut by_id = BTreeMap::new();
    for number in 1..=image.count() {
        if let image::Page::Rows(rows, _) = image.look(number) {
            by_id.extend(rows.iter().filter_map(|row| Some((row.id.filter(|id| *id > 1 << 39)?, number as usize - 1))));
        }
    }
    let conn = outside(&path);
    let id_of = |room: &str| conn.query_row("SELECT id FROM rooms WHERE name = ?1", [room], |row| row.get(0)).unwrap();
    let places: BTreeMap<(&str, Seq), usize> = said
        .iter()
        .flat_map(|(room, list)| list.iter().map(move |message| (*room, message.seq)))
        .map(|(room, seq)| ((room, seq), by_id[&schema::message_id(id_of(room), seq).unwrap()]))
        .collect();
    drop(conn);
    let leaves: Vec<usize> = places.values().copied().collect();
    let mut lost_in_all = 0;
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let directory = TempDir::new();
        let options = options(directory.path(), Durability::Full);
        fs::write(&options.path, &sound).unwrap();
        let mut bench = open_quick(&options);
        // In every second run, also a page in which a room begins.
        let first = places[&(ROOMS[seed as usize % 3], Seq(1))];
        let others = (0..=random.below(3)).map(|_| leaves[random.below(leaves.len())]);
        let spoilt: Vec<usize> = others.chain((seed % 2 == 0).then_some(first)).collect();
        let file = fs::OpenOptions::new().write(true).open(&options.path).unwrap();
        for page in &spoilt {
            std::os::unix::fs::FileExt::write_all_at(&file, &random.bytes(4096), *page as u64 * 4096).unwrap();
        }
        std::mem::forget(file);
        for (room, said) in &said {
            let limit = 1 + random.below(70) as u32;
            let up = paged(&mut bench, room, true, limit);
            let down = paged(&mut bench, room, false, limit);
            assert_eq!(up.last().map(|m| m.seq), said.last().map(|m| m.seq), "seed {seed}, {room}: to the head");
            assert_eq!(up.first().map(|m| m.seq), Some(Seq(1)), "seed {seed}, {room}: from the beginning");
            let bodies = |list: &[Message]| list.iter().map(|m| (m.seq, m.body.clone())).collect::<Vec<_>>();
            assert_eq!(bodies(&up), bodies(&down), "seed {seed}, {room}");
            for (found, said) in up.iter().zip(said) {
                let is_spoilt = spoilt.contains(&places[&(*room, said.seq)]);
                if found.body.is_unreadable() {
                    lost_in_all += 1;
                    assert!(is_spoilt || said.body.len() > 600, "seed {seed}: {room} {} is whole", said.seq.0);
                } else {
                    assert_eq!(found, said);
                }
            }
        }
        assert!(bench.damaged, "seed {seed}: it is told");
        let _ = bench.store.finish();
    }
    assert!(lost_in_all > 40, "{lost_in_all} lost");
}
