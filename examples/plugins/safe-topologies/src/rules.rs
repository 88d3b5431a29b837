//! The rules, each with its name in refusals: `max-nodes`, `kinds`, `images`, and for what a node wants of the machine
//! `binds`, `privileged`, `capabilities`, `devices`, `network-modes` and `ports`.
//!
//! They are asked wherever nodes come in, not only at a deploy: the schedule deploys labs without asking anybody, from
//! the topology as it is by then.

use crate::bindings::antimony::plugin::types::{CommandKind, HostDemand, Identity, Node};
use crate::bindings::exports::antimony::plugin::policy::{Action, Denial};
use crate::pattern::Pattern;
use crate::settings::Settings;

/// Decides whether `user` may do `action`.
pub(crate) fn authorize(settings: &Settings, user: &Identity, action: &Action) -> Result<(), Denial> {
    if user.admin && settings.admins_exempt {
        return Ok(());
    }
    match action {
        Action::Command(request) if request.kind == CommandKind::Deploy => check(settings, &request.lab.nodes),
        Action::CreateLab(lab) => check(settings, &lab.nodes),
        Action::UpdateLab(change) => check(settings, &change.after.nodes),
        Action::CreateTopology(topology) => check(settings, &topology.nodes),
        Action::UpdateTopology(change) => check(settings, &change.after.nodes),
        _ => Ok(()),
    }
}

fn check(settings: &Settings, nodes: &[Node]) -> Result<(), Denial> {
    if let Some(most) = settings.max_nodes.filter(|most| nodes.len() > *most as usize) {
        return Err(deny("max-nodes", format!("It has {} nodes, and {most} are allowed", nodes.len())));
    }
    nodes.iter().try_for_each(|node| {
        if settings.kinds.as_deref().is_some_and(|kinds| !any(kinds, &node.kind)) {
            return Err(refuse("kinds", node, &format!("is of the kind {}", node.kind)));
        }
        let image = node.image.as_deref();
        if let (Some(images), Some(image)) = (settings.images.as_deref(), image)
            && !any(images, image)
        {
            return Err(refuse("images", node, &format!("is made from the image {image}")));
        }
        node.demands.iter().try_for_each(|demand| allowed(settings, node, demand))
    })
}

fn allowed(settings: &Settings, node: &Node, demand: &HostDemand) -> Result<(), Denial> {
    let (rule, fits, wants) = match demand {
        HostDemand::Bind(bind) => {
            ("binds", bind_fits(&settings.binds, bind), format!("the host's files (bind {bind})"))
        }
        HostDemand::Privileged => ("privileged", settings.privileged, "the powers of the host".into()),
        HostDemand::Capability(name) => {
            ("capabilities", any(&settings.capabilities, name), format!("the capability {name}"))
        }
        HostDemand::Device(device) => {
            ("devices", any(&settings.devices, device), format!("the host's device {device}"))
        }
        HostDemand::NetworkMode(mode) => {
            ("network-modes", any(&settings.network_modes, mode), network(mode))
        }
        HostDemand::Port(port) => ("ports", any(&settings.ports, port), format!("the host's port {port}")),
    };
    if fits { Ok(()) } else { Err(refuse(rule, node, &format!("asks for {wants}"))) }
}

/// What a network of the host is, by the way in which it is asked for.
fn network(mode: &str) -> String {
    match mode.split_once(' ') {
        Some(("network" | "mgmt", _)) => format!("a management network of its own ({mode})"),
        Some(("bridge", _)) => format!("a bridge of the host ({mode})"),
        Some(("link", _)) => format!("a link out of the lab ({mode})"),
        _ => format!("the network mode {mode}"),
    }
}

/// Whether a bind is allowed. One that climbs out of a folder is elsewhere than it looks, and fits nothing.
fn bind_fits(patterns: &[Pattern], bind: &str) -> bool {
    let source = bind.split(':').next().unwrap_or_default();
    source.split('/').all(|part| part != "..") && any(patterns, bind)
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.fits(text))
}

fn refuse(rule: &str, node: &Node, what: &str) -> Denial {
    deny(rule, format!("Node {} {what}, which is not allowed here", node.name))
}

