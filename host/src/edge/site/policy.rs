//! Which scripts a page has in place, so that its policy can let through these and no others.
//!
//! Builders put small scripts into the page, or an `onload="…"` that switches styles on once they are there; the policy
//! names each by its hash. What somebody manages to put into the page later has none. The page is the operator's own
//! file: this reads what builders write, not everything that HTML could be, and what it misses is not run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Sources for a policy, one for each script in place.
pub(super) fn inline_scripts(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("<!--") {
            rest = after.find("-->").map_or("", |end| &after[end..]);
            continue;
        }
        let Some(end) = end_of_tag(rest) else { break };
        let (tag, after) = rest.split_at(end);
        found.extend(handlers(tag));
        rest = after;
        if is_script(tag) {
            let Some(end) = find_ignoring_case(after, "</script") else { break };
            if !attributes(tag).any(|(name, _)| name.eq_ignore_ascii_case("src")) {
                found.push(after[..end].to_owned());
            }
            rest = &after[end..];
        }
    }
    let mut sources: Vec<_> = found.iter().map(|script| source(script)).collect();
    sources.sort();
    sources.dedup();
    sources
}

fn source(script: &str) -> String {
    // Browsers take line ends as one character each before they hash.
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script.replace("\r\n", "\n").replace('\r', "\n"))))
}

fn is_script(tag: &str) -> bool {
    let name = tag[1..].split(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/').next().unwrap_or_default();
    name.eq_ignore_ascii_case("script")
}

/// The end of the tag that a text begins with, past its `>`.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at + 1),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// Values of attributes such as `onload`.
fn handlers(tag: &str) -> Vec<String> {
    let is_handler = |name: &str| name.len() > 2 && name.is_char_boundary(2) && name[..2].eq_ignore_ascii_case("on");
    attributes(tag).filter(|(name, _)| is_handler(name)).map(|(_, value)| unescaped(value)).collect()
}

/// Names and values of a tag's attributes.
fn attributes(tag: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = tag.trim_start_matches('<').trim_end_matches('>').trim_end_matches('/');
    rest = rest.find(|c: char| c.is_ascii_whitespace()).map_or("", |at| &rest[at..]);
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(rest.len());
        let name = &rest[..end];
        let after = rest[end..].trim_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            rest = after;
            return Some((name, ""));
        };
        let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
        let (value, after) = match quote {
            Some(quote) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            None => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        rest = after;
        Some((name, value))
    })
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&quot;", "\"").replace("&#39;", "'").replace("&apos;", "'");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn find_ignoring_case(text: &str, part: &str) -> Option<usize> {
    text.as_bytes().windows(part.len()).position(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scripts_in_place_are_found_and_others_are_not() {
        let page = r#"<!DOCTYPE html><html><head><!-- <script>no</script> -->
            <link rel="stylesheet" href="a.css" media="print" onload="this.media='all'">
            <script type="module" crossorigin src="/assets/index-DiwrgTda.js"></script>
            <SCRIPT>let a = "<b>";</SCRIPT><script>again</script><script>again</script></head></html>"#;
        let mut expected = vec![source("this.media='all'"), source("let a = \"<b>\";"), source("again")];
        expected.sort();
        assert_eq!(inline_scripts(page), expected);
        // Known from the documentation of those who write such pages.
        assert!(expected.contains(&"'sha256-MhtPZXr7+LpJUY5qtMutB+qWfQtMaPccfe7QXtCcEYc='".to_owned()));
        assert!(inline_scripts("<p>text</p>").is_empty());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(page in "(<script|<a |on|=|\"|'|>|</script>|<!--|-->|x|é| |/){0,40}") {
            inline_scripts(&page);
        }
    }
}
