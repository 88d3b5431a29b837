//! Patterns that an operator writes: text in which `*` stands for anything, nothing included.

use serde::Deserialize;

/// A pattern. It has to fit from the first letter to the last.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Whether `text` is one of what the pattern stands for.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            // The first place where a part fits leaves the most to those after it.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_everything_else_for_itself() {
        for (pattern, text, expected) in [
            ("alpine:3.20", "alpine:3.20", true),
            ("alpine:3.20", "alpine:3.200", false),
            ("alpine:*", "alpine:3.20", true),
            ("alpine:*", "alpine:", true),
            ("alpine:*", "alpine", false),
            ("alpine:*", "evil/alpine:3.20", false),
            ("*/frr:*", "quay.io/frrouting/frr:10", true),
            ("*/frr:*", "quay.io/frrouting/frrr:10", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("a*b*b", "a-b-b-b", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(Pattern(pattern.into()).fits(text), expected, "{pattern} {text}");
        }
    }
}
