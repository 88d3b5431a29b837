//! A JSON schema of topology files, for editors: every key that this server or containerlab knows, with its type and what it
//! is for. It takes what [`Topology::parse`](super::Topology::parse) takes; what only that can find out, such as links to
//! nodes that aren't there, it lets through.

use serde_json::{Map, Value, json};

use super::devices;

/// The schema, of draft 7.
pub fn schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "containerlab topology file",
        "type": "object",
        "required": ["name", "topology"],
        "properties": {
            "name": said(text(), "Name of the topology: letters, digits, dashes, dots and underscores, unique in its collection."),
            "prefix": said(text(), "What names of containers begin with; `clab` unless it is said, nothing if it is empty."),
            "mgmt": said(json!({ "type": "object", "properties": management() }), "The network that all nodes are managed over."),
            "settings": said(json!({ "type": "object" }), "Settings of the whole topology, such as its certificate authority."),
            "debug": said(boolean(), "More lines in the log of containerlab."),
            "topology": {
                "type": "object",
                "description": "The nodes and what is between them.",
                "required": ["nodes"],
                "properties": {
                    "defaults": { "oneOf": [{ "$ref": "#/definitions/node-config" }, { "type": "null" }] },
                    "kinds": nodes("What all nodes of a kind have, unless they or their group say something else."),
                    "groups": nodes("What all nodes of a group have, unless they say something else."),
                    "nodes": nodes("The nodes, by name."),
                    "links": {
                        "type": ["array", "null"],
                        "description": "The links between nodes.",
                        "items": { "$ref": "#/definitions/link" },
                    },
                },
            },
        },
        "definitions": {
            "node-config": { "type": "object", "description": "A node.", "properties": node() },
            "link": { "type": "object", "description": "A link.", "properties": link() },
            "endpoint": endpoint(),
        },
    })
}

fn said(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// What YAML readers take for a number or truth value where text is meant, such as `1.10`.
fn scalar() -> Value {
    json!({ "type": ["string", "number", "boolean", "null"] })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn scalars() -> Value {
    json!({ "type": "object", "additionalProperties": scalar() })
}

fn object() -> Value {
    json!({ "type": "object" })
}

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// Nodes, or what nodes have in common, by name. A name with nothing behind it is one with nothing to say.
fn nodes(description: &str) -> Value {
    json!({
        "type": ["object", "null"],
        "description": description,
        "patternProperties": { ".*": { "oneOf": [{ "$ref": "#/definitions/node-config" }, { "type": "null" }] } },
    })
}

fn properties(entries: Vec<(&str, Value, &str)>) -> Value {
    let entries = entries.into_iter().map(|(key, schema, description)| (key.to_owned(), said(schema, description)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn management() -> Value {
    properties(vec![
        ("network", text(), "Name of the network; `clab` unless it is said."),
        ("bridge", text(), "Bridge of the host that the network is on."),
        ("ipv4-subnet", text(), "Addresses of the network, such as 172.20.20.0/24, or `auto`."),
        ("ipv6-subnet", text(), "Addresses of the network, such as 3fff:172:20:20::/64, or `auto`."),
        ("ipv4-gw", text(), "Address of the host in it."),
        ("ipv6-gw", text(), "Address of the host in it."),
        ("ipv4-range", text(), "Addresses of it that nodes are given."),
        ("ipv6-range", text(), "Addresses of it that nodes are given."),
        ("mtu", json!({ "type": ["integer", "string"] }), "Longest packet, in bytes."),
        ("external-access", boolean(), "Whether others than the host can reach it."),
    ])
}

fn kinds() -> Value {
    let kinds: Vec<String> = devices::known().into_iter().map(|device| device.kind).collect();
    json!({ "type": "string", "enum": kinds })
}

fn node() -> Value {
    let mut keys = what_runs();
    keys.extend(files());
    keys.extend(limits());
    keys.extend(network());
    keys.extend(of_devices());
    properties(keys)
}

fn what_runs() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("kind", kinds(), "What kind of device it is."),
        ("type", text(), "Which of the devices of its kind it is."),
        ("group", text(), "The group that it has settings from."),
        ("image", text(), "Image of its container."),
        ("image-pull-policy", text(), "When the image is fetched: `IfNotPresent`, `Never` or `Always`."),
        (
            "restart-policy",
            one_of(&["no", "on-failure", "always", "unless-stopped"]),
            "Whether it is started again when it ends.",
        ),
        ("auto-remove", boolean(), "Whether its container is removed when it ends."),
        ("cmd", text(), "What runs in it instead of the image's own command."),
        ("entrypoint", text(), "What runs in it instead of the image's own entry point."),
        ("exec", texts(), "Commands that are run in it, in order, once it is up and linked."),
        ("env", scalars(), "Its environment."),
        ("env-files", texts(), "Files with its environment: bind files of the topology."),
        ("user", scalar(), "Who its command runs as."),
        ("hostname", text(), "Its host name, unless that is its name."),
        ("labels", scalars(), "Labels of its container, and of its picture in editors."),
        ("startup-delay", count(), "Seconds by which it is started later than the others."),
        ("stages", object(), "What it waits for, and what is run at which stage of its start."),
        ("healthcheck", object(), "How it is found out whether it is well."),
        ("runtime", text(), "The engine that its container is made with."),
        ("position", text(), "Where it stands in the picture."),
        ("publish", texts(), "Ports that are published through a service of others."),
        ("aliases", texts(), "Other names that its container has in the management network."),
        ("kernel", text(), "The kernel of a node that brings its own."),
        ("sandbox", text(), "The sandbox of a node that runs in one."),
        ("link-apply-mode", text(), "How changed links are put in force."),
    ]
}

fn files() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "binds",
            json!({ "type": "array", "uniqueItems": true, "items": { "type": "string", "pattern": "^[^:]+:[^:]+(:[^:]+)?$" } }),
            "What it sees of other files, as source:target or source:target:ro. A source without a slash at its beginning is a bind file of the topology.",
        ),
        ("volumes", texts(), "Volumes of the engine that it sees, as source:target."),
        ("tmpfs", json!({ "type": ["object", "array"] }), "Folders of it that are kept in memory."),
        (
            "startup-config",
            text(),
            "Configuration that it starts with: a bind file of the topology, or the text itself.",
        ),
        ("enforce-startup-config", boolean(), "Whether that replaces what it has saved."),
        ("suppress-startup-config", boolean(), "Whether it starts with none."),
        ("license", text(), "Its license: a bind file of the topology."),
        ("extras", object(), "More files and settings for its kind."),
        ("identity-file", text(), "Key that it is logged in to with."),
        ("credentials", object(), "User name and password that it is logged in to with."),
        ("certificate", object(), "Certificate that it is given."),
        ("config", object(), "Variables of its configuration."),
    ]
}

