//! From a topology to what the helper builds: what this runtime can do, and with which names, ids and addresses.
//!
//! Pure: nothing here touches the system but [`id_map`], which looks at who the server is.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::EmbeddedOptions;
use super::protocol::{BindPlan, EndPlan, IdMap, LabPlan, LinkPlan, NodePlan, PATH};
use crate::runtime::RuntimeError;
use crate::topology::{Endpoint, FileBind, HostDemand, Link, Node, Topology};

/// containerlab's default, in bytes.
const MTU: u32 = 9500;
/// Longest name of an interface, in bytes.
const INTERFACE: usize = 15;
/// What the kernel takes for a pair of virtual interfaces.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65_535;

/// Ids of the host that are given to nodes when the server is root: far above those of people, daemons and other
/// container tools.
const FIRST_ID: u32 = 0x7000_0000;
const IDS_PER_NODE: u32 = 0x1_0000;
const SLOTS: u32 = 0x0fff;

/// Says whether the topology can be run at all.
///
/// # Errors
/// [`RuntimeError::Unsupported`] naming the node or link and the key.
pub(super) fn check(topology: &Topology, options: &EmbeddedOptions) -> Result<(), RuntimeError> {
    if topology.nodes.is_empty() {
        return Err(unsupported("the topology has no nodes".to_owned()));
    }
    let (count, most) = (topology.nodes.len(), options.max_nodes);
    if count > most {
        return Err(unsupported(format!("nodes: there are {count}, and this server allows {most} per topology")));
    }
    for node in &topology.nodes {
        if let Some(memory) = node.memory.filter(|memory| *memory > options.max_memory) {
            let (name, most) = (&node.name, options.max_memory);
            return Err(unsupported(format!(
                "node {name}: memory: {memory} bytes are asked for, and this server allows {most} per node"
            )));
        }
    }
    topology.nodes.iter().try_for_each(check_node)?;
    links(topology).map(drop)
}

fn check_node(node: &Node) -> Result<(), RuntimeError> {
    let name = &node.name;
    let other = "the containerlab runtime runs it";
    if node.kind != "linux" {
        let kind = &node.kind;
        return Err(unsupported(format!(
            "node {name}: kind {kind} can't run on the embedded runtime, which runs kind linux only; {other}"
        )));
    }
    // There is no management network here that it could be.
    let management = |demand: &&HostDemand| matches!(demand, HostDemand::NetworkMode(mode) if ["network ", "bridge ", "mgmt "].iter().any(|of| mode.starts_with(of)));
    if let Some(demand) = node.demands.iter().find(|demand| !management(demand)) {
        let asked = match demand {
            HostDemand::Bind(bind) if !bind.starts_with(['/', '~']) && bind.contains(':') => {
                return Err(unsupported(format!(
                    "node {name}: binds ({bind}) is neither a file of the topology nor a folder of such files that ends in \
                     `:ro`, and nothing else can be bound on the embedded runtime; {other}"
                )));
            }
            HostDemand::Bind(bind) => format!("binds ({bind})"),
            HostDemand::Privileged => "privileged".to_owned(),
            HostDemand::Capability(capability) => format!("cap-add ({capability})"),
            HostDemand::Device(device) => format!("devices ({device})"),
            HostDemand::NetworkMode(mode) if mode.starts_with("link ") => format!("a {mode}"),
            HostDemand::NetworkMode(mode) => format!("network-mode ({mode})"),
            HostDemand::Port(port) => format!("ports ({port})"),
        };
        return Err(unsupported(format!(
            "node {name}: {asked} reaches out to the host, which nodes of the embedded runtime never do; {other}"
        )));
    }
    // The host name of the node, which the kernel bounds, and a folder name here and there.
    let named = !name.is_empty() && name.len() <= 63;
    if !named || name.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        return Err(unsupported(format!(
            "node {name}: names have 1 to 63 letters, digits, dashes, underscores and dots on the embedded runtime"
        )));
    }
    for key in node.sysctls.keys() {
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !key.contains("..");
        if !plain || !key.starts_with("net.") {
            return Err(unsupported(format!(
                "node {name}: sysctls: {key} is not one of the node's own network (net.…), and others are the host's; {other}"
            )));
        }
    }
    binds(node)?;
    command(node)?;
    user(node).map(drop)
}

