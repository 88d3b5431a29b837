//! `plugin build`: what it makes, and what it says when it can't.

use std::path::Path;

use antimony_host::plugins::{BuildError, build, source};

use crate::guests;

#[test]
fn a_component_carries_the_digest_of_its_source() {
    let Some(entry) = guests::entry("deploy-freeze") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let component = std::fs::read(entry.path).unwrap();
    // The contract lies outside of the example's own workspace: what was built against is not part of the digest there.
    let of_source = source::digest(&root.join("examples/plugins/deploy-freeze"), None).unwrap();
    assert_eq!(source::recorded(&component), Some(of_source));
}

#[test]
fn a_mistake_in_the_source_is_shown_as_the_compiler_tells_it_and_nothing_is_written() {
    if guests::entry("deploy-freeze").is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir = tempfile::tempdir().unwrap();
    copy(&root.join("examples/plugins/deploy-freeze"), dir.path());
    let lib = dir.path().join("src/lib.rs");
    let wit = root.join("wit");
    let text = std::fs::read_to_string(&lib).unwrap();
    let text =
        text.replace("../../../wit", wit.to_str().unwrap()).replace("Action::Command(request) if", "Oops(request) if");
    std::fs::write(&lib, text).unwrap();
    // Where the other guests are built too, so that the standard library is compiled already.
    std::fs::create_dir(dir.path().join(".cargo")).unwrap();
    let target = root.join("target");
    let config = format!("[build]\ntarget-dir = {:?}\n", target.to_str().unwrap());
    std::fs::write(dir.path().join(".cargo/config.toml"), config).unwrap();

    let error = build(dir.path(), None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BuildError::Compile { .. }), "{error}");
    assert!(error.to_string().contains("Oops") && error.to_string().contains("src/lib.rs"), "{error}");
    assert!(!dir.path().join("deploy-freeze.wasm").exists());
}

#[test]
fn a_folder_of_projects_goes_into_a_folder_that_is_made_for_it() {
    if guests::entry("deploy-freeze").is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("not/there/yet");
    let built = build(&root.join("tests/guests"), Some(&out), &mut |_| {}).unwrap();
    assert!(built.iter().all(|built| built.path == out.join(format!("{}.wasm", built.name)) && built.path.is_file()));

    // Nor do several end up in one file that is there.
    let file = dir.path().join("plugin.wasm");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(build(&root.join("tests/guests"), Some(&file), &mut |_| {}), Err(BuildError::Io { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

fn copy(from: &Path, to: &Path) {
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
