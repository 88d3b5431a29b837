//! What a node is once `defaults`, `kinds` and `groups` have been applied to it, as containerlab 0.79 applies them.
//!
//! A single value comes from the most special level that has one: node, group, kind, defaults. Maps are merged, the
//! special levels winning. Lists are joined from the general to the special, each entry once, but for `ports`, which
//! come from one level only.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::files::{FileBind, entry as file_bind};
use super::place::Places;
use super::raw::{Body, Entries, File, NodeDef, Text};
use super::{HostDemand, Node, TopologyError, shown};

/// The levels that a node inherits from, the most special first.
type Levels<'a> = [&'a NodeDef; 4];

/// The node called `name`. `shared` is what every node of the topology asks of its host, `files` lie beside it.
pub(super) fn node(
    body: &Body,
    name: &Text,
    shared: &[HostDemand],
    files: &[String],
    places: &Places<'_>,
) -> Result<Node, TopologyError> {
    static NOTHING: std::sync::LazyLock<NodeDef> = std::sync::LazyLock::new(NodeDef::default);

    let own = body.nodes.get(&name.value).unwrap_or(&NOTHING);
    // The kind may come from a group and the group from a kind, so each is looked for without the other's help first.
    let kind_of_group = |group: &Option<Text>| text(group).and_then(|group| text(&body.groups.get(group)?.kind));
    let kind = text(&own.kind)
        .or_else(|| kind_of_group(&own.group))
        .or_else(|| kind_of_group(&body.defaults.group))
        .or_else(|| text(&body.defaults.kind))
        .ok_or_else(|| {
            places.invalid(name, format!("node `{}` has no kind; add `kind: linux` to it or to `defaults`", name.value))
        })?;
    let by_kind = body.kinds.get(kind).unwrap_or(&NOTHING);
    let by_group = text(&own.group)
        .or_else(|| text(&by_kind.group))
        .or_else(|| text(&body.defaults.group))
        .and_then(|group| body.groups.get(group))
        .unwrap_or(&NOTHING);
    let levels: Levels<'_> = [own, by_group, by_kind, &body.defaults];

    let (binds, mounts) = mounts(levels, files, places)?;
    let mut demands = demands(levels, &name.value, kind, mounts);
    demands.extend_from_slice(shared);
    let memory = first(levels, |level| &level.memory);
    Ok(Node {
        name: name.value.clone(),
        kind: kind.to_lowercase(),
        image: owned(first(levels, |level| &level.image)),
        cmd: owned(first(levels, |level| &level.cmd)),
        entrypoint: owned(first(levels, |level| &level.entrypoint)),
        exec: joined(levels, |level| &level.exec),
        env: merged(levels, |level| &level.env),
        user: owned(first(levels, |level| &level.user)),
        startup_delay: levels.iter().find_map(|level| level.startup_delay.as_ref()).map_or(0, |delay| delay.value),
        sysctls: merged(levels, |level| &level.sysctls),
        memory: memory.map(|memory| bytes(memory, places)).transpose()?,
        runtime: owned(first(levels, |level| &level.runtime)),
        binds,
        demands,
    })
}

fn text(value: &Option<Text>) -> Option<&str> {
    value.as_ref().map(|value| value.value.as_str()).filter(|value| !value.is_empty())
}

fn owned(value: Option<&Text>) -> Option<String> {
    value.map(|value| value.value.clone())
}

fn first<'a>(levels: Levels<'a>, of: impl Fn(&'a NodeDef) -> &'a Option<Text>) -> Option<&'a Text> {
    levels.into_iter().find_map(|level| of(level).as_ref().filter(|value| !value.value.is_empty()))
}

fn entries<'a>(levels: Levels<'a>, of: impl Fn(&'a NodeDef) -> &'a Vec<Text>) -> impl Iterator<Item = &'a Text> {
    levels.into_iter().rev().flat_map(of)
}

fn joined<'a>(levels: Levels<'a>, of: impl Fn(&'a NodeDef) -> &'a Vec<Text>) -> Vec<String> {
    let mut seen = HashSet::new();
    entries(levels, of).filter(|entry| seen.insert(&entry.value)).map(|entry| entry.value.clone()).collect()
}

fn merged<'a>(levels: Levels<'a>, of: impl Fn(&'a NodeDef) -> &'a Entries<String>) -> BTreeMap<String, String> {
    let in_order = levels.into_iter().rev().flat_map(|level| of(level).iter());
    in_order.map(|(key, value)| (key.value.clone(), value.clone())).collect()
}