/// Where the node sees which files of the topology.
fn binds(node: &Node) -> Result<Vec<BindPlan>, RuntimeError> {
    let name = &node.name;
    let plan = |bind: &FileBind| {
        if let Some(problem) = bind.problem() {
            return Err(unsupported(format!("node {name}: {problem}")));
        }
        let wrong = |what: &str| Err(unsupported(format!("node {name}: binds ({}): {what}", bind.entry)));
        if let Some(option) = &bind.option {
            return wrong(&format!("there is no option {option} on the embedded runtime, only ro and rw"));
        }
        let parts: Vec<&str> = bind.target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if !bind.target.starts_with('/') || parts.is_empty() || parts.contains(&"..") || bind.target.contains('\0') {
            return wrong("the path in the node has to be absolute, without `..`");
        }
        if ["proc", "sys", "dev"].contains(&parts[0]) {
            return wrong("nothing can be put into /proc, /sys and /dev");
        }
        let target = format!("/{}", parts.join("/"));
        Ok(BindPlan { source: bind.source.clone(), target, read_only: bind.read_only })
    };
    node.binds.iter().map(plan).collect()
}

/// The words of `entrypoint` and `cmd`, split as containerlab does, which runs no shell.
fn command(node: &Node) -> Result<Vec<String>, RuntimeError> {
    let mut words = Vec::new();
    for (key, text) in [("entrypoint", &node.entrypoint), ("cmd", &node.cmd)] {
        if let Some(text) = text {
            words.extend(split(text).map_err(|error| unsupported(format!("node {}: {key}: {error}", node.name)))?);
        }
    }
    Ok(words)
}

/// Splits a command line into words.
///
/// # Errors
/// When a quote is not closed.
pub(super) fn split(command: &str) -> Result<Vec<String>, String> {
    shell_words::split(command).map_err(|_| format!("a quote is not closed in: {command}"))
}

fn user(node: &Node) -> Result<(u32, u32), RuntimeError> {
    let Some(text) = node.user.as_deref().filter(|text| !text.is_empty()) else { return Ok((0, 0)) };
    let id = |name: &str| match name {
        "root" => Some(0),
        "daemon" => Some(1),
        "bin" => Some(2),
        "nobody" | "nogroup" => Some(65_534),
        number => number.parse().ok().filter(|id| *id < IDS_PER_NODE),
    };
    let (name, group) = text.split_once(':').unwrap_or((text, text));
    id(name).zip(id(group)).ok_or_else(|| {
        let node = &node.name;
        unsupported(format!(
            "node {node}: user: there is no {text} in a node of the embedded runtime; ids below 65536 exist"
        ))
    })
}

