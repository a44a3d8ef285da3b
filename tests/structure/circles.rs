//! Which file names which. Files of different folders never lead back to each other, and a folder below another one
//! may be out of bounds for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{File, module_of, paths, strip, without_tests};

/// Pairs of folders of which the first may name the second, and not the other way round. `mod.rs` is a table of
/// contents, and may name all.
const ONE_WAY: &[(&str, &str)] = &[("src/sqlite/repair/", "src/sqlite/")];

/// The files that each file names, with the line that does, outside tests.
pub struct Graph<'a> {
    files: Vec<&'a str>,
    edges: Vec<BTreeMap<usize, usize>>,
}

/// A module: its file, and what is imported there, by its last name. Names that a module imports can be named through
/// it.
struct Module {
    file: usize,
    imports: BTreeMap<String, Vec<String>>,
}

type Modules = BTreeMap<Vec<String>, Module>;

impl<'a> Graph<'a> {
    /// Reads the files that are not tests.
    pub fn of(files: &[&'a File]) -> Graph<'a> {
        let named: Vec<Vec<(usize, Vec<String>)>> =
            files.iter().map(|file| paths(&without_scopes(without_tests(&strip(&file.text))))).collect();
        let mut modules = Modules::new();
        for (index, file) in files.iter().enumerate() {
            modules.insert(module_of(&file.path), Module { file: index, imports: BTreeMap::new() });
        }
        for (file, named) in files.iter().zip(&named) {
            let own = module_of(&file.path);
            let imports = named.iter().filter_map(|(_, path)| {
                let full = absolute(path, &own, &modules)?;
                full.last().cloned().map(|last| (last, full))
            });
            let imports: BTreeMap<_, _> = imports.collect();
            if let Some(module) = modules.get_mut(&own) {
                module.imports = imports;
            }
        }
        let edges = files.iter().zip(&named).enumerate().map(|(index, (file, named))| {
            let own = module_of(&file.path);
            let mut edges = BTreeMap::new();
            for (line, path) in named {
                let to = absolute(path, &own, &modules).and_then(|full| file_of(&full, &modules, 0));
                if let Some(to) = to.filter(|to| *to != index) {
                    edges.entry(to).or_insert(*line);
                }
            }
            edges
        });
        let edges = edges.collect();
        Graph { files: files.iter().map(|file| file.path.as_str()).collect(), edges }
    }

    /// Returns each line that begins a way out of its folder and back to its file.
    pub fn circles(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (from, edges) in self.edges.iter().enumerate() {
            for (to, line) in edges.iter().filter(|(to, _)| folder(self.files[**to]) != folder(self.files[from])) {
                if let Some(way) = self.way(*to, from) {
                    faults.push(format!("{}:{line}: a circle of files: {}", self.files[from], way.join(" names ")));
                }
            }
        }
        faults
    }

    /// Returns each line that names a file against [`ONE_WAY`].
    pub fn wrong_ways(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (above, below) in ONE_WAY {
            for (from, edges) in self.edges.iter().enumerate() {
                let file = self.files[from];
                if !file.starts_with(below) || file.starts_with(above) || file.ends_with("/mod.rs") {
                    continue;
                }
                for (to, line) in edges.iter().filter(|(to, _)| self.files[**to].starts_with(above)) {
                    faults.push(format!("{file}:{line}: `{below}` may not name `{}`", self.files[*to]));
                }
            }
        }
        faults
    }

    /// Returns the shortest way between two files, with both ends.
    fn way(&self, from: usize, to: usize) -> Option<Vec<&'a str>> {
        let mut before = BTreeMap::from([(from, from)]);
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            if at == to {
                let mut way = vec![self.files[to]];
                let mut at = to;
                while at != from {
                    at = before[&at];
                    way.insert(0, self.files[at]);
                }
                return Some(way);
            }
            for named in self.edges[at].keys() {
                before.entry(*named).or_insert_with(|| {
                    next.push_back(*named);
                    at
                });
            }
        }
        None
    }
}

