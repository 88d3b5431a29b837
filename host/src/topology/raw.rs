//! The file as it is written: typed, in order, every value with its place. Nothing is inherited or looked up yet.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use super::place::{Place, Places};
use super::{MAX_BYTES, TopologyError, shown};

/// Text together with its place.
pub(super) type Text = Spanned<String>;

/// A mapping with keys of the author's choice, in the order of the file. A value that is null is left at its default.
#[derive(Debug)]
pub(super) struct Entries<T>(Vec<(Text, T)>);

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) name: Option<Text>,
    pub(super) prefix: Option<Text>,
    pub(super) topology: Option<Body>,
    pub(super) mgmt: Option<serde_json::Value>,
    pub(super) settings: Option<serde_json::Value>,
    unknown: Vec<Text>,
}

#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) defaults: NodeDef,
    pub(super) kinds: Entries<NodeDef>,
    pub(super) groups: Entries<NodeDef>,
    pub(super) nodes: Entries<NodeDef>,
    pub(super) links: Vec<Spanned<LinkDef>>,
    unknown: Vec<Text>,
}

#[derive(Debug, Default)]
pub(super) struct NodeDef {
    pub(super) kind: Option<Text>,
    pub(super) group: Option<Text>,
    pub(super) image: Option<Text>,
    pub(super) cmd: Option<Text>,
    pub(super) entrypoint: Option<Text>,
    pub(super) exec: Vec<Text>,
    pub(super) env: Entries<String>,
    pub(super) user: Option<Text>,
    pub(super) startup_delay: Option<Spanned<u64>>,
    pub(super) sysctls: Entries<String>,
    pub(super) memory: Option<Text>,
    pub(super) binds: Vec<Text>,
    pub(super) volumes: Vec<Text>,
    pub(super) privileged: Option<Spanned<bool>>,
    pub(super) cap_add: Vec<Text>,
    pub(super) devices: Vec<Text>,
    pub(super) network_mode: Option<Text>,
    pub(super) ports: Vec<Text>,
    pub(super) pid_mode: Option<Text>,
    pub(super) cgroupns_mode: Option<Text>,
    pub(super) security_opts: Vec<Text>,
    pub(super) startup_config: Option<Text>,
    pub(super) license: Option<Text>,
    pub(super) env_files: Vec<Text>,
    pub(super) stages: Option<serde_json::Value>,
    pub(super) extras: Option<serde_json::Value>,
    pub(super) runtime: Option<Text>,
    pub(super) cgroup_parent: Option<Text>,
    pub(super) identity_file: Option<Text>,
    pub(super) credentials: Option<serde_json::Value>,
    unknown: Vec<Text>,
}

#[derive(Debug, Default)]
pub(super) struct LinkDef {
    pub(super) kind: Option<Text>,
    pub(super) endpoints: Option<Spanned<Vec<Spanned<EndpointDef>>>>,
    pub(super) endpoint: Option<Spanned<EndpointDef>>,
    pub(super) host_interface: Option<Text>,
    pub(super) remote: Option<Text>,
    pub(super) mtu: Option<Spanned<u32>>,
    pub(super) ipv4: Vec<Text>,
    pub(super) ipv6: Vec<Text>,
    unknown: Vec<Text>,
}

/// An end of a link in either notation.
#[derive(Debug)]
pub(super) enum EndpointDef {
    /// `node:interface`
    Brief(String),
    /// `{node: …, interface: …}`
    Extended(Box<ExtendedEndpoint>),
}

#[derive(Debug, Default)]
pub(super) struct ExtendedEndpoint {
    pub(super) node: Option<Text>,
    pub(super) interface: Option<Text>,
    pub(super) mac: Option<Text>,
    pub(super) ipv4: Option<Text>,
    pub(super) ipv6: Option<Text>,
    unknown: Vec<Text>,
}

/// How far a definition may go before it is refused.
pub(crate) fn limits() -> serde_saphyr::Options {
    // A definition of 1,000 nodes has some 20,000 YAML nodes and is nested 8 deep.
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 100_000,
            max_events: 400_000,
            max_documents: 1,
            max_aliases: 5_000,
            max_anchors: 1_000,
            max_merge_keys: 2_000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 * MAX_BYTES,
            flow_nesting_limit: 32,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        emit_comments: false,
        with_snippet: false,
    }
}

/// Reads the text.
pub(super) fn read(text: &str) -> Result<File, TopologyError> {
    if text.len() > MAX_BYTES {
        return Err(TopologyError::TooLarge(text.len()));
    }
    serde_saphyr::from_str_with_options::<File>(text, limits()).map_err(|error| {
        let problem = problem_of(&error);
        let line = error.location().map_or(0, |location| location.line());
        // The reader points at the value before a tab, which may be lines above.
        if let Some(position) =
            Some(text).filter(|_| problem.contains("tab")).and_then(|text| indenting_tab(text, line))
        {
            let problem = "this line is indented with a tab; YAML is indented with spaces".to_owned();
            return TopologyError::Malformed { place: Place { position: Some(position), path: None }, problem };
        }
        let place = error.location().map(|location| Places::of(text).at(location)).unwrap_or_default();
        TopologyError::Malformed { place, problem }
    })
}

