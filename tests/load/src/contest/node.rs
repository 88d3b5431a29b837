//! Node's socket.io: installed once below `target/`, so that the source tree stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

const FILES: [(&str, &str); 4] = [
    ("server.mjs", include_str!("../../node/server.mjs")),
    ("package.json", include_str!("../../node/package.json")),
    ("package-lock.json", include_str!("../../node/package-lock.json")),
    (".npmrc", include_str!("../../node/.npmrc")),
];

/// Makes the server in `folder`; answers its script.
pub(crate) fn install(folder: &Path) -> anyhow::Result<PathBuf> {
    let version = Command::new("node").arg("--version").output().context("there is no node")?;
    ensure!(version.status.success(), "node doesn't run");
    fs::create_dir_all(folder)?;
    let lock = folder.join("package-lock.json");
    let as_before = fs::read_to_string(&lock).is_ok_and(|text| text == FILES[2].1);
    for (name, text) in FILES {
        fs::write(folder.join(name), text).with_context(|| format!("write {name} in {}", folder.display()))?;
    }
    if !as_before || !folder.join("node_modules/socket.io").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-progress", "--prefix"]).arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let ended = npm.status().context("there is no npm")?;
        if !ended.success() {
            // So that the next run tries again.
            let _ = fs::remove_file(lock);
        }
        ensure!(ended.success(), "npm ci in {} failed", folder.display());
    }
    Ok(folder.join("server.mjs"))
}