/// Makes the plan of an instance.
///
/// # Errors
/// As [`check`]; [`RuntimeError::Unsupported`] if a node asks for a user and the server can't give it one.
pub(super) fn plan(
    instance: &str,
    topology: &Topology,
    options: &EmbeddedOptions,
    ids: IdMap,
) -> Result<LabPlan, RuntimeError> {
    check(topology, options)?;
    let links = links(topology)?;
    let mut nodes = Vec::new();
    for (index, node) in topology.nodes.iter().enumerate() {
        let user = user(node)?;
        if user.0.max(user.1) >= ids.width() {
            return Err(unsupported(format!(
                "node {}: user: nodes have no users but root when the server is not root itself",
                node.name
            )));
        }
        let mut env: Vec<(String, String)> = [
            ("PATH", PATH),
            ("HOME", if user.0 == 0 { "/root" } else { "/" }),
            ("HOSTNAME", &node.name),
            ("TERM", "xterm"),
            ("LANG", "C.UTF-8"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
        for (key, value) in &node.env {
            env.retain(|(known, _)| known != key);
            env.push((key.clone(), value.clone()));
        }
        nodes.push(NodePlan {
            name: node.name.clone(),
            command: command(node)?,
            env,
            user,
            sysctls: node.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            memory: node.memory.unwrap_or(options.memory),
            hosts: hosts(topology, &links, index),
            binds: binds(node)?,
        });
    }
    Ok(LabPlan {
        instance: instance.to_owned(),
        ids,
        nodes,
        links,
        processes: options.processes,
        disk: options.disk,
        hidden: options.hidden.clone(),
        files: Vec::new(),
    })
}

fn links(topology: &Topology) -> Result<Vec<LinkPlan>, RuntimeError> {
    let mut taken = HashSet::new();
    let mut links = Vec::new();
    for Link { ends: [near, far], mtu } in &topology.links {
        let link = format!("link {}:{} – {}:{}", near.node, near.interface, far.node, far.interface);
        let wrong = |what: String| unsupported(format!("{link}: {what}"));
        let mtu = mtu.unwrap_or(MTU);
        if !MTUS.contains(&mtu) {
            return Err(wrong(format!("mtu: {mtu} is not between {} and {}", MTUS.start(), MTUS.end())));
        }
        for end in [near, far] {
            if !taken.insert((&end.node, &end.interface)) {
                return Err(wrong(format!("{}:{} is in use by another link", end.node, end.interface)));
            }
        }
        links.push(LinkPlan { ends: [self::end(topology, near, &wrong)?, self::end(topology, far, &wrong)?], mtu });
    }
    Ok(links)
}

fn end(topology: &Topology, end: &Endpoint, wrong: &impl Fn(String) -> RuntimeError) -> Result<EndPlan, RuntimeError> {
    let Endpoint { node, interface, mac, ipv4, ipv6 } = end;
    let index = topology.nodes.iter().position(|each| each.name == *node).ok_or_else(|| {
        wrong(format!(
            "{node} is not a node, and the embedded runtime links nodes only; the containerlab runtime knows more"
        ))
    })?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    if interface.is_empty()
        || interface.len() > INTERFACE
        || ["lo", ".", ".."].contains(&interface.as_str())
        || interface.contains(odd)
    {
        return Err(wrong(format!("{interface} can't be the name of an interface")));
    }
    let mut addresses = Vec::new();
    for text in [ipv4, ipv6].into_iter().flatten() {
        addresses.push(address(text).ok_or_else(|| wrong(format!("{text} is not an address with a prefix length")))?);
    }
    let mac = match mac {
        Some(text) => mac_address(text).ok_or_else(|| wrong(format!("mac: {text} is not a hardware address")))?,
        None => generate_mac(),
    };
    Ok(EndPlan { node: index, interface: interface.clone(), mac, addresses })
}

fn address(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= if address.is_ipv4() { 32 } else { 128 })?;
    Some((address, prefix))
}

fn mac_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten())
        .collect::<Option<_>>()?;
    // An odd first byte means a group of machines.
    bytes.try_into().ok().filter(|mac: &[u8; 6]| mac[0] & 1 == 0)
}

/// One that is recognised as made by containerlab.
fn generate_mac() -> [u8; 6] {
    let [a, b, c] = rand::random();
    [0xaa, 0xc1, 0xab, a, b, c]
}

/// The names of all nodes that have an address on a link, as containerlab writes those of its management network.
fn hosts(topology: &Topology, links: &[LinkPlan], own: usize) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    let ends = || links.iter().flat_map(|link| &link.ends);
    for (index, node) in topology.nodes.iter().enumerate() {
        let addresses = ends().filter(|end| end.node == index).flat_map(|end| &end.addresses);
        let mut families = HashSet::new();
        for (address, _) in addresses {
            if families.insert(address.is_ipv4()) {
                let _ = writeln!(text, "{address}\t{}", node.name);
            }
        }
        if index == own && families.is_empty() {
            let _ = writeln!(text, "127.0.1.1\t{}", node.name);
        }
    }
    text
}

/// Name of a node's container, by containerlab's rules for `prefix`.
pub(super) fn container_name(topology: &Topology, node: &str) -> String {
    let lab = &topology.name;
    match topology.prefix.as_deref() {
        None => format!("clab-{lab}-{node}"),
        Some("") => node.to_owned(),
        Some("__lab-name") => format!("{lab}-{node}"),
        Some(prefix) => format!("{prefix}-{lab}-{node}"),
    }
}

/// Ids for a lab with so many nodes, which no other lab of this server has soon.
pub(super) fn id_map(nodes: usize) -> IdMap {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !nix::unistd::geteuid().is_root() {
        return IdMap::Own;
    }
    let slots = u32::try_from(nodes).unwrap_or(SLOTS).saturating_add(1);
    let _ = NEXT.compare_exchange(0, 1 + rand::random::<u32>() % SLOTS, Ordering::Relaxed, Ordering::Relaxed);
    let start = NEXT.fetch_add(slots, Ordering::Relaxed);
    // The server's own map: all of the host's ids, or what an outer container has been given.
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    pick_ids(&own, slots, start)
}

