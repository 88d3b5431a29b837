//! Behaviour of [`Topology::parse`]: what is read, what is refused, and how the refusal reads.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Topology {
    Topology::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> String {
    match Topology::parse(text) {
        Ok(topology) => panic!("accepted: {topology:?}"),
        Err(error) => error.to_string(),
    }
}

const TWO: &str = r#"
name: two-routers
topology:
  nodes:
    r2: {kind: linux, image: "alpine:3", cmd: sleep infinity}
    r1:
      kind: linux
      exec: [ip link, "ip addr add 10.0.0.1/30 dev eth1"]
      env: {A: 1, B: yes, C: 010, D: null}
      startup-delay: 3
      memory: 1.5GiB
      user: 1000
  links:
    - endpoints: ["r1:eth1", "r2:eth1"]
"#;

#[test]
fn nodes_and_links_are_read_in_the_order_of_the_file() {
    let topology = parse(TWO);
    assert_eq!(topology.name, "two-routers");
    assert_eq!(topology.prefix, None);
    let names: Vec<_> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["r2", "r1"]);
    assert_eq!(topology.nodes[0].image.as_deref(), Some("alpine:3"));
    assert_eq!(topology.nodes[0].cmd.as_deref(), Some("sleep infinity"));
    let r1 = topology.node("r1").expect("it is there");
    assert_eq!(r1.exec, ["ip link", "ip addr add 10.0.0.1/30 dev eth1"]);
    assert_eq!(r1.startup_delay, 3);
    assert_eq!(r1.memory, Some(3 << 29));
    assert_eq!(r1.user.as_deref(), Some("1000"));
    assert_eq!(topology.links.len(), 1);
    assert_eq!(topology.links[0].ends[1].node, "r2");
    assert_eq!(topology.links[0].mtu, None);
}

#[test]
fn numbers_and_booleans_in_env_keep_their_spelling() {
    let topology = parse(TWO);
    let env = &topology.node("r1").expect("it is there").env;
    let values: Vec<_> = env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(values, [("A", "1"), ("B", "yes"), ("C", "010"), ("D", "")]);
}

#[test]
fn node_wins_over_group_over_kind_over_defaults() {
    let topology = parse(
        r#"
name: levels
topology:
  defaults: {kind: linux, image: from-defaults, user: from-defaults, entrypoint: from-defaults, cmd: from-defaults}
  kinds:
    linux: {image: from-kind, user: from-kind, entrypoint: from-kind}
  groups:
    edge: {image: from-group, user: from-group}
  nodes:
    r1: {group: edge, image: from-node}
    r2:
"#,
    );
    let of = |name: &str| {
        let node = topology.node(name).expect("it is there");
        [&node.image, &node.user, &node.entrypoint, &node.cmd].map(|value| value.clone().unwrap_or_default())
    };
    assert_eq!(of("r1"), ["from-node", "from-group", "from-kind", "from-defaults"]);
    assert_eq!(of("r2"), ["from-kind", "from-kind", "from-kind", "from-defaults"]);
}

#[test]
fn a_kind_may_come_from_a_group_and_a_group_from_a_kind() {
    let topology = parse(
        r#"
name: x
topology:
  kinds: {linux: {group: servers}}
  groups: {routers: {kind: Nokia_SRLinux}, servers: {image: server}}
  nodes:
    r1: {group: routers}
    s1: {kind: linux}
"#,
    );
    assert_eq!(topology.nodes[0].kind, "nokia_srlinux");
    assert_eq!(topology.nodes[1].image.as_deref(), Some("server"));
}

