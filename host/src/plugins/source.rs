//! Which source a component was built from: the digest that the builder writes into it.
//!
//! The bundled components are committed next to their source; with the digest in them a test can tell when one is
//! older than the source in the tree. It says nothing about who built a component, and is not meant to.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasm_encoder::{ComponentSection, CustomSection};

/// Name of the custom section.
const SECTION: &str = "antimony:source";

/// What turns source into a component: another version of either makes another component of the same source. To be raised
/// with whatever changes in `builder`.
const BUILDER: &str = "antimony builder 1, wit-component 0.263.0";

/// A SHA-256 digest in lower-case hexadecimal.
pub(crate) fn hex_digest(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The digest of a plugin's source, as `sha256:…`: every file of `dir` that goes into the component, those of `wit`,
/// those of the crates beside it that it takes from its workspace, what the workspace's manifest says for it, the locked
/// versions of what it depends on, and the builder.
///
/// Left out is what a build makes (`target`, `node_modules`, components, lock files), what is hidden, prose, and the cases
/// that it is tested with (`cases.yml`). The
/// order of the files is that of their names, so that the digest is the same on every machine.
///
/// # Errors
/// When a file or folder can't be read.
pub fn digest(dir: &Path, wit: Option<&Path>) -> io::Result<String> {
    let mut files = Vec::new();
    collect(dir, "crate", &mut files)?;
    if let Some(wit) = wit.filter(|wit| !wit.starts_with(dir)) {
        collect(wit, "wit", &mut files)?;
    }
    for (name, dependency) in local_dependencies(dir)? {
        collect(&dependency, &name, &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    };
    add("builder", BUILDER.as_bytes());
    for (name, path) in files {
        add(&name, &std::fs::read(path)?);
    }
    for (name, lines) in surroundings(dir)?.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        add(name, lines.join("\n").as_bytes());
    }
    Ok(format!("sha256:{}", hex_digest(hasher.finalize())))
}

/// What a crate takes from its workspace: the lines of the manifest there that it refers to, and the versions that are
/// locked for it. Nothing for what is no crate, or has never been built.
fn surroundings(dir: &Path) -> io::Result<Vec<(&'static str, Vec<String>)>> {
    let dir = dir.canonicalize()?;
    let manifest = dir.join("Cargo.toml");
    let Some(workspace) = dir.ancestors().find(|dir| dir.join("Cargo.lock").is_file()) else { return Ok(vec![]) };
    if !manifest.is_file() {
        return Ok(vec![]);
    }
    let manifest = std::fs::read_to_string(manifest)?;
    let lock = std::fs::read_to_string(workspace.join("Cargo.lock"))?;
    let mut taken = vec![("locked", locked(&lock, &manifest))];
    if let Ok(shared) = std::fs::read_to_string(workspace.join("Cargo.toml")) {
        taken.push(("workspace", inherited(&shared, &manifest)));
    }
    Ok(taken)
}

/// The crates besides it that a crate takes from its workspace: their names, and the folders that their sources are in.
fn local_dependencies(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let dir = dir.canonicalize()?;
    let Some(workspace) = dir.ancestors().find(|dir| dir.join("Cargo.lock").is_file()) else { return Ok(vec![]) };
    let (manifest, shared) = (dir.join("Cargo.toml"), workspace.join("Cargo.toml"));
    if !manifest.is_file() || !shared.is_file() {
        return Ok(vec![]);
    }
    let inherited = inherited(&std::fs::read_to_string(shared)?, &std::fs::read_to_string(manifest)?);
    let path = |line: &String| {
        let (name, rest) = line.split_once(" = ")?;
        let (_, path) = rest.split_once("path = \"")?;
        Some((format!("dependency {name}"), workspace.join(path.split('"').next()?)))
    };
    Ok(inherited.iter().filter_map(path).collect())
}

/// The value of a line `key = "value"`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.trim_start().strip_prefix('=').map(|value| value.trim().trim_matches('"'))
}