/// What a topology asks of its host for all of its nodes at once.
pub(super) fn shared_demands(file: &File) -> Vec<HostDemand> {
    let mut demands = Vec::new();
    let said = |section: &Option<Value>, key: &str| match section.as_ref().and_then(|section| section.get(key)) {
        Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
        Some(Value::Null | Value::Object(_) | Value::Array(_)) | None => None,
        Some(other) => Some(other.to_string()),
    };
    // Both may name what is there already, and is somebody else's: then the nodes are in the same network as that.
    let network = said(&file.mgmt, "network").filter(|network| network != MANAGEMENT_NETWORK);
    demands.extend(network.map(|network| HostDemand::NetworkMode(format!("network {network}"))));
    let bridge = said(&file.mgmt, "bridge");
    demands.extend(bridge.map(|bridge| HostDemand::NetworkMode(format!("bridge {bridge}"))));
    demands.extend(of_networks(&file.mgmt));
    let mut paths = Vec::new();
    if let Some(authority) = file.settings.as_ref().and_then(|settings| settings.get("certificate-authority")) {
        strings(authority, &mut paths);
    }
    demands.extend(paths.into_iter().filter(leaves_folder).map(|path| HostDemand::Bind(path.to_owned())));
    demands
}

/// What else `mgmt` says of the management network: it is made on the host, which has an address in it, a route to it and,
/// by the options of its driver, whatever bridge they name.
fn of_networks(mgmt: &Option<Value>) -> Vec<HostDemand> {
    const HARMLESS: [&str; 4] = ["network", "bridge", "mtu", "skip-when-unused"];
    let Some(Value::Object(keys)) = mgmt else { return vec![] };
    let others = keys.iter().filter(|(key, value)| !HARMLESS.contains(&key.as_str()) && !value.is_null());
    others.map(|(key, value)| HostDemand::NetworkMode(format!("mgmt {key}: {value}"))).collect()
}

/// The network that containerlab puts nodes into unless told otherwise.
const MANAGEMENT_NETWORK: &str = "clab";

/// What the node asks of its host, besides the host's `mounts` that it asks for.
fn demands(levels: Levels<'_>, name: &str, kind: &str, mounts: Vec<String>) -> Vec<HostDemand> {
    let mut demands: Vec<HostDemand> = mounts.into_iter().map(HostDemand::Bind).collect();
    demands.extend(host_paths(levels).into_iter().map(HostDemand::Bind));
    if is_privileged(levels, kind) {
        demands.push(HostDemand::Privileged);
    }
    demands.extend(joined(levels, |level| &level.cap_add).into_iter().map(HostDemand::Capability));
    demands.extend(joined(levels, |level| &level.devices).into_iter().map(HostDemand::Device));
    // `none` asks for less than the default, not for more.
    let mode = first(levels, |level| &level.network_mode).filter(|mode| mode.value != "none" && mode.value != "bridge");
    demands.extend(owned(mode).map(HostDemand::NetworkMode));
    if ["bridge", "ovs-bridge"].iter().any(|bridge| kind.eq_ignore_ascii_case(bridge)) {
        // It isn't made but is there already, and joins the node's links with whatever it is for.
        demands.push(HostDemand::NetworkMode(format!("bridge {name}")));
    }
    let ports = levels.into_iter().map(|level| &level.ports).find(|ports| !ports.is_empty());
    demands.extend(ports.into_iter().flatten().map(|port| HostDemand::Port(port.value.clone())));
    demands
}

/// `binds` and `volumes`, those that mean files beside the definition apart from those that mean the host's. Of two with the
/// same target, the more special one counts.
fn mounts(
    levels: Levels<'_>,
    files: &[String],
    places: &Places<'_>,
) -> Result<(Vec<FileBind>, Vec<String>), TopologyError> {
    let mut by_target: HashMap<&str, (usize, &str, bool)> = HashMap::new();
    let mut add = |target, entry, is_bind| {
        let next = by_target.len();
        let known = by_target.entry(target).or_insert((next, entry, is_bind));
        *known = (known.0, entry, is_bind);
    };
    for bind in entries(levels, |level| &level.binds) {
        let parts: Vec<&str> = bind.value.split(':').collect();
        let ([_, target] | [_, target, _]) = parts[..] else {
            let problem = format!("`{}` is not `source:target` or `source:target:options`", shown(&bind.value));
            return Err(places.invalid(bind, problem));
        };
        add(target, &bind.value, true);
    }
    for volume in entries(levels, |level| &level.volumes) {
        add(volume.value.split(':').nth(1).unwrap_or(&volume.value), &volume.value, false);
    }
    let mut mounts: Vec<(usize, &str, bool)> = by_target.into_values().collect();
    mounts.sort_unstable();
    let (mut of_files, mut of_host) = (Vec::new(), Vec::new());
    for (_, text, is_bind) in mounts {
        match file_bind(text, files).filter(|_| is_bind) {
            Some(bind) => of_files.push(bind),
            None => of_host.push(text.to_owned()),
        }
    }
    Ok((of_files, of_host))
}

