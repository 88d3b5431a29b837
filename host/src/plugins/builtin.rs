//! The bundled plugins, as components within this binary.
//!
//! They are built from `plugins/` and committed, so that a server builds where nothing makes WebAssembly. After a change
//! in `plugins/` or `wit/`:
//!
//! ```sh
//! cargo run -- plugin build plugins --out plugins/prebuilt
//! ```

/// A bundled component and its name.
type Bundled = (&'static str, &'static [u8]);

const ALL: [Bundled; 3] = [
    ("auth-policy", include_bytes!("../../../plugins/prebuilt/auth-policy.wasm")),
    ("command-validator", include_bytes!("../../../plugins/prebuilt/command-validator.wasm")),
    ("status-formatter", include_bytes!("../../../plugins/prebuilt/status-formatter.wasm")),
];

/// The bundled component of this name.
pub(super) fn find(name: &str) -> Option<&'static [u8]> {
    ALL.iter().find(|(bundled, _)| *bundled == name).map(|(_, component)| *component)
}

/// Names of the bundled components.
pub(super) fn names() -> String {
    ALL.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::plugins::source;
    use std::path::Path;

    #[test]
    fn each_committed_component_was_built_from_the_source_in_the_tree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (name, component) in ALL {
            let of_source = source::digest(&root.join("plugins").join(name), Some(&root.join("wit"))).unwrap();
            assert_eq!(
                source::recorded(component).as_deref(),
                Some(of_source.as_str()),
                "plugins/prebuilt/{name}.wasm is not what its source would make. Run: \
                 cargo run -- plugin build plugins --out plugins/prebuilt"
            );
        }
    }
}
