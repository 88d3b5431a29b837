//! The operator's file with kinds of nodes. It may say more of each, such as a password: nothing of that gets out.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use crate::topology::devices::Device;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// An entry of the file, as far as it is used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: String,
    name: Option<String>,
    interface_pattern: String,
    #[serde(default)]
    interface_start: u32,
}

/// The kinds in the file, each once; or why it can't be used.
pub(super) fn read(file: &Path) -> Result<Vec<Device>, String> {
    let text = std::fs::metadata(file).and_then(|meta| {
        if meta.len() > MAX_BYTES {
            Err(std::io::ErrorKind::FileTooLarge.into())
        } else {
            std::fs::read_to_string(file)
        }
    });
    parse(&text.map_err(|error| format!("it can't be read: {error}"))?)
}

fn parse(text: &str) -> Result<Vec<Device>, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let entries: Vec<Entry> = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))?;
    reader.end().map_err(|error| error.to_string())?;
    let mut seen = HashSet::new();
    let mut devices = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        if entry.kind.is_empty() {
            return Err(format!("[{index}].kind: it is empty"));
        }
        if !entry.interface_pattern.contains('$') {
            let pattern = &entry.interface_pattern;
            return Err(format!("[{index}].interfacePattern: {pattern} has no $, which stands for the number"));
        }
        if seen.insert(entry.kind.clone()) {
            devices.push(Device {
                name: entry.name.unwrap_or_else(|| entry.kind.clone()),
                kind: entry.kind,
                interface_pattern: entry.interface_pattern,
                interface_start: entry.interface_start,
            });
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_operators_are_read_as_they_are() {
        let text = r#"[
            {"kind": "nokia_srlinux", "name": "SR Linux", "interfacePattern": "e1-$", "interfaceStart": 1,
             "images": ["a"], "username": "admin", "password": "secret"},
            {"kind": "linux", "name": "Linux", "interfacePattern": "eth$", "interfaceStart": 1},
            {"kind": "linux", "name": "Linux again", "interfacePattern": "ens$", "interfaceStart": 2},
            {"kind": "odd", "interfacePattern": "$"}
        ]"#;
        let devices = parse(text).expect("valid");
        let names: Vec<_> = devices.iter().map(|device| (device.kind.as_str(), device.name.as_str())).collect();
        assert_eq!(names, [("nokia_srlinux", "SR Linux"), ("linux", "Linux"), ("odd", "odd")]);
        assert_eq!((devices[1].interface_pattern.as_str(), devices[2].interface_start), ("eth$", 0));
        assert!(!format!("{devices:?}").contains("secret"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named_with_its_place() {
        for (text, said) in [
            ("", "EOF"),
            ("{}", "sequence"),
            (r#"[{"kind": "a"}]"#, "[0]: missing field `interfacePattern`"),
            (r#"[{"kind": "a", "interfacePattern": "eth"}]"#, "[0].interfacePattern: eth has no $"),
            (r#"[{"kind": "", "interfacePattern": "$"}]"#, "[0].kind"),
            (r#"[{"kind": "a", "interfacePattern": "$", "interfaceStart": -1}]"#, "[0].interfaceStart"),
            ("[] x", "trailing"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