/// Line and column of the first tab that a line begins with, from line `from` on.
fn indenting_tab(text: &str, from: u64) -> Option<(u64, u64)> {
    (1..).zip(text.lines()).skip_while(|(number, _)| *number < from).find_map(|(number, line)| {
        let column = line.find(|c: char| c != ' ')?;
        line[column..].starts_with('\t').then_some((number, column as u64 + 1))
    })
}

/// What the YAML reader complains about, without the location that it would append.
fn problem_of(error: &serde_saphyr::Error) -> String {
    let mut cause = error.without_snippet();
    while let serde_saphyr::Error::AliasError { error, .. } = cause {
        cause = error.without_snippet();
    }
    let message = match cause {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            return "a second YAML document begins here; a definition is one".to_owned();
        }
        serde_saphyr::Error::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => {
            return "expected a whole number here".to_owned();
        }
        serde_saphyr::Error::InvalidScalar { ty: "boolean", .. } => {
            return "expected `true` or `false` here".to_owned();
        }
        serde_saphyr::Error::Budget { .. }
        | serde_saphyr::Error::AliasReplayLimitExceeded { .. }
        | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. } => {
            return "the definition is nested too deeply, or too large once its aliases are expanded".to_owned();
        }
        serde_saphyr::Error::Unexpected { expected, .. } => {
            let wanted = match *expected {
                "string scalar" => "a single value, neither a list nor a mapping,",
                "mapping start" => "a mapping (`key: value`)",
                "sequence start" => "a list (`- entry`, or `[entry, entry]`)",
                other => other,
            };
            return format!("expected {wanted} here");
        }
        cause => UserMessageFormatter.format_message(cause),
    };
    message.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Reads a mapping whose keys are matched by hand: unknown ones are remembered, null means absent.
macro_rules! keyed {
    ($type:ident, $expecting:literal, $($key:literal => $field:ident),+ $(,)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Keyed;
                impl<'de> Visitor<'de> for Keyed {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        $type::from_map(map)
                    }
                }
                deserializer.deserialize_map(Keyed)
            }
        }

        impl $type {
            const KEYS: &[&str] = &[$($key),+];

            fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
                let mut read = Self::default();
                while let Some(key) = map.next_key::<Text>()? {
                    match key.value.as_str() {
                        $($key => read.$field = map.next_value::<Option<_>>()?.unwrap_or_default(),)+
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            read.unknown.push(key);
                        }
                    }
                }
                Ok(read)
            }
        }
    };
}

keyed!(
    File, "a mapping with `name` and `topology`",
    "name" => name, "prefix" => prefix, "topology" => topology, "mgmt" => mgmt, "settings" => settings,
);
keyed!(
    Body, "a mapping with `nodes` and `links`",
    "defaults" => defaults, "kinds" => kinds, "groups" => groups, "nodes" => nodes, "links" => links,
);
keyed!(
    NodeDef, "a mapping with the settings of a node, such as `kind`",
    "kind" => kind, "group" => group, "image" => image, "cmd" => cmd, "entrypoint" => entrypoint, "exec" => exec,
    "env" => env, "user" => user, "startup-delay" => startup_delay, "sysctls" => sysctls, "memory" => memory,
    "binds" => binds, "volumes" => volumes, "privileged" => privileged, "cap-add" => cap_add, "devices" => devices,
    "network-mode" => network_mode, "ports" => ports, "pid-mode" => pid_mode, "cgroupns-mode" => cgroupns_mode,
    "security-opts" => security_opts, "startup-config" => startup_config, "license" => license,
    "env-files" => env_files, "stages" => stages, "extras" => extras,
    "runtime" => runtime, "cgroup-parent" => cgroup_parent, "identity-file" => identity_file, "credentials" => credentials,
);
keyed!(
    LinkDef, "a mapping with `endpoints`",
    "type" => kind, "endpoints" => endpoints, "endpoint" => endpoint, "host-interface" => host_interface, "remote" => remote,
    "mtu" => mtu, "ipv4" => ipv4, "ipv6" => ipv6,
);
keyed!(
    ExtendedEndpoint, "a mapping with `node` and `interface`",
    "node" => node, "interface" => interface, "mac" => mac, "ipv4" => ipv4, "ipv6" => ipv6,
);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for Entries<T> {
    type Target = [(Text, T)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> Entries<T> {
    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(name, _)| name.value == key).map(|(_, value)| value)
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Ordered<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key()? {
                    entries.push((key, map.next_value::<Option<T>>()?.unwrap_or_default()));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Ordered(PhantomData))
    }
}

