//! The command lines that clients show people, with which they capture at an interface from their own machine.
//!
//! They are copied into shells, and names in them are lab authors': whatever a name holds, it is one word of the line.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::CaptureConfig;
use crate::client::in_path;
use crate::labs::model::{Instance, LabSnapshot, NodeStatus};

/// Names of what is put in.
const NAMES: [&str; 8] = ["api", "host", "lab", "instance", "node", "container", "containerId", "interface"];

/// A command line with `{names}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(&'static str),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        while let Some(begin) = rest.find('{') {
            let (before, from) = rest.split_at(begin);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let is_name = |end: &usize| from[1..*end].bytes().all(|byte| byte.is_ascii_alphabetic());
            let word = from.find('}').filter(is_name).map(|end| (&from[1..end], &from[end + 1..]));
            // Braces around anything else are the shell's, and so is `${…}`.
            let (Some((word, after)), false) = (word, before.ends_with('$')) else {
                parts.push(Part::Text("{".to_owned()));
                rest = &from[1..];
                continue;
            };
            let known = NAMES.iter().find(|name| **name == word).ok_or_else(|| {
                format!("{{{word}}} stands for nothing: {} do", NAMES.map(|name| format!("{{{name}}}")).join(", "))
            })?;
            parts.push(Part::Name(known));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

/// Where clients reach this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Address of the REST API, such as `https://labs.example.org/api`.
    pub api: String,
    /// The host in it.
    pub host: String,
}

/// What clients are shown for interfaces.
#[derive(Debug, Clone)]
pub struct CommandLine {
    place: Place,
    config: CaptureConfig,
}

impl CommandLine {
    /// What the configuration says, for clients that reach the server at `place`.
    pub fn new(config: &CaptureConfig, place: Place) -> Self {
        Self { place, config: config.clone() }
    }

    /// The commands for the interfaces of a node, by their names: those of its links, and that of the management network.
    pub fn of(&self, lab: &LabSnapshot, instance: &Instance, node: &NodeStatus) -> BTreeMap<String, String> {
        let none = match &self.config.command {
            Some(template) => template.0.is_empty(),
            // A command of the operator's own may capture by other means.
            None => !self.config.enabled,
        };
        if none {
            return BTreeMap::new();
        }
        let links = lab.topology.links.iter().flat_map(|link| &link.ends).filter(|end| end.node == node.name);
        let is_managed = !node.ipv4.is_empty() || !node.ipv6.is_empty();
        let interfaces = links.map(|end| end.interface.as_str()).chain(is_managed.then_some("eth0"));
        let shown = interfaces.filter(|interface| !self.config.excludes(interface));
        let line = |interface: &str| (interface.to_owned(), self.line(lab, instance, node, interface));
        shown.map(line).collect()
    }

    fn line(&self, lab: &LabSnapshot, instance: &Instance, node: &NodeStatus, interface: &str) -> String {
        let Some(template) = &self.config.command else {
            let [lab, node, interface] = [lab.lab.id.as_str(), &node.name, interface].map(in_path);
            let url = format!("{}/labs/{lab}/nodes/{node}/interfaces/{interface}/capture", self.place.api);
            let url = shell_words::quote(&url);
            return format!("curl -sN -H \"Authorization: Bearer $TOKEN\" {url} | wireshark -k -i -");
        };
        let value = |name: &str| match name {
            "api" => &self.place.api,
            "host" => &self.place.host,
            "lab" => lab.lab.id.as_str(),
            "instance" => &instance.name,
            "node" => &node.name,
            "container" => &node.container_name,
            "containerId" => &node.container_id,
            _ => interface,
        };
        let parts = template.0.iter().map(|part| match part {
            Part::Text(text) => text.into(),
            Part::Name(name) => shell_words::quote(value(name)),
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::lab_json::tests::snapshot;
    use crate::labs::model::{InstanceState, NodeState};
    use crate::topology::Topology;

    fn lab(interface: &str) -> LabSnapshot {
        let mut lab = snapshot();
        let text = format!(
            "name: ring\ntopology: {{nodes: {{r1: {{kind: linux}}, r2: {{kind: linux}}}}, links: [{{endpoints: ['r1:{interface}', 'r2:eth1']}}]}}"
        );
        lab.topology = Arc::new(Topology::parse(&text).expect("it is one"));
        lab.instance = Some(Instance {
            name: "ring-1".to_owned(),
            deployed: lab.lab.start_time,
            state: InstanceState::Running,
            since: lab.lab.start_time,
            nodes: vec![NodeStatus {
                name: "r1".to_owned(),
                kind: "linux".to_owned(),
                image: None,
                state: NodeState::Running,
                ipv4: String::new(),
                ipv6: String::new(),
                container_id: "0123456789ab".to_owned(),
                container_name: "clab-ring-1-r1".to_owned(),
            }],
            recovered: false,
        });
        lab
    }

    fn shown(config: &str, lab: &LabSnapshot) -> BTreeMap<String, String> {
        let config: CaptureConfig = serde_saphyr::from_str(config).expect("it is taken");
        let place = Place { api: "https://labs.example.org/api".to_owned(), host: "labs.example.org".to_owned() };
        let instance = lab.instance.as_ref().expect("it has one");
        CommandLine::new(&config, place).of(lab, instance, &instance.nodes[0])
    }

    #[test]
    fn without_a_word_about_it_it_is_curl_with_the_route_of_this_server() {
        let expected = "curl -sN -H \"Authorization: Bearer $TOKEN\" \
            'https://labs.example.org/api/labs/lab-1/nodes/r1/interfaces/e1%401/capture' | wireshark -k -i -";
        assert_eq!(shown("{}", &lab("e1@1"))["e1@1"], expected);
    }

    #[test]
    fn the_interface_of_the_management_network_is_one_too_and_what_is_excluded_is_not_shown() {
        let mut lab = lab("eth1");
        if let Some(instance) = &mut lab.instance {
            instance.nodes[0].ipv4 = "172.20.20.2".to_owned();
        }
        assert_eq!(shown("{}", &lab).into_keys().collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert_eq!(shown("excludedInterfaces: [eth0]", &lab).into_keys().collect::<Vec<_>>(), ["eth1"]);
        assert!(shown("enabled: false", &lab).is_empty());
        assert!(shown("command: ''", &lab).is_empty());
    }

    #[test]
    fn a_command_of_the_operator_has_each_name_as_one_word() {
        let command =
            "command: 'ssh {containerId}@{host} -p 2222 {interface} ${HOME} {a,b} | wireshark -k -i - # {node}'";
        assert_eq!(
            shown(command, &lab("e1;reboot"))["e1;reboot"],
            "ssh 0123456789ab@labs.example.org -p 2222 'e1;reboot' ${HOME} {a,b} | wireshark -k -i - # r1"
        );
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_refused_with_those_that_do() {
        let error = serde_saphyr::from_str::<CaptureConfig>("command: 'tcpdump -i {port}'").expect_err("refused");
        assert!(error.to_string().contains("{port}") && error.to_string().contains("{interface}"), "{error}");
    }
}
