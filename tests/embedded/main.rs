//! The embedded runtime on this machine, as root and as an ordinary user: real namespaces, real links, real shells.
//!
//! Every case is run as whoever runs the tests. If that is root, this binary also runs itself once more as an ordinary
//! user (see `everything_works_for_an_ordinary_user_too`).

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod crash;
mod harness;
mod isolation;
mod life;
mod shells;
mod stats;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::harness::{HELPER, helper, left_out};

const NOBODY: u32 = 65_534;

/// Everything once more, by a process that has no rights at all.
#[test]
fn everything_works_for_an_ordinary_user_too() {
    if std::env::var_os(HELPER).is_some() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return left_out("the embedded runtime as root: these tests are run by an ordinary user");
    }
    // Somebody else may not be able to reach the build folder.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let reachable = |path: &Path| {
        path.ancestors()
            .skip(1)
            .all(|folder| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
    };
    let bring = |path: PathBuf| {
        if reachable(&path) {
            return path;
        }
        let copy = folder.path().join(path.file_name().unwrap());
        fs::copy(path, &copy).unwrap();
        copy
    };
    let tests = bring(std::env::current_exe().unwrap());
    let output = Command::new(tests)
        .env(HELPER, bring(helper()))
        .env_remove("TMPDIR")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as user {NOBODY}:\n{text}");
    assert!(!text.contains("running 0 tests"), "{text}");
}