fn limits() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("memory", json!({ "type": ["string", "integer"] }), "Memory that it may use, such as 512mb or 1GiB."),
        ("cpu", json!({ "type": "number", "minimum": 0 }), "Processors that it may use."),
        ("cpu-set", scalar(), "The processors that it runs on, such as 0-3."),
        ("shm-size", text(), "Shared memory that it may use, such as 256mb."),
        ("sysctls", scalars(), "Settings of its kernel."),
        ("privileged", boolean(), "Whether it has the powers of the host."),
        ("cap-add", texts(), "Capabilities that it has besides those of every container."),
        ("devices", texts(), "Devices of the host that it may use."),
        ("pid-mode", text(), "Whose processes it sees."),
        ("cgroupns-mode", text(), "Whose control groups it sees."),
        ("cgroup-parent", text(), "The control group that it is in."),
        ("security-opts", texts(), "Security options of its container."),
    ]
}

fn network() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("network-mode", text(), "`none`, `host`, or `container:` and the name of another node."),
        ("mgmt-ipv4", text(), "Its address in the management network."),
        ("mgmt-ipv6", text(), "Its address in the management network."),
        ("ports", texts(), "Ports of the host that lead to it, such as 8080:80."),
        ("dns", object(), "Name servers, search domains and options of its resolver."),
    ]
}

fn of_devices() -> Vec<(&'static str, Value, &'static str)> {
    vec![(
        "components",
        json!({ "type": "array", "items": { "type": "object" } }),
        "Cards and modules of a device that has some.",
    )]
}

fn link() -> Value {
    let types =
        ["veth", "veth-stitched", "mgmt-net", "macvlan", "host", "vxlan", "vxlan-stitch", "vxlan-stitched", "dummy"];
    let ends = json!({
        "type": "array", "minItems": 2, "maxItems": 2, "items": { "$ref": "#/definitions/endpoint" }
    });
    let pair = json!({ "type": "array", "maxItems": 2, "items": { "type": ["string", "null"] } });
    properties(vec![
        ("type", one_of(&types), "What kind of link it is; between two nodes unless it is said."),
        ("endpoints", ends, "Its two ends."),
        (
            "endpoint",
            json!({ "allOf": [{ "$ref": "#/definitions/endpoint" }] }),
            "Its end at a node, where the other is none.",
        ),
        ("host-interface", text(), "The interface of the host at its other end."),
        ("remote", text(), "Address of the other end of a tunnel."),
        ("vni", count(), "Number of the tunnel."),
        ("dst-port", count(), "Port that the tunnel goes to."),
        ("src-port", count(), "Port that the tunnel comes from."),
        ("mode", text(), "Mode of a macvlan link."),
        ("mtu", json!({ "type": "integer", "minimum": 68, "maximum": 65535 }), "Longest packet, in bytes."),
        ("ipv4", pair.clone(), "Addresses of its ends, such as 10.0.0.1/30."),
        ("ipv6", pair, "Addresses of its ends, such as fd00::1/64."),
        ("labels", scalars(), "Labels of it."),
        ("vars", object(), "Variables of the configuration of its ends."),
    ])
}