fn deny(rule: &str, message: String) -> Denial {
    Denial { rule: rule.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::antimony::plugin::types::{Collection, Lab, LabState, NodeState, Topology};
    use crate::bindings::exports::antimony::plugin::policy::{CommandRequest, LabChange, TopologyChange};

    fn user() -> Identity {
        Identity { id: "ada".into(), admin: false, collections: vec!["course".into()] }
    }

    fn node(image: Option<&str>, demands: Vec<HostDemand>) -> Node {
        Node {
            name: "r1".into(),
            kind: "linux".into(),
            image: image.map(str::to_owned),
            state: NodeState::Absent,
            demands,
        }
    }

    fn collection() -> Collection {
        Collection {
            id: "c-1".into(),
            name: "course".into(),
            public_write: true,
            public_deploy: true,
            creator: "root".into(),
        }
    }

    fn lab(nodes: Vec<Node>) -> Lab {
        Lab {
            id: "lab-1".into(),
            name: "ospf".into(),
            topology_id: "t-1".into(),
            collection: collection(),
            creator: "ada".into(),
            start_time: 0,
            end_time: None,
            state: LabState::Inactive,
            nodes,
        }
    }

    fn topology(nodes: Vec<Node>) -> Topology {
        Topology { id: "t-1".into(), name: "ospf".into(), collection: collection(), creator: "ada".into(), nodes }
    }

    fn command(kind: CommandKind, nodes: Vec<Node>) -> Action {
        Action::Command(CommandRequest { kind, lab: lab(nodes), node: None, shell: None })
    }

    /// The rule that refuses to deploy these nodes.
    fn rule(settings: &str, nodes: Vec<Node>) -> Option<String> {
        let settings = Settings::parse(settings).unwrap();
        authorize(&settings, &user(), &command(CommandKind::Deploy, nodes)).err().map(|denial| denial.rule)
    }

    #[test]
    fn whatever_reaches_into_the_host_is_refused_unless_a_list_allows_it() {
        for (demand, expected, allowing) in [
            (HostDemand::Bind("/srv/course/r1:/etc/frr".into()), "binds", r#"{"binds": ["/srv/course/*:/etc/frr"]}"#),
            (HostDemand::Privileged, "privileged", r#"{"privileged": true}"#),
            (HostDemand::Capability("NET_RAW".into()), "capabilities", r#"{"capabilities": ["NET_RAW"]}"#),
            (HostDemand::Device("/dev/kvm".into()), "devices", r#"{"devices": ["/dev/kvm"]}"#),
            (HostDemand::NetworkMode("host".into()), "network-modes", r#"{"network-modes": ["host"]}"#),
            (HostDemand::Port("8080:80".into()), "ports", r#"{"ports": ["80*:80"]}"#),
        ] {
            assert_eq!(rule("{}", vec![node(None, vec![demand.clone()])]).as_deref(), Some(expected));
            assert_eq!(rule(allowing, vec![node(None, vec![demand])]), None, "{allowing}");
        }
    }

    #[test]
    fn a_bind_that_climbs_out_of_an_allowed_folder_is_refused() {
        let allowing = r#"{"binds": ["/srv/course/*"]}"#;
        let bind = |bind: &str| rule(allowing, vec![node(None, vec![HostDemand::Bind(bind.into())])]);
        assert_eq!(bind("/srv/course/a..b:/etc/frr"), None);
        assert_eq!(bind("/srv/course/../../etc:/mnt").as_deref(), Some("binds"));
        assert_eq!(bind("/srv/course/..:/mnt").as_deref(), Some("binds"));
    }

    #[test]
    fn images_and_kinds_and_the_number_of_nodes_are_checked() {
        let settings = r#"{"images": ["alpine:*"], "kinds": ["linux"], "max-nodes": 2}"#;
        assert_eq!(rule(settings, vec![node(Some("alpine:3.20"), vec![]), node(None, vec![])]), None);
        assert_eq!(rule(settings, vec![node(Some("evil/alpine:3.20"), vec![])]).as_deref(), Some("images"));
        let srl = Node { kind: "nokia_srlinux".into(), ..node(None, vec![]) };
        assert_eq!(rule(settings, vec![srl]).as_deref(), Some("kinds"));
        assert_eq!(rule(settings, vec![node(None, vec![]); 3]).as_deref(), Some("max-nodes"));
    }

    #[test]
    fn nodes_are_looked_at_wherever_they_come_in_and_nowhere_else() {
        let settings = Settings::parse("{}").unwrap();
        let bad = || vec![node(None, vec![HostDemand::Privileged])];
        for action in [
            Action::CreateLab(lab(bad())),
            Action::UpdateLab(LabChange { before: lab(vec![]), after: lab(bad()) }),
            Action::CreateTopology(topology(bad())),
            Action::UpdateTopology(TopologyChange { before: topology(vec![]), after: topology(bad()) }),
            command(CommandKind::Deploy, bad()),
        ] {
            let denial = authorize(&settings, &user(), &action).unwrap_err();
            assert_eq!(denial.message, "Node r1 asks for the powers of the host, which is not allowed here");
        }
        for action in [
            command(CommandKind::Destroy, bad()),
            command(CommandKind::OpenShell, bad()),
            Action::ViewLab(lab(bad())),
            Action::DeleteTopology(topology(bad())),
            Action::UpdateTopology(TopologyChange { before: topology(bad()), after: topology(vec![]) }),
        ] {
            assert!(authorize(&settings, &user(), &action).is_ok());
        }
    }

    #[test]
    fn administrators_are_exempt_unless_the_operator_says_otherwise() {
        let admin = Identity { admin: true, ..user() };
        let deploy = command(CommandKind::Deploy, vec![node(None, vec![HostDemand::Privileged])]);
        assert!(authorize(&Settings::parse("{}").unwrap(), &admin, &deploy).is_ok());
        let all = Settings::parse(r#"{"admins-exempt": false}"#).unwrap();
        assert_eq!(authorize(&all, &admin, &deploy).unwrap_err().rule, "privileged");
    }
}
