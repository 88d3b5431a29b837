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

/// A SHA-256 digest in lower-case hexadecimal.
pub(crate) fn hex_digest(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The digest of a plugin's source, as `sha256:…`: every file of `dir` that goes into the component, and those of `wit`.
///
/// Left out is what a build makes (`target`, `node_modules`, components, lock files), what is hidden, and prose. The
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
    files.sort();
    let mut hasher = Sha256::new();
    for (name, path) in files {
        let content = std::fs::read(path)?;
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    Ok(format!("sha256:{}", hex_digest(hasher.finalize())))
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let made = matches!(name.as_str(), "target" | "node_modules" | "__pycache__" | "Cargo.lock");
        if made || name.starts_with('.') || name.ends_with(".wasm") || name.ends_with(".md") {
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

        for made in ["target/x", "plugin.wasm", "Cargo.lock", ".hidden", "README.md", "node_modules/a/b.js"] {
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