#[test]
fn maps_are_merged_and_lists_joined_from_the_general_to_the_special() {
    let topology = parse(
        r#"
name: x
topology:
  defaults: {env: {A: defaults, B: defaults, C: defaults}, exec: [one, two], ports: ["80:80"], binds: ["a:/a", "b:/b"]}
  kinds: {linux: {env: {B: kind, C: kind}, sysctls: {net.x: 1}, exec: [three]}}
  nodes:
    r1: {kind: linux, env: {C: node}, sysctls: {net.y: 0}, exec: [one, four], ports: ["81:80"], binds: ["other:/a:ro"]}
"#,
    );
    let r1 = &topology.nodes[0];
    let env: Vec<_> = r1.env.values().map(String::as_str).collect();
    assert_eq!(env, ["defaults", "kind", "node"]);
    assert_eq!(r1.sysctls.len(), 2);
    assert_eq!(r1.exec, ["one", "two", "three", "four"]);
    let binds: Vec<_> = r1.binds.iter().map(|bind| bind.entry.as_str()).collect();
    assert_eq!(binds, ["other:/a:ro", "b:/b"]);
    assert_eq!(r1.demands, [HostDemand::Port("81:80".into())]);
}

#[test]
fn a_bind_of_a_file_beside_the_topology_does_not_reach_for_the_host() {
    let files = ["frr/daemons".to_owned(), "r1.cfg".to_owned()];
    let text = "name: x\ntopology:\n  kinds: {linux: {binds: ['r1.cfg:/r1', '/etc:/etc2:ro', 'frr:/frr']}}\n  nodes:\n    \
                r1: {kind: linux, binds: ['frr:/etc/frr:ro', 'none:/n'], volumes: ['r1.cfg:/v'], startup-config: r1.cfg}\n";
    let topology = Topology::parse_beside(text, &files).expect("valid");
    let binds: Vec<_> = topology.nodes[0].binds.iter().map(|bind| (bind.entry.as_str(), bind.names)).collect();
    assert_eq!(binds, [("r1.cfg:/r1", Named::File), ("frr:/etc/frr:ro", Named::Folder), ("none:/n", Named::Nothing)]);
    let demand = |text: &str| HostDemand::Bind(text.to_owned());
    assert_eq!(topology.nodes[0].demands, [demand("/etc:/etc2:ro"), demand("frr:/frr"), demand("r1.cfg:/v")]);
}

