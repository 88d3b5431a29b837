//! Times as clients write them. What can't be read is answered with what could be, and not with a parser's view of it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

/// Reads a time.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    parse(&Written::deserialize(deserializer)?)
}

/// Reads a time that may be missing or null.
pub(super) fn read_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Option::<Written>::deserialize(deserializer)?.map(|time| parse(&time)).transpose()
}

/// Whatever stands in the place of a time.
type Written = serde_json::Value;

/// Longest part of it that is repeated in the answer, in characters.
const SHOWN: usize = 60;

fn parse<E: de::Error>(written: &Written) -> Result<Timestamp, E> {
    written.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let shown: String = written.to_string().chars().take(SHOWN).collect();
        E::custom(format!("{shown} is no RFC 3339 time such as 2030-01-31T10:00:00Z"))
    })
}
