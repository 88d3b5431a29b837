//! Plugins that tests need and that aren't bundled: built from source, once per test process.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use antimony_host::plugins::config::Entry;
use antimony_host::plugins::{build, can_build};

/// An entry for the guest of this name under `tests/guests` or `examples/plugins`. `None`: it can't be built on this
/// machine, which has been said on the terminal.
pub(crate) fn entry(name: &str) -> Option<Entry> {
    static BUILT: OnceLock<Option<BTreeMap<String, PathBuf>>> = OnceLock::new();
    let guests = BUILT.get_or_init(build_all).as_ref()?;
    let path = guests.get(name).unwrap_or_else(|| panic!("there is no guest named {name}"));
    Some(Entry::new(path.to_str().unwrap()))
}

/// The same with settings.
pub(crate) fn with_settings(name: &str, settings: serde_json::Value) -> Option<Entry> {
    entry(name).map(|entry| Entry { settings, ..entry })
}

fn build_all() -> Option<BTreeMap<String, PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let guests = root.join("tests/guests");
    if let Err(why) = can_build(&guests) {
        assert!(std::env::var_os("ANTIMONY_REQUIRE_ALL").is_none(), "nothing may be left out, but {why}");
        // Not through the test harness, which would keep it to itself.
        let line = format!("left out: tests with plugins that are built from source, since {why}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    std::fs::create_dir_all(&out).unwrap();
    let mut built = BTreeMap::new();
    for dir in [guests, root.join("examples/plugins")].iter().flat_map(|dir| crates(dir)) {
        let mut lines = String::new();
        let all = build(&dir, Some(&out), &mut |line| lines = format!("{lines}{line}\n"));
        let all = all.unwrap_or_else(|error| panic!("{error}\n{lines}"));
        built.extend(all.into_iter().map(|guest| (guest.name, guest.path)));
    }
    Some(built)
}

/// The folders below `dir` that are plugins in Rust. Those in other languages need more than a compiler (see `languages`).
fn crates(dir: &Path) -> Vec<PathBuf> {
    let folders = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|folder| folder.join("Cargo.toml").is_file()).collect()
}