/// Whether a path leads out of the topology's own folder. So does an address: what it names is fetched by the host, from
/// wherever that gets. What can't be a path ends what it is written into, such as the settings of the host's ssh.
fn leaves_folder(path: &&str) -> bool {
    let is_path = !path.contains(|c: char| c.is_control() || c == '"');
    !is_path || path.starts_with(['/', '~']) || path.split('/').any(|part| part == "..") || path.contains("://")
}

/// Whether it is a file's content, written where its path could be.
fn is_content(text: &str) -> bool {
    text.contains('\n')
}

/// Paths outside the topology's own folder that containerlab would read on the node's behalf.
fn host_paths(levels: Levels<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    paths.extend(first(levels, |level| &level.identity_file).map(|path| path.value.as_str()));
    for credentials in levels.iter().filter_map(|level| level.credentials.as_ref()) {
        paths.extend(credentials.get("identity-file").and_then(Value::as_str));
    }
    let files = [first(levels, |level| &level.startup_config), first(levels, |level| &level.license)];
    let files = files.into_iter().flatten().map(|file| file.value.as_str());
    paths.extend(files.filter(|file| !is_content(file)));
    paths.extend(entries(levels, |level| &level.env_files).map(|path| path.value.as_str()));
    if let Some(extras) = levels.iter().find_map(|level| level.extras.as_ref()) {
        strings(extras, &mut paths);
    }
    paths.into_iter().filter(leaves_folder).map(str::to_owned).collect()
}

fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(values) => values.values().for_each(|value| strings(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_privileged(levels: Levels<'_>, kind: &str) -> bool {
    let privileged = levels.iter().find_map(|level| level.privileged.as_ref()).is_some_and(|value| value.value);
    let shares = |of: fn(&NodeDef) -> &Option<Text>| first(levels, of).is_some_and(|mode| mode.value != "private");
    privileged
        // The last two are containers that somebody else has made, and clusters of them.
        || ["host", "ext-container", "k8s-kind"].iter().any(|outside| kind.eq_ignore_ascii_case(outside))
        // Out of reach of the limits of its own.
        || first(levels, |level| &level.cgroup_parent).is_some()
        || shares(|level| &level.pid_mode)
        || shares(|level| &level.cgroupns_mode)
        || levels.iter().any(|level| !level.security_opts.is_empty())
        || levels.iter().filter_map(|level| level.stages.as_ref()).any(runs_on_host)
        || levels.iter().filter_map(|level| level.credentials.as_ref()).any(says_more_to_ssh)
}

/// Whether the user name of credentials is none. containerlab writes it as it is into the settings of the host's ssh, where
/// a line end begins another setting, such as a command to run.
fn says_more_to_ssh(credentials: &Value) -> bool {
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._@$-".contains(c));
    credentials.get("username").is_some_and(|name| !name.is_null() && !name.as_str().is_some_and(is_name))
}

/// Whether stages have a command with `target: host`.
fn runs_on_host(stages: &Value) -> bool {
    match stages {
        Value::Object(keys) => {
            keys.iter().any(|(key, value)| (key == "target" && value.as_str() == Some("host")) || runs_on_host(value))
        }
        Value::Array(values) => values.iter().any(runs_on_host),
        _ => false,
    }
}

/// A size such as `512mb` or `1.5GiB`. Without a unit, bytes.
fn bytes(text: &Text, places: &Places<'_>) -> Result<u64, TopologyError> {
    size(&text.value).ok_or_else(|| {
        let shown = shown(text.value.trim());
        places.invalid(text, format!("`{shown}` is not a size; write one such as `512mb` or `1GiB`"))
    })
}

/// The bytes of a size such as `512mb` or `1.5GiB`: without a unit, that many. `None`: it is no size, or none that is
/// possible.
pub(crate) fn size(text: &str) -> Option<u64> {
    const UNITS: &[(&str, f64)] = &[
        ("", 1.0),
        ("b", 1.0),
        ("kb", 1e3),
        ("k", 1e3),
        ("kib", 1024.0),
        ("ki", 1024.0),
        ("mb", 1e6),
        ("m", 1e6),
        ("mib", 1_048_576.0),
        ("mi", 1_048_576.0),
        ("gb", 1e9),
        ("g", 1e9),
        ("gib", 1_073_741_824.0),
        ("gi", 1_073_741_824.0),
        ("tb", 1e12),
        ("t", 1e12),
        ("tib", 1_099_511_627_776.0),
        ("ti", 1_099_511_627_776.0),
    ];
    let value = text.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let unit = value[digits..].trim().to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let size = value[..digits].parse::<f64>().ok()? * factor;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 2^53, checked here")]
    (1.0..9_007_199_254_740_992.0).contains(&size).then_some(size as u64)
}