/// Returns the path from the crate's root; `None` for one that leaves the crate.
fn absolute(path: &[String], own: &[String], modules: &Modules) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let below = |base: &[String], rest: &[String]| Some([base, rest].concat());
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" | "super" => {
            let rest = if first == "self" { rest } else { path };
            let up = rest.iter().take_while(|name| *name == "super").count();
            below(own.get(..own.len().checked_sub(up)?)?, &rest[up..])
        }
        name => {
            let imported = modules.get(own).and_then(|module| module.imports.get(name));
            let child = [own, &[name.to_string()]].concat();
            match imported {
                Some(full) => below(full, rest),
                None => modules.contains_key(&child).then(|| [&child, rest].concat()),
            }
        }
    }
}

/// Returns the file that defines what this path names: a name that a module imports is looked up where it comes from.
fn file_of(full: &[String], modules: &Modules, depth: usize) -> Option<usize> {
    let length = (1..=full.len()).rev().find(|length| modules.contains_key(&full[..*length]))?;
    let module = &modules[&full[..length]];
    let imported = full.get(length).and_then(|name| module.imports.get(name));
    match imported.filter(|target| **target != full[..=length] && depth < 8) {
        Some(target) => file_of(&[target, &full[length + 1..]].concat(), modules, depth + 1),
        None => Some(module.file),
    }
}

/// Blanks the scopes of `pub(in a::b)`: they name a module, and use nothing of it.
fn without_scopes(code: String) -> String {
    let parts: Vec<&str> = code.split("pub(in ").collect();
    let rest = parts[1..].iter().map(|part| part.split_once(')').map_or(*part, |(_, rest)| rest));
    std::iter::once(parts[0]).chain(rest).collect::<Vec<_>>().join("pub ")
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> =
        files.iter().map(|(path, text)| File { path: path.to_string(), text: text.to_string() }).collect();
    let graph = Graph::of(&files.iter().collect::<Vec<_>>());
    [graph.circles(), graph.wrong_ways()].concat()
}

#[test]
fn samples_of_circles() {
    let a = ("src/a/mod.rs", "mod x;\nmod y;\npub use x::X;");
    let x = |text| ("src/a/x.rs", text);
    let b = |text| ("src/b/z.rs", text);
    let count = |files: &[(&str, &str)]| faults(files).len();
    assert_eq!(count(&[a, x("use crate::b::z::Z;"), b("use crate::c;")]), 0);
    assert_eq!(count(&[a, x("use crate::b::z::Z;"), b("use crate::a::X;")]), 2);
    assert_eq!(count(&[a, x("use crate::b::z;\nfn f() { z::g() }"), b("fn f() { crate::a::x::f() }")]), 2);
    assert_eq!(count(&[a, x("use super::y;"), ("src/a/y.rs", "use super::X;")]), 0, "the same folder");
    assert_eq!(count(&[a, x("use super::y;"), ("src/a/y.rs", "use crate::b::z;"), b("use crate::a::X;")]), 2);
    assert_eq!(count(&[a, x("use crate::b::z::Z;"), b("pub(in crate::a::x) fn f() {}")]), 0, "a scope is no use");
    let told = faults(&[a, x("\nuse crate::b::z::Z;"), b("use crate::a::X;")]);
    assert_eq!(told[0], "src/a/x.rs:2: a circle of files: src/b/z.rs names src/a/x.rs");
}

#[test]
fn samples_of_wrong_ways() {
    let table = ("src/sqlite/mod.rs", "mod open;\nmod repair;\npub use self::repair::rekey::Rekeyed;");
    let rekey = ("src/sqlite/repair/rekey.rs", "use crate::sqlite::open::Opened;");
    let contents = ("src/sqlite/repair/mod.rs", "mod rekey;\npub use rekey::Rekeyed;");
    assert_eq!(faults(&[table, contents, rekey, ("src/sqlite/open.rs", "")]), Vec::<String>::new());
    let open = ("src/sqlite/open.rs", "use super::repair::Rekeyed;");
    let told = faults(&[table, contents, rekey, open]);
    assert!(told.iter().any(|fault| fault.contains("open.rs:1: `src/sqlite/` may not name")), "{told:?}");
}

#[test]
fn every_folder_of_the_table_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders: BTreeSet<&str> = ONE_WAY.iter().flat_map(|(above, below)| [*above, *below]).collect();
    assert!(folders.iter().all(|folder| root.join(folder).is_dir()), "{folders:?}");
}