#[test]
fn everything_that_reaches_for_the_host_is_a_demand() {
    let demands = |keys: &str| {
        parse(&format!("name: x\ntopology: {{nodes: {{r1: {{kind: linux, {keys}}}}}}}")).nodes[0].demands.clone()
    };
    assert_eq!(demands("network-mode: none"), []);
    assert_eq!(demands("privileged: false"), []);
    assert_eq!(demands("privileged: true"), [HostDemand::Privileged]);
    assert_eq!(demands("pid-mode: host"), [HostDemand::Privileged]);
    assert_eq!(demands("security-opts: [apparmor=unconfined]"), [HostDemand::Privileged]);
    assert_eq!(demands("stages: {create: {exec: [{command: id, target: host}]}}"), [HostDemand::Privileged]);
    assert_eq!(demands("stages: {create: {exec: [{command: id}]}}"), []);
    assert_eq!(demands("network-mode: host"), [HostDemand::NetworkMode("host".into())]);
    assert_eq!(demands("cap-add: [SYS_ADMIN]"), [HostDemand::Capability("SYS_ADMIN".into())]);
    assert_eq!(demands("devices: [/dev/kvm]"), [HostDemand::Device("/dev/kvm".into())]);
    assert_eq!(demands("startup-config: ../../secret"), [HostDemand::Bind("../../secret".into())]);
    assert_eq!(demands("startup-config: r1.cfg"), []);
    assert_eq!(demands("extras: {srl-agents: [/etc/shadow]}"), [HostDemand::Bind("/etc/shadow".into())]);
    assert_eq!(demands("startup-config: 'http://127.0.0.1/x'"), [HostDemand::Bind("http://127.0.0.1/x".into())]);
    assert_eq!(demands("identity-file: /root/key"), [HostDemand::Bind("/root/key".into())]);
    assert_eq!(demands("credentials: {identity-file: ~/key}"), [HostDemand::Bind("~/key".into())]);
    assert_eq!(demands("credentials: {username: admin@lab, password: \"a b'c\"}"), []);
    // Written into the settings of the host's ssh, where a line end would begin another setting.
    let said = "x\\nHost *\\n\\tProxyCommand /bin/evil";
    assert_eq!(demands(&format!("credentials: {{username: \"{said}\"}}")), [HostDemand::Privileged]);
    assert_eq!(
        demands("credentials: {identity-file: \"k\\nProxyCommand x\"}"),
        [HostDemand::Bind("k\nProxyCommand x".into())]
    );
    assert_eq!(demands("startup-config: \"hostname r1\\n/etc\""), []);
    assert_eq!(demands("cgroup-parent: /"), [HostDemand::Privileged]);
    let of = |text: &str| parse(&format!("name: x\n{text}")).nodes[0].demands.clone();
    for kind in ["host", "Host", "ext-container", "k8s-kind"] {
        assert_eq!(of(&format!("topology: {{nodes: {{h: {{kind: {kind}}}}}}}")), [HostDemand::Privileged], "{kind}");
    }
    assert_eq!(of("topology: {nodes: {br0: {kind: bridge}}}"), [HostDemand::NetworkMode("bridge br0".into())]);
    let linux = "topology: {nodes: {r1: {kind: linux}}}";
    assert_eq!(of(&format!("mgmt: {{network: clab, mtu: 1400}}\n{linux}")), []);
    assert_eq!(
        of(&format!(
            "mgmt: {{ipv4-subnet: 10.0.0.0/8, driver-opts: {{com.docker.network.bridge.name: br0}}}}\n{linux}"
        )),
        [
            HostDemand::NetworkMode("mgmt driver-opts: {\"com.docker.network.bridge.name\":\"br0\"}".into()),
            HostDemand::NetworkMode("mgmt ipv4-subnet: \"10.0.0.0/8\"".into()),
        ]
    );
    assert_eq!(
        of(&format!("mgmt: {{network: others, bridge: docker0}}\n{linux}")),
        [HostDemand::NetworkMode("network others".into()), HostDemand::NetworkMode("bridge docker0".into())]
    );
    assert_eq!(
        of(&format!("settings: {{certificate-authority: {{cert: ca.pem, key: /etc/ca.key}}}}\n{linux}")),
        [HostDemand::Bind("/etc/ca.key".into())]
    );
}

#[test]
fn a_demand_counts_wherever_the_topology_makes_it() {
    for (keys, wanted) in [
        ("binds: ['/:/host']", HostDemand::Bind("/:/host".into())),
        ("volumes: [data:/data]", HostDemand::Bind("data:/data".into())),
        ("privileged: true", HostDemand::Privileged),
        ("pid-mode: host", HostDemand::Privileged),
        ("cgroup-parent: x", HostDemand::Privileged),
        ("cap-add: [NET_RAW]", HostDemand::Capability("NET_RAW".into())),
        ("devices: [/dev/sda]", HostDemand::Device("/dev/sda".into())),
        ("network-mode: host", HostDemand::NetworkMode("host".into())),
        ("ports: ['22:22']", HostDemand::Port("22:22".into())),
        ("license: /etc/shadow", HostDemand::Bind("/etc/shadow".into())),
        ("credentials: {identity-file: /key}", HostDemand::Bind("/key".into())),
    ] {
        for (place, node) in [
            ("defaults: {KEYS}", "kind: linux"),
            ("kinds: {linux: {KEYS}}", "kind: linux"),
            ("groups: {g: {KEYS}}", "kind: linux, group: g"),
            ("groups: {g: {kind: linux, KEYS}}", "group: g"),
            ("kinds: {linux: {group: g}}, groups: {g: {KEYS}}", "kind: linux"),
            ("defaults: {group: g, kind: linux}, groups: {g: {KEYS}}", ""),
            ("links: []", "kind: linux, KEYS"),
        ] {
            let text = format!("name: x\ntopology: {{{place}, nodes: {{r1: {{{node}}}}}}}").replace("KEYS", keys);
            assert_eq!(parse(&text).nodes[0].demands.as_slice(), std::slice::from_ref(&wanted), "{text}");
        }
    }
}

