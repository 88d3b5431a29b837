//! That the table in `tests/catalogue.md` names tests that exist, and has every line that it should have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Lines of the catalogue that the table has to have.
fn wanted() -> BTreeSet<u32> {
    (1..=44).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace")
}

/// The names of all tests: `module::name`, the module being that of the file.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["tests", "host/src", "plugins"] {
        collect(&root().join(folder), &mut found);
    }
    found.extend(on_every_runtime().into_iter().map(|name| format!("runtimes::{name}")));
    found
}

/// The names of the tests that `tests/runtimes/main.rs` lists, to be run on every runtime.
pub(crate) fn on_every_runtime() -> BTreeSet<String> {
    let main = fs::read_to_string(root().join("tests/runtimes/main.rs")).expect("tests/runtimes/main.rs");
    let (_, list) = main.split_once("\non_both_runtimes! {\n").expect("the list");
    let (list, _) = list.split_once("\n}").expect("its end");
    // `module:`, then names, each with a comma or semicolon behind it.
    list.split_whitespace().filter_map(|word| word.strip_suffix([',', ';'])).map(str::to_owned).collect()
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of ours").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("node_modules") && !path.ends_with("target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("source is text");
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
            let named_by_folder = ["mod", "main", "lib", "tests"].contains(&stem);
            let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a name");
            let module = if named_by_folder { folder } else { stem };
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[tokio::test") || line == "#[test]" {
                    is_test = true;
                } else if let Some((_, name)) = line.split_once("fn ").filter(|_| !line.starts_with("//")) {
                    let name = name.split(['(', '<']).next().unwrap_or_default();
                    // Property tests have their attribute too.
                    if std::mem::take(&mut is_test) {
                        found.insert(format!("{module}::{name}"));
                    }
                }
            }
        }
    }
}

#[test]
fn every_line_of_the_catalogue_names_tests_and_all_of_them_exist() {
    let table = fs::read_to_string(root().join("tests/catalogue.md")).expect("tests/catalogue.md");
    let tests = tests();
    assert!(tests.len() > 300, "only {} tests were found", tests.len());
    let mut seen = BTreeSet::new();
    for row in
        table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| line") && !line.starts_with("| --"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[line, _, names] = cells.as_slice() else { panic!("a row has three cells: {row}") };
        let line: u32 = line.parse().unwrap_or_else(|_| panic!("a row begins with the number of a line: {row}"));
        assert!(seen.insert(line), "line {line} has two rows");
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "line {line} names no test");
        for name in names {
            assert!(tests.contains(name), "line {line}: there is no test {name}");
        }
    }
    assert_eq!(seen, wanted(), "the lines that have a row");
}
