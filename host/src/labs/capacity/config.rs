//! `capacity:` of the configuration: what labs may take at once. Nothing is limited unless it is said.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::Limits;
use crate::topology::size;

/// So many bytes: a number, or a size as topologies have it, such as `512mb` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `32GiB`, or a number of bytes")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                self.visit_str(&bytes.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                size(text).map(Bytes).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "minimum": 1,
            "pattern": r"^\s*[0-9]+(\.[0-9]*)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$",
            "examples": ["32GiB", "512mb", 1_073_741_824],
        })
    }
}

/// `capacity:`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// How many labs there may be at once. A lab counts from its start time to its end time if the schedule is to start it,
    /// and from its deploy to its end time if somebody has. Any number, unless it is said; the same goes for the others.
    pub labs: Option<u64>,
    /// How many nodes these labs may have together.
    pub nodes: Option<u64>,
    /// How much memory these nodes may use together, by what topologies say: a size such as `32GiB`, or a number of bytes.
    /// Nothing is measured.
    pub memory: Option<Bytes>,
    /// What a node counts for whose topology doesn't say how much memory it may use.
    pub memory_per_node: Bytes,
    /// The same for the labs of single collections, by name; the limits above count for these as well.
    pub collections: BTreeMap<String, CollectionCapacity>,
}

/// What the labs of a collection may take at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CollectionCapacity {
    /// How many labs of the collection there may be at once.
    pub labs: Option<u64>,
    /// How many nodes these labs may have together.
    pub nodes: Option<u64>,
    /// How much memory these nodes may use together.
    pub memory: Option<Bytes>,
}

impl Default for CapacityConfig {
    fn default() -> Self {
        Self { labs: None, nodes: None, memory: None, memory_per_node: Bytes(256 << 20), collections: BTreeMap::new() }
    }
}

impl CapacityConfig {
    /// What all labs together may take.
    pub fn limits(&self) -> Limits {
        Limits { labs: self.labs, nodes: self.nodes, memory: self.memory.map(|memory| memory.0) }
    }

    /// What the labs of the collection of this name may take.
    pub fn limits_of(&self, collection: &str) -> Limits {
        let of = |own: &CollectionCapacity| Limits {
            labs: own.labs,
            nodes: own.nodes,
            memory: own.memory.map(|memory| memory.0),
        };
        self.collections.get(collection).map(of).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_size_or_a_number_of_bytes() {
        let read = |memory: &str| serde_saphyr::from_str::<CapacityConfig>(&format!("memory: {memory}"));
        for (text, bytes) in [("32GiB", 32 << 30), ("1.5 gib", 3 << 29), ("512mb", 512_000_000), ("4096", 4096)] {
            assert_eq!(read(text).expect(text).limits().memory, Some(bytes), "{text}");
        }
        for wrong in ["much", "0", "-1", "1x", "99999999TiB"] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(wrong.starts_with('-') || error.contains("a size such as `32GiB`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn nothing_is_limited_unless_it_is_said() {
        let config = CapacityConfig::default();
        assert!(config.limits().is_none() && config.limits_of("course").is_none());
        let config: CapacityConfig = serde_saphyr::from_str("collections: { course: { labs: 3 } }").expect("valid");
        assert!(config.limits().is_none() && config.limits_of("other").is_none());
        assert_eq!(config.limits_of("course"), Limits { labs: Some(3), ..Limits::default() });
    }
}