fn pick_ids(own: &str, slots: u32, start: u32) -> IdMap {
    let extents = own.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((inside, inside + count))
    });
    let Some((first, end)) = extents.max_by_key(|(first, end)| end - first) else {
        return IdMap::Range { base: FIRST_ID, width: IDS_PER_NODE };
    };
    let (wide, narrow) = (u64::from(slots) * u64::from(IDS_PER_NODE), u64::from(slots));
    let room = SLOTS.saturating_sub(slots).max(1);
    let base = u64::from(FIRST_ID) + u64::from(start % room) * u64::from(IDS_PER_NODE);
    if first <= base && base + wide <= end {
        return IdMap::Range { base: u32::try_from(base).expect("far below 2^32"), width: IDS_PER_NODE };
    }
    // Inside somebody else's container there are fewer: nodes get root only, from the far end.
    let base = u32::try_from(end.saturating_sub(narrow).max(first)).unwrap_or(u32::MAX);
    IdMap::Range { base, width: 1 }
}

fn unsupported(text: String) -> RuntimeError {
    RuntimeError::Unsupported(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node { name: name.to_owned(), kind: "linux".to_owned(), ..Node::default() }
    }

    fn endpoint(node: &str, interface: &str, ipv4: Option<&str>) -> Endpoint {
        Endpoint {
            node: node.to_owned(),
            interface: interface.to_owned(),
            mac: None,
            ipv4: ipv4.map(str::to_owned),
            ipv6: None,
        }
    }

    fn lab(nodes: Vec<Node>, links: Vec<[Endpoint; 2]>) -> Topology {
        let links = links.into_iter().map(|ends| Link { ends, mtu: None }).collect();
        Topology { name: "lab".to_owned(), prefix: None, nodes, links }
    }

    fn refusal(topology: &Topology) -> String {
        check(topology, &EmbeddedOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn another_kind_is_refused_with_the_runtime_that_runs_it() {
        let other = Node { kind: "nokia_srlinux".to_owned(), ..node("leaf-1") };
        let text = refusal(&lab(vec![other], vec![]));
        assert!(
            text.contains("leaf-1") && text.contains("nokia_srlinux") && text.contains("containerlab runtime"),
            "{text}"
        );
    }

    #[test]
    fn what_reaches_for_the_host_is_refused_by_its_key() {
        for (demand, key) in [
            (HostDemand::Bind("/etc:/x".to_owned()), "binds"),
            (HostDemand::Privileged, "privileged"),
            (HostDemand::Capability("SYS_ADMIN".to_owned()), "cap-add"),
            (HostDemand::Device("/dev/kvm".to_owned()), "devices"),
            (HostDemand::NetworkMode("host".to_owned()), "network-mode"),
            (HostDemand::Port("80:80".to_owned()), "ports"),
        ] {
            let text = refusal(&lab(vec![Node { demands: vec![demand], ..node("r1") }], vec![]));
            assert!(text.contains("r1") && text.contains(key), "{text}");
        }
    }

    #[test]
    fn files_of_the_topology_are_seen_where_the_node_says() {
        let files = ["frr/daemons".to_owned(), "r1.cfg".to_owned()];
        let parse = |bind: &str| {
            let text = format!("name: x\ntopology: {{nodes: {{r1: {{kind: linux, binds: ['{bind}']}}}}}}");
            Topology::parse_beside(&text, &files).unwrap()
        };
        let bind = |source: &str, target: &str, read_only| {
            vec![BindPlan { source: source.to_owned(), target: target.to_owned(), read_only }]
        };
        for (text, plan) in [
            ("r1.cfg:/etc//r1.cfg", bind("r1.cfg", "/etc/r1.cfg", false)),
            ("./frr/:/etc/frr/:ro", bind("frr", "/etc/frr", true)),
        ] {
            assert_eq!(binds(&parse(text).nodes[0]).unwrap(), plan, "{text}");
        }
        for (text, problem) in [
            ("r2.cfg:/x", "no file or folder r2.cfg"),
            ("frr:/x", "ends in `:ro`"),
            ("r1.cfg:x", "absolute"),
            ("r1.cfg:/", "absolute"),
            ("r1.cfg:/a/../../b", "absolute"),
            ("r1.cfg:/proc/x", "/proc"),
            ("r1.cfg:/dev", "/dev"),
            ("r1.cfg:/x:rshared", "rshared"),
        ] {
            let said = refusal(&parse(text));
            assert!(said.starts_with("node r1: binds") && said.contains(problem), "{text}: {said}");
        }
    }

    #[test]
    fn only_sysctls_of_the_network_are_taken() {
        for key in ["kernel.hostname", "net..ipv4", "net./../../kernel/core_pattern", "vm.swappiness"] {
            let sysctls = [(key.to_owned(), "1".to_owned())].into();
            assert!(refusal(&lab(vec![Node { sysctls, ..node("r1") }], vec![])).contains(key));
        }
        let sysctls = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
        check(&lab(vec![Node { sysctls, ..node("r1") }], vec![]), &EmbeddedOptions::default()).unwrap();
    }

    #[test]
    fn links_are_refused_with_their_place() {
        let two = || vec![node("r1"), node("r2")];
        let bad = |ends| refusal(&lab(two(), vec![ends]));
        assert!(bad([endpoint("r1", "eth1", None), endpoint("host", "veth7", None)]).contains("host is not a node"));
        assert!(
            bad([endpoint("r1", "a-very-long-name", None), endpoint("r2", "eth1", None)]).contains("a-very-long-name")
        );
        assert!(bad([endpoint("r1", "eth1", Some("10.0.0.1")), endpoint("r2", "eth1", None)]).contains("10.0.0.1"));
        assert!(bad([endpoint("r1", "eth1", None), endpoint("r1", "eth1", None)]).contains("in use"));
    }

    #[test]
    fn a_plan_has_words_addresses_and_names() {
        let first = Node {
            cmd: Some("sh -c 'echo \"$A\"; sleep 1'".to_owned()),
            env: [("A".to_owned(), "b c".to_owned())].into(),
            ..node("spine-1")
        };
        let ends = [endpoint("spine-1", "eth1", Some("10.0.0.1/30")), endpoint("R2", "eth1", Some("10.0.0.2/30"))];
        let topology = lab(vec![first, node("R2")], vec![ends]);
        let plan = plan("lab-1", &topology, &EmbeddedOptions::default(), IdMap::Own).unwrap();
        assert_eq!(plan.nodes[0].command, ["sh", "-c", "echo \"$A\"; sleep 1"]);
        assert!(plan.nodes[0].env.contains(&("A".to_owned(), "b c".to_owned())));
        assert!(plan.nodes[1].hosts.contains("10.0.0.1\tspine-1\n10.0.0.2\tR2\n"), "{}", plan.nodes[1].hosts);
        assert_eq!(plan.links[0].mtu, 9500);
        assert_eq!(plan.links[0].ends[1].addresses, [("10.0.0.2".parse().unwrap(), 30)]);
        assert_eq!(plan.links[0].ends[0].mac[..3], [0xaa, 0xc1, 0xab]);
    }

    #[test]
    fn users_other_than_root_need_a_server_that_is_root() {
        let topology = lab(vec![Node { user: Some("nobody".to_owned()), ..node("r1") }], vec![]);
        let options = EmbeddedOptions::default();
        assert!(plan("x", &topology, &options, IdMap::Own).is_err());
        let ids = IdMap::Range { base: 1 << 30, width: 65_536 };
        assert_eq!(plan("x", &topology, &options, ids).unwrap().nodes[0].user, (65_534, 65_534));
    }

    #[test]
    fn container_names_follow_the_prefix() {
        let mut topology = lab(vec![], vec![]);
        assert_eq!(container_name(&topology, "a-b"), "clab-lab-a-b");
        topology.prefix = Some(String::new());
        assert_eq!(container_name(&topology, "a-b"), "a-b");
        topology.prefix = Some("x".to_owned());
        assert_eq!(container_name(&topology, "a-b"), "x-lab-a-b");
    }

    #[test]
    fn ids_come_from_what_the_server_has() {
        let all = pick_ids("         0          0 4294967295\n", 3, 5);
        assert_eq!(all, IdMap::Range { base: FIRST_ID + 5 * IDS_PER_NODE, width: IDS_PER_NODE });
        let few = pick_ids("0 1000 1\n1 100000 65536\n", 3, 5);
        assert_eq!(few, IdMap::Range { base: 65_534, width: 1 });
    }
}