#[test]
fn a_node_that_is_called_like_the_host_takes_no_link_of_its() {
    for name in ["host", "mgmt-net", "macvlan"] {
        for end in [format!("'{name}:eth1'"), format!("{{node: {name}, interface: eth1}}")] {
            let text = format!(
                "name: x\ntopology: {{nodes: {{{name}: {{kind: linux}}, r1: {{kind: linux}}}}, links: [{{endpoints: ['r1:eth1', {end}]}}]}}"
            );
            let error = Topology::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(&format!("`{name}` stands for the host")), "{error}");
        }
    }
}

#[test]
fn both_notations_of_links_say_the_same() {
    let text = |links: &str| {
        parse(&format!(
            "name: x\ntopology:\n  defaults: {{kind: linux}}\n  nodes: {{a: , b: }}\n  links:\n    - {links}\n"
        ))
    };
    let brief =
        text("{endpoints: ['a:e1', 'b:e1'], mtu: 1400, ipv4: [10.0.0.1/30, 10.0.0.2/30], ipv6: ['', 'fd::2/64']}");
    let extended = text(
        "{type: veth, mtu: 1400, endpoints: [{node: a, interface: e1, ipv4: 10.0.0.1/30}, \
         {node: b, interface: e1, ipv4: 10.0.0.2/30, ipv6: 'fd::2/64'}], vars: {x: 1}, labels: {y: z}}",
    );
    assert_eq!(brief, extended);
    assert_eq!(brief.links[0].ends[1].ipv6.as_deref(), Some("fd::2/64"));
    assert_eq!(brief.links[0].ends[0].ipv6, None);
    let mac =
        text("{type: veth, endpoints: [{node: a, interface: e1, mac: 02-00-00-00-00-0A}, {node: b, interface: e1}]}");
    assert_eq!(mac.links[0].ends[0].mac.as_deref(), Some("02:00:00:00:00:0a"));
}

#[test]
fn anchors_and_merge_keys_are_fine() {
    let topology = parse(
        r#"
name: x
x-common: &common {kind: linux, image: i}
topology:
  nodes:
    a: *common
    b: {<<: *common, image: j}
"#,
    );
    let images: Vec<_> = topology.nodes.iter().filter_map(|node| node.image.as_deref()).collect();
    assert_eq!(images, ["i", "j"]);
}

#[test]
fn node_names_are_kept_letter_for_letter() {
    let names = ["spine-1", "a-b-c", "R1", "leaf.1_x", "9"];
    let nodes: Vec<_> = names.iter().map(|name| format!("{name}: {{kind: linux}}")).collect();
    let topology = parse(&format!("name: x\ntopology: {{nodes: {{{}}}}}", nodes.join(", ")));
    let read: Vec<_> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(read, names);
}

#[test]
fn containers_are_named_as_containerlab_names_them() {
    let named = |prefix: &str| {
        parse(&format!("name: x\n{prefix}\ntopology: {{nodes: {{r: {{kind: linux}}}}}}")).container_name("lab", "r")
    };
    assert_eq!(named(""), "clab-lab-r");
    assert_eq!(named("prefix: p"), "p-lab-r");
    assert_eq!(named("prefix: __lab-name"), "lab-r");
    assert_eq!(named("prefix: ''"), "r");
}

#[test]
fn interfaces_of_other_kinds_may_be_named_as_the_device_names_them() {
    let text = |kind: &str| {
        format!(
            "name: x\ntopology: {{defaults: {{kind: {kind}}}, nodes: {{a: , b: }}, \
             links: [{{endpoints: ['a:GigabitEthernet0/0/0/1', 'b:Gi0/0']}}]}}"
        )
    };
    parse(&text("cisco_xrd"));
    assert!(refusal(&text("linux")).contains("at most 15"));
}

