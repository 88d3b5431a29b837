//! Where a history is kept: a file name for any name, and a place for what can't be read, which is never thrown away.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The folder beside them that histories are moved to that can't be read. No name of a history is written like that.
const ASIDE: &str = ".unreadable";

/// Keeps what can't be read, a history or a part of one, from being written over.
pub(super) fn put_aside(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let aside = folder.join(ASIDE);
    let mut name = name.to_owned();
    name.push(format!("-{}", jiff::Timestamp::now().as_millisecond()));
    let moved = fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside);
    moved.and_then(|()| fs::rename(path, aside.join(name))).inspect_err(|error| {
        tracing::error!(path = %path.display(), %error, "what can't be read can't be put aside either");
    })
}

/// A file name for any name.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::new();
    for (place, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if place == 0 => encoded.push_str("%2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    encoded
}

/// The name that a file name stands for, if any.
pub(super) fn decode(file: &str) -> Option<String> {
    if file.starts_with('.') {
        return None;
    }
    let mut bytes = Vec::new();
    let mut rest = file.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_file_name_and_comes_back() {
        for name in ["spine-1", "..", "a/b", "é %41", "A.b_c"] {
            let file = encode(name);
            assert!(!file.contains('/') && !file.starts_with('.'), "{file}");
            assert_eq!(decode(&file).as_deref(), Some(name));
        }
    }
}