/// The lines of a workspace's manifest that a crate refers to by `key.workspace = true`.
fn inherited(shared: &str, manifest: &str) -> Vec<String> {
    let keys: Vec<&str> = manifest
        .lines()
        .filter(|line| line.contains("workspace = true"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .collect();
    let mut section = "";
    let mut lines = Vec::new();
    for line in shared.lines() {
        if line.starts_with('[') {
            section = line.trim();
        } else if matches!(section, "[workspace.package]" | "[workspace.dependencies]")
            && keys.iter().any(|key| value(line, key).is_some())
        {
            lines.push(line.trim().to_owned());
        }
    }
    lines
}

/// Names, versions and checksums of everything that a crate depends on, by what is locked, in order.
fn locked(lock: &str, manifest: &str) -> Vec<String> {
    let package = manifest.lines().skip_while(|line| line.trim() != "[package]");
    let Some(root) = package.skip(1).find_map(|line| value(line, "name")) else { return vec![] };
    let field = |entry: &str, key: &str| entry.lines().find_map(|line| value(line, key)).map(str::to_owned);
    let entries: Vec<(String, String, &str)> = lock
        .split("[[package]]")
        .filter_map(|entry| Some((field(entry, "name")?, field(entry, "version")?, entry)))
        .collect();
    let mut open: Vec<usize> = entries.iter().position(|(name, ..)| name == root).into_iter().collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut lines = std::collections::BTreeSet::new();
    while let Some(index) = open.pop() {
        if !seen.insert(index) {
            continue;
        }
        let (name, version, entry) = &entries[index];
        lines.insert(format!("{name} {version} {}", field(entry, "checksum").unwrap_or_default()));
        // An item is `"name"`, or `"name version"` where there are several of the name.
        let items = entry.lines().filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","));
        for item in items {
            let mut words = item.split(' ');
            let (wanted, of_version) = (words.next().unwrap_or_default(), words.next());
            let matching = |(name, version, _): &(String, String, &str)| {
                name == wanted && of_version.is_none_or(|wanted| version == wanted)
            };
            open.extend(entries.iter().position(matching));
        }
    }
    lines.into_iter().collect()
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let made = matches!(name.as_str(), "target" | "node_modules" | "__pycache__" | "Cargo.lock");
        if made || name.starts_with('.') || name.ends_with(".wasm") || name.ends_with(".md") || name == "cases.yml" {
            continue;
        }
        let path = entry.path();
        let name = format!("{prefix}/{name}");
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}

/// Writes `digest` into `component`.
pub(crate) fn record(component: &mut Vec<u8>, digest: &str) {
    let section = CustomSection { name: SECTION.into(), data: digest.as_bytes().into() };
    section.append_to_component(component);
}