fn endpoint() -> Value {
    let keys = properties(vec![
        ("node", text(), "Name of the node."),
        ("interface", scalar(), "Name of the interface in it."),
        ("mac", text(), "Hardware address."),
        ("ipv4", text(), "Address, such as 10.0.0.1/30."),
        ("ipv6", text(), "Address, such as fd00::1/64."),
        ("vars", object(), "Variables of its configuration."),
    ]);
    json!({
        "description": "One end of a link, as node:interface or as a mapping.",
        "oneOf": [
            { "type": "string", "pattern": "^[^:]+:.+$" },
            { "type": "object", "required": ["node"], "properties": keys },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::super::raw;
    use super::*;
    use crate::topology::Topology;

    fn check(text: &str) -> Result<(), String> {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("topology.json", schema()).expect("a schema");
        let index = compiler.compile("topology.json", &mut schemas).expect("a schema that compiles");
        let value: Value = serde_saphyr::from_str(text).expect("YAML");
        schemas.validate(&value, index).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_that_is_read_or_passed_over_is_in_the_schema() {
        let schema = schema();
        for (path, known) in [
            ("/properties", raw::FILE_KEYS.concat()),
            ("/properties/topology/properties", raw::BODY_KEYS.concat()),
            ("/definitions/node-config/properties", raw::NODE_KEYS.concat()),
            ("/definitions/link/properties", raw::LINK_KEYS.concat()),
            ("/definitions/endpoint/oneOf/1/properties", raw::ENDPOINT_KEYS.concat()),
        ] {
            let keys = schema.pointer(path).and_then(Value::as_object).expect(path);
            for key in known {
                let described = keys.get(key).unwrap_or_else(|| panic!("{path} has no {key}"));
                let is_section = path.contains("topology") || key == "topology";
                assert!(is_section || described["description"].is_string(), "{key}");
            }
        }
    }

    #[test]
    fn what_is_taken_fits_the_schema() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/labs");
        for file in std::fs::read_dir(examples).expect("the examples") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
            check(&text).expect("an example");
        }
        for text in [
            "name: x\ntopology: {nodes: {a: {kind: linux}}}",
            "name: x\ntopology: {defaults: {kind: ceos}, kinds: , nodes: {a: , b: {}}, links: [{endpoints: ['a:e', 'b:e'], mtu: 1500}]}",
            "name: x\ntopology:\n  defaults: {kind: linux}\n  nodes: {a: {env: {V: 1.10, T: yes, E: }, memory: 1gb, binds: ['f:/f:ro']}, b: }\n  links:\n    - {type: veth, endpoints: [{node: a, interface: e1, ipv4: 10.0.0.1/30}, {node: b, interface: e1}]}",
            "name: x\nmgmt: {network: net1, ipv4-subnet: 10.0.0.0/24}\ntopology: {nodes: {a: {kind: linux, newer-key: [1]}}}",
        ] {
            Topology::parse(text).expect(text);
            check(text).expect(text);
        }
    }

    #[test]
    fn what_is_plainly_wrong_does_not_fit_the_schema() {
        for text in [
            "topology: {nodes: {a: {kind: linux}}}",
            "name: x",
            "name: x\ntopology: {nodes: []}",
            "name: x\ntopology: {nodes: {a: {kind: [linux]}}}",
            "name: x\ntopology: {nodes: {a: {kind: linux, exec: one}}}",
            "name: x\ntopology: {nodes: {a: {kind: linux, binds: [no-target]}}}",
            "name: x\ntopology: {nodes: {a: {kind: linux}}, links: [{endpoints: ['a:e']}]}",
            "name: x\ntopology: {nodes: {a: {kind: linux}}, links: [{endpoints: ['a:e', 'b']}]}",
        ] {
            Topology::parse(text).expect_err(text);
            check(text).expect_err(text);
        }
    }
}