#[test]
fn every_refusal_says_where_and_what_to_do() {
    let nodes = "topology:\n  nodes:\n    r1: {kind: linux}\n    r2: {kind: linux}\n";
    let linked = |link: &str| format!("name: x\n{nodes}  links:\n    - {link}\n");
    for (text, expected) in [
        (format!("name: [\n{nodes}"), "line "),
        ("name: bad\ntopology: [\n".to_owned(), "line 2"),
        ("name: bad\n\ttopology: {}\n".to_owned(), "line 2, column 1: this line is indented with a tab"),
        (
            "name: bad\ntopology:\n  nodes:\n  \tr1: {}\n".to_owned(),
            "line 4, column 3: this line is indented with a tab",
        ),
        (nodes.to_owned(), "name: the topology has no name; add"),
        (String::new(), "name: the topology has no name"),
        ("name: x\n".to_owned(), "topology.nodes: the topology has no nodes; list"),
        (format!("name: a/b\n{nodes}"), "line 1, column 7 (name): `a/b` is not a valid name: it contains '/'"),
        (format!("name: ../x\n{nodes}"), "line 1, column 7 (name): `../x` is not a valid name"),
        ("name: x\ntopology: {nodes: {ä: {kind: linux}}}".to_owned(), "(topology.nodes.ä): `ä` is not a valid name"),
        (
            "name: x\ntopology: {nodes: {r1: {}}}".to_owned(),
            "line 2, column 20 (topology.nodes.r1): node `r1` has no kind",
        ),
        ("name: x\ntopology: {nodes: {r1: {kind: [a]}}}".to_owned(), "line 2, column 31 (topology.nodes.r1.kind): "),
        ("name: x\ntopology: {nodes: {r1: {knd: linux}}}".to_owned(), "did you mean `kind`?"),
        (
            "name: x\ntopology: {nodes: {r1: {kind: linux, memory: 1x}}}".to_owned(),
            "(topology.nodes.r1.memory): `1x` is not a size",
        ),
        ("name: x\ntopology: {nodes: {r1: {kind: linux}, r1: {kind: linux}}}".to_owned(), "line 2, column 39"),
        (
            linked("{endpoints: ['r1:eth1', 'r3:eth1']}"),
            "line 7, column 31 (topology.links[0].endpoints[1]): there is no node `r3`; the nodes are r1, r2",
        ),
        (linked("{endpoints: ['r1:eth1', 'r1:eth1']}"), "r1:eth1 is already taken by the other end of this link"),
        (
            linked("{endpoints: ['r1:e', 'r2:e']}\n    - {endpoints: ['r1:f', 'r2:e']}"),
            "(topology.links[1].endpoints[1]): r2:e is already taken by links[0]",
        ),
        (linked("{endpoints: ['r1', 'r2:e']}"), "`r1` is not an endpoint; write `node:interface`"),
        (linked("{endpoints: ['r1:', 'r2:e']}"), "names no interface"),
        (
            linked("{endpoints: ['r1:e']}"),
            "(topology.links[0].endpoints): a link joins two endpoints, and this one has 1",
        ),
        (linked("{mtu: 1500}"), "(topology.links[0]): the link has no endpoints"),
        (linked("{endpoints: ['r1:sixteen-letters-', 'r2:e']}"), "names of interfaces have at most 15"),
        (linked("{endpoints: ['r1:a/b', 'r2:e']}"), "`a/b` is not an interface name"),
        (linked("{endpoints: ['r1:lo', 'r2:e']}"), "`lo` is the loopback interface"),
        (linked("{endpoints: ['r1:e', 'r2:e'], mtu: 20}"), "(topology.links[0].mtu): an MTU of 20"),
        (linked("{endpoints: ['r1:e', 'r2:e'], mtu: big}"), "(topology.links[0].mtu): expected a whole number"),
        (
            linked("{endpoints: ['r1:e', 'r2:e'], ipv4: [10.0.0.1]}"),
            "(topology.links[0].ipv4[0]): `10.0.0.1` is not an IPv4 address with",
        ),
        (linked("{endpoints: ['r1:e', 'r2:e'], ipv4: [10.0.0.1/33]}"), "is not an IPv4 address"),
        (linked("{endpoints: ['r1:e', 'r2:e'], ipv6: [10.0.0.1/3]}"), "is not an IPv6 address"),
        (linked("{endpoints: ['r1:e', 'r2:e'], ipv4: ['', '', '']}"), "no third address"),
        (linked("{endpoints: ['macvlan:e', 'host:e']}"), "`macvlan` stands for the host"),
        (
            linked("{type: vxlan, endpoints: ['r1:e', 'r2:e']}"),
            "(topology.links[0].type): a link of type `vxlan` has one end",
        ),
        (linked("{type: wire, endpoints: ['r1:e', 'r2:e']}"), "`wire` is not a link type"),
        (linked("{type: veth, endpoints: [{node: r1}, {node: r2, interface: e}]}"), "the endpoint has no `interface`"),
        (
            linked("{type: veth, endpoints: [{node: r1, interface: e, mac: 1}, {node: r2, interface: e}]}"),
            "endpoints[0].mac): `1` is not a MAC address",
        ),
        (
            linked(
                "{type: veth, endpoints: [{node: r1, interface: e, mac: '01:00:00:00:00:00'}, {node: r2, interface: e}]}",
            ),
            "multicast",
        ),
        ("name: x\ntopology: {nodes: {r1: {kind: linux, binds: [x]}}}".to_owned(), "`x` is not `source:target`"),
        (
            "name: x\ntopology: {nodes: {r1: {kind: linux, startup-delay: soon}}}".to_owned(),
            "(topology.nodes.r1.startup-delay): ",
        ),
        (
            "name: x\ntopology: {nodes: {r1: {kind: linux, privileged: perhaps}}}".to_owned(),
            "expected `true` or `false`",
        ),
        ("just text".to_owned(), "line 1, column 1"),
        ("name: x\n---\nname: y\n".to_owned(), "line 2, column 1: a second YAML document"),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "\n{text}\nanswered {refusal:?}\ninstead of {expected:?}");
        assert!(!refusal.contains('\n') && refusal.len() < 600, "{refusal}");
    }
}

