//! Times as the other server's databases have them.

use jiff::Timestamp;

/// The time that a text means. `None`: it means no time, or none at all.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    read(text).filter(|time| !is_none_at_all(*time))
}

/// Whether the text says that there is no time, rather than one that can't be read.
pub(super) fn means_none(text: &str) -> bool {
    read(text).is_some_and(is_none_at_all)
}

/// The beginning of the year 1 is Go's word for none at all.
fn is_none_at_all(time: Timestamp) -> bool {
    time.as_second() <= -62_000_000_000
}

/// SQLite has what Go made of a time: `2026-01-02 15:04:05.5+01:00`, or with a zone by name behind it.
fn read(text: &str) -> Option<Timestamp> {
    let mut words = text.split_whitespace();
    let mut joined = words.next()?.to_owned();
    if !joined.contains('T') {
        joined = format!("{joined}T{}", words.next()?);
    }
    if let Some(offset) = words.next().filter(|word| word.starts_with(['+', '-'])) {
        joined.push_str(offset);
    }
    let time = &joined[joined.find('T')?..];
    if !time.contains(['+', '-', 'Z']) {
        joined.push('Z');
    }
    joined.parse::<Timestamp>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_forms_that_they_are_written_in() {
        let expected = Some("2026-01-02T14:04:05.5Z".parse::<Timestamp>().expect("a time"));
        for text in [
            "2026-01-02 15:04:05.5+01:00",
            "2026-01-02T15:04:05.500+01:00",
            "2026-01-02 14:04:05.5",
            "2026-01-02T14:04:05.500000Z",
            "2026-01-02 15:04:05.5 +0100 CET",
            "2026-01-02 15:04:05.5 +0100 CET m=+0.0123",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in ["", "soon", "2026-01-02", "0001-01-01 00:00:00+00:00"] {
            assert_eq!(parse(text), None, "{text}");
            assert_eq!(means_none(text), text.starts_with("0001"), "{text}");
        }
    }
}
