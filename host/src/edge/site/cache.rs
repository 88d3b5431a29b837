//! How long browsers may keep a file without asking again.
//!
//! Builders of web clients put a hash of what is in a file into its name, so that it never changes under that name. How
//! such names look is up to the builder; what is taken for one too often would leave people with old files, so that only
//! clear cases are, and everything else is asked for again, which costs a request with no body in its answer.

/// For files that never change.
pub(super) const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For files that may change at any time: keep, but ask whether it is still so.
pub(super) const ASK_AGAIN: &str = "no-cache";

/// Kinds of files that builders make. Only their hashes may be of letters alone.
const BUILT: [&str; 8] = ["js", "mjs", "css", "map", "wasm", "woff2", "woff", "ttf"];

/// The `Cache-Control` of a file.
pub(super) fn control(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    if has_hash(name) { FOR_EVER } else { ASK_AGAIN }
}

/// Whether the name of a file has a hash before its extension: `main-5QAJ4XQF.js`, `index-DiwrgTda.css`,
/// `runtime.0c2d2f7e8b1a4f65.js`, `editor.worker-Bk_2-x7Q.js`.
fn has_hash(name: &str) -> bool {
    let name = name.strip_suffix(".map").unwrap_or(name);
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    if stem.rsplit(['.', '-']).next().is_some_and(|last| last.len() < stem.len() && is_hexadecimal(last)) {
        return true;
    }
    // The alphabet of this one has the hyphen in it, so that only its length tells where it begins.
    let Some((before, hash)) = stem.len().checked_sub(8).and_then(|at| stem.split_at_checked(at)) else { return false };
    before.ends_with(['-', '.']) && before.len() > 1 && is_base64(hash, BUILT.contains(&extension))
}

/// Sixteen digits and more are a hash even if they are all numbers; fewer of those may be a date.
fn is_hexadecimal(text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mixed = text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().any(|b| b.is_ascii_alphabetic());
    digits && (text.len() >= 16 || (text.len() >= 8 && mixed))
}

/// Eight characters of base 32 in capitals, or of the base 64 that goes into names.
fn is_base64(text: &str, built: bool) -> bool {
    let any = |matches: fn(&u8) -> bool| text.as_bytes().iter().any(matches);
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return false;
    }
    let (upper, lower, digit) = (any(u8::is_ascii_uppercase), any(u8::is_ascii_lowercase), any(u8::is_ascii_digit));
    if upper && !lower { digit || built } else { upper && lower && (digit || built) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_a_hash_in_their_name_are_kept_for_ever_and_no_others() {
        for name in [
            "main-5QAJ4XQF.js",
            "chunk-ABCDEFGH.js",
            "index-DiwrgTda.js",
            "index-Bk_2-x7Q.css",
            "editor.worker-Cx0aB-_9.js",
            "codicon-DCmgc-ay.ttf",
            "runtime.0c2d2f7e8b1a4f65.js",
            "styles.ef46db37.css",
            "logo-B1x9ZqLw.svg",
            "index-DiwrgTda.js.map",
        ] {
            assert_eq!(control(&format!("/assets/{name}")), FOR_EVER, "{name}");
        }
        for name in [
            "index.html",
            "main.js",
            "my-component.js",
            "icon-computer.svg",
            "jquery-3.6.0.min.js",
            "report-20260101.pdf",
            "polyfills-es2015.js",
            "logo-MyWidget.svg",
            "favicon-dark.png",
            "a-feedback.js",
            "manifest.json",
            "DiwrgTda.js",
            "assets",
            "",
        ] {
            assert_eq!(control(&format!("/{name}")), ASK_AGAIN, "{name}");
        }
    }
}