#[test]
fn errors_in_shared_settings_point_at_them() {
    let refused = refusal("name: x\ntopology:\n  kinds:\n    linux: {memory: much}\n  nodes: {r1: {kind: linux}}\n");
    assert!(refused.starts_with("line 4, column 21 (topology.kinds.linux.memory): "), "{refused}");
}

/// Bytes of memory that this process has in use at most, so far.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it is listed");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn input_out_of_proportion_is_refused_cheaply() {
    // Memory is measured for a process, so this needs one of its own.
    const ALONE: &str = "ANTIMONY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().expect("the test runs from a file"));
        let name = "topology::tests::input_out_of_proportion_is_refused_cheaply";
        let output = alone.args(["--exact", name]).env(ALONE, "1").output().expect("it can be run again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let laughs = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        text + "name: x\n"
    };
    let long = "y".repeat(200_000);
    let copies = vec!["*s"; 4_000].join(", ");
    let strings = format!("s: &s {long}\nname: x\ntopology: {{nodes: {{r: {{kind: linux, exec: [{copies}]}}}}}}\n");
    let many: String = (0..30_000).map(|index| format!("    n{index}:\n")).collect();
    let inherited = format!("name: x\ntopology:\n  defaults: {{kind: linux, cmd: {long}}}\n  nodes:\n{many}");
    let execs: Vec<String> = (0..20_000).map(|index| format!("e{index}")).collect();
    let lists =
        format!("name: x\ntopology:\n  defaults: {{kind: linux, exec: [{}]}}\n  nodes:\n{many}", execs.join(", "));
    for (what, text) in [
        ("size", format!("name: x\n# {}", "z".repeat(MAX_BYTES))),
        ("flow nesting", "[".repeat(500_000)),
        ("mappings in flow", "{a: ".repeat(200_000)),
        ("block nesting", (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect()),
        ("sequences in one line", "- ".repeat(300_000)),
        ("aliases", laughs),
        ("long strings through aliases", strings),
        ("long strings through inheritance", inherited),
        ("long lists through inheritance", lists),
        ("many documents", "---\n".repeat(100_000)),
        ("many anchors", (0..50_000).map(|index| format!("k{index}: &k{index} 1\n")).collect()),
    ] {
        let (before, start) = (peak_memory(), Instant::now());
        let refused = refusal(&text);
        let (took, grown) = (start.elapsed(), peak_memory() - before);
        assert!(took < Duration::from_secs(5), "{what} took {took:?}");
        assert!(grown < 256 << 20, "{what} took {grown} bytes");
        assert!(refused.len() < 600, "{what}: {refused}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = Topology::parse(&text);
    }

    #[test]
    fn no_shape_of_yaml_makes_it_panic(
        text in "(name: x\n)?topology:\n(  (nodes|links|kinds|defaults):( (\\[|\\{|&a|\\*a|null|r1|-|:){0,4})?\n){0,4}"
    ) {
        let _ = Topology::parse(&text);
    }

    #[test]
    fn what_a_topology_says_is_what_is_read(
        names in proptest::collection::hash_set("[a-zA-Z0-9][a-zA-Z0-9._-]{0,12}", 2..8),
        mtu in 68_u32..65_535,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let nodes: String = names.iter().map(|name| format!("    \"{name}\": {{kind: linux}}\n")).collect();
        let links: String = names.windows(2).enumerate().map(|(index, pair)| {
            format!("    - {{endpoints: [\"{}:r{index}\", \"{}:l{index}\"], mtu: {mtu}}}\n", pair[0], pair[1])
        }).collect();
        let topology = parse(&format!("name: x\ntopology:\n  nodes:\n{nodes}  links:\n{links}"));
        let read: Vec<&String> = topology.nodes.iter().map(|node| &node.name).collect();
        prop_assert_eq!(read, names.iter().collect::<Vec<_>>());
        prop_assert_eq!(topology.links.len(), names.len() - 1);
        for (index, link) in topology.links.iter().enumerate() {
            prop_assert_eq!(&link.ends[0].node, &names[index]);
            prop_assert_eq!(&link.ends[1].node, &names[index + 1]);
            prop_assert_eq!(link.mtu, Some(mtu));
        }
    }
}

#[test]
fn links_that_lead_out_of_the_topology_are_demands_of_their_node() {
    let outward = |link: &str| {
        let nodes = "nodes: {r1: {kind: linux}, r2: {kind: linux}}";
        let topology = parse(&format!("name: x\ntopology: {{{nodes}, links: [{link}]}}"));
        assert_eq!((topology.links.len(), topology.nodes[1].demands.len()), (0, 0), "{link}");
        topology.nodes[0].demands.clone()
    };
    for (link, what) in [
        ("{endpoints: ['r1:eth1', 'host:veth7']}", "link host:veth7"),
        ("{endpoints: ['mgmt-net:x', 'r1:eth1']}", "link mgmt-net:x"),
        ("{endpoints: ['r1:eth1', 'macvlan:eth0']}", "link macvlan:eth0"),
        ("{type: host, endpoint: {node: r1, interface: eth1}, host-interface: veth7}", "link host:veth7"),
        ("{type: vxlan, endpoint: {node: r1, interface: eth1}, remote: 192.0.2.1, vni: 7}", "link vxlan:192.0.2.1"),
        ("{type: dummy, endpoint: {node: r1, interface: eth1}}", "link dummy"),
    ] {
        assert_eq!(outward(link), [HostDemand::NetworkMode(what.into())], "{link}");
    }
}