/// The digest of its source that the builder wrote into `component`, if it was built with it.
pub fn recorded(component: &[u8]) -> Option<String> {
    let mut depth = 0_u32;
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.ok()? {
            // What is nested in it are other modules and components, with sections of their own.
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            wasmparser::Payload::CustomSection(section) if depth == 0 && section.name() == SECTION => {
                return String::from_utf8(section.data().to_vec()).ok();
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_digest_changes_with_the_source_and_the_contract_and_with_nothing_else() {
        let tree = tempfile::tempdir().unwrap();
        let (dir, wit) = (tree.path().join("plugin"), tree.path().join("wit"));
        write(&dir, "Cargo.toml", "[package]");
        write(&dir, "src/lib.rs", "// one");
        write(&wit, "types.wit", "package a:b;");
        let before = digest(&dir, Some(&wit)).unwrap();

        for made in
            ["target/x", "plugin.wasm", "Cargo.lock", ".hidden", "README.md", "cases.yml", "node_modules/a/b.js"]
        {
            write(&dir, made, "anything");
        }
        assert_eq!(digest(&dir, Some(&wit)).unwrap(), before);

        write(&wit, "types.wit", "package a:c;");
        let with_other_contract = digest(&dir, Some(&wit)).unwrap();
        assert_ne!(with_other_contract, before);
        write(&dir, "src/lib.rs", "// two");
        assert_ne!(digest(&dir, Some(&wit)).unwrap(), with_other_contract);
    }

    #[test]
    fn the_digest_changes_with_a_crate_of_the_workspace_that_is_depended_on() {
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("plugin");
        write(tree.path(), "Cargo.lock", "");
        let dependencies = "near = { path = \"shared/near\" }\nother = { path = \"other\" }\n";
        write(tree.path(), "Cargo.toml", &format!("[workspace.dependencies]\n{dependencies}"));
        write(&dir, "Cargo.toml", "[package]\nname = \"mine\"\n[dependencies]\nnear.workspace = true\n");
        write(&tree.path().join("shared/near"), "src/lib.rs", "// one");
        let before = digest(&dir, None).unwrap();
        write(&tree.path().join("other"), "src/lib.rs", "// one");
        assert_eq!(digest(&dir, None).unwrap(), before);
        write(&tree.path().join("shared/near"), "src/lib.rs", "// two");
        assert_ne!(digest(&dir, None).unwrap(), before);
    }

    #[test]
    fn the_digest_changes_with_what_is_locked_and_inherited_and_not_with_what_others_depend_on() {
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("plugin");
        let entry = |name: &str, version: &str, dependencies: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\ndependencies = [\n{dependencies}]\n")
        };
        let lock = |far: &str, other: &str| {
            let entries = [
                entry("mine", "0.1.0", " \"near\",\n"),
                entry("near", "1.0.0", " \"far 2.0.0\",\n"),
                entry("far", "1.0.0", ""),
                entry("far", "2.0.0", &format!(" \"{far}\",\n")),
                entry("a", "1.0.0", ""),
                entry("b", "1.0.0", ""),
                entry("other", other, ""),
            ];
            write(tree.path(), "Cargo.lock", &entries.concat());
            digest(&dir, None).unwrap()
        };
        let shared = |near: &str, other: &str| {
            let text = format!("[workspace.dependencies]\nnear = \"{near}\"\nother = \"{other}\"\n");
            write(tree.path(), "Cargo.toml", &text);
        };
        write(&dir, "Cargo.toml", "[package]\nname = \"mine\"\n[dependencies]\nnear.workspace = true\n");
        shared("1", "1");
        let before = lock("a", "1.0.0");
        assert_eq!(lock("a", "1.0.1"), before);
        assert_ne!(lock("b", "1.0.0"), before);
        assert_eq!(lock("a", "1.0.0"), before);
        shared("1", "2");
        assert_eq!(lock("a", "1.0.0"), before);
        shared("1.0", "1");
        assert_ne!(lock("a", "1.0.0"), before);
    }

    #[test]
    fn the_builder_names_the_version_of_the_tool_that_is_used() {
        let lock = include_str!("../../../Cargo.lock");
        let mut entries = lock.split("[[package]]").filter(|entry| entry.contains("name = \"wit-component\""));
        let version = BUILDER.rsplit(' ').next().unwrap();
        assert!(entries.any(|entry| entry.contains(&format!("version = \"{version}\""))), "{version}");
    }

    #[test]
    fn a_file_that_moves_changes_the_digest() {
        let tree = tempfile::tempdir().unwrap();
        write(tree.path(), "a.rs", "x");
        let before = digest(tree.path(), None).unwrap();
        std::fs::rename(tree.path().join("a.rs"), tree.path().join("b.rs")).unwrap();
        assert_ne!(digest(tree.path(), None).unwrap(), before);
    }

    #[test]
    fn what_was_recorded_in_a_component_is_read_back() {
        let mut component = wasm_encoder::Component::new().finish();
        assert_eq!(recorded(&component), None);
        record(&mut component, "sha256:abc");
        assert_eq!(recorded(&component).as_deref(), Some("sha256:abc"));
    }
}