impl<'de> Deserialize<'de> for EndpointDef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = EndpointDef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an endpoint such as `r1:eth1` or `{node: r1, interface: eth1}`")
            }
            fn visit_str<E>(self, text: &str) -> Result<EndpointDef, E> {
                Ok(EndpointDef::Brief(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointDef, A::Error> {
                Ok(EndpointDef::Extended(Box::new(ExtendedEndpoint::from_map(map)?)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What containerlab knows besides the keys that are read here.
const OTHER_FILE_KEYS: &[&str] = &["debug"];
const OTHER_NODE_KEYS: &[&str] = &[
    "aliases",
    "auto-remove",
    "certificate",
    "components",
    "config",
    "cpu",
    "cpu-set",
    "dns",
    "enforce-startup-config",
    "healthcheck",
    "hostname",
    "image-pull-policy",
    "kernel",
    "labels",
    "link-apply-mode",
    "mgmt-ipv4",
    "mgmt-ipv6",
    "position",
    "publish",
    "restart-policy",
    "sandbox",
    "shm-size",
    "suppress-startup-config",
    "tmpfs",
    "type",
];
const OTHER_LINK_KEYS: &[&str] = &["labels", "vars", "mode", "vni", "dst-port", "src-port"];
const OTHER_ENDPOINT_KEYS: &[&str] = &["vars"];

/// All keys that are known of each mapping: those that are read, and the others.
#[cfg(test)]
pub(super) const FILE_KEYS: [&[&str]; 2] = [File::KEYS, OTHER_FILE_KEYS];
#[cfg(test)]
pub(super) const BODY_KEYS: [&[&str]; 2] = [Body::KEYS, &[]];
#[cfg(test)]
pub(super) const NODE_KEYS: [&[&str]; 2] = [NodeDef::KEYS, OTHER_NODE_KEYS];
#[cfg(test)]
pub(super) const LINK_KEYS: [&[&str]; 2] = [LinkDef::KEYS, OTHER_LINK_KEYS];
#[cfg(test)]
pub(super) const ENDPOINT_KEYS: [&[&str]; 2] = [ExtendedEndpoint::KEYS, OTHER_ENDPOINT_KEYS];

/// Refuses keys that nobody knows and that look like misspelt ones. Others may belong to a containerlab newer than
/// this server, and are passed over.
pub(super) fn refuse_misspelt(file: &File, places: &Places<'_>) -> Result<(), TopologyError> {
    let check = |unknown: &[Text], known: &[&str], others: &[&str]| {
        for key in unknown.iter().filter(|key| !others.contains(&key.value.as_str())) {
            if let Some(meant) = known.iter().chain(others).find(|known| is_misspelt(&key.value, known)) {
                let problem = format!("`{}` is not a known key; did you mean `{meant}`?", shown(&key.value));
                return Err(places.invalid(key, problem));
            }
        }
        Ok(())
    };
    check(&file.unknown, File::KEYS, OTHER_FILE_KEYS)?;
    let Some(body) = &file.topology else {
        return Ok(());
    };
    check(&body.unknown, Body::KEYS, &[])?;
    let shared = [&body.kinds, &body.groups, &body.nodes].into_iter().flat_map(|entries| entries.iter());
    for node in std::iter::once(&body.defaults).chain(shared.map(|(_, node)| node)) {
        check(&node.unknown, NodeDef::KEYS, OTHER_NODE_KEYS)?;
    }
    for link in &body.links {
        check(&link.value.unknown, LinkDef::KEYS, OTHER_LINK_KEYS)?;
        for end in link.value.endpoints.iter().flat_map(|ends| &ends.value) {
            if let EndpointDef::Extended(end) = &end.value {
                check(&end.unknown, ExtendedEndpoint::KEYS, OTHER_ENDPOINT_KEYS)?;
            }
        }
    }
    Ok(())
}

/// Whether `word` differs from `known` in case or separators, or in one letter that is missing, added, changed or
/// swapped with its neighbour.
fn is_misspelt(word: &str, known: &str) -> bool {
    let plain = |text: &str| text.replace('_', "-").to_ascii_lowercase().into_bytes();
    let (word, known) = (plain(word), plain(known));
    if word == known {
        return true;
    }
    // Very short keys are one letter away from too many words.
    if known.len() < 4 || word.len().abs_diff(known.len()) > 1 {
        return false;
    }
    let same_start = word.iter().zip(&known).take_while(|(a, b)| a == b).count();
    let (word, known) = (&word[same_start..], &known[same_start..]);
    let rest = |text: &[u8], from: usize| text.get(from..).map(<[u8]>::to_vec);
    rest(word, 1) == rest(known, 1)
        || rest(word, 1).as_deref() == Some(known)
        || Some(word) == rest(known, 1).as_deref()
        || (word.len() > 1 && known.len() > 1 && word[0] == known[1] && word[1] == known[0] && word[2..] == known[2..])
}
