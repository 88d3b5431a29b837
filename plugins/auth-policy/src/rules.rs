//! The rules: who may do what.
//!
//! Administrators may do everything. Everybody else sees the collections that they are a member of, with the
//! topologies and labs in them; creates where a collection lets its members create; changes, deploys and destroys what
//! they created themselves, as long as they can see it; and has shells in labs that they can see. Terminals are nobody
//! else's business.

use crate::bindings::antimony::plugin::types::{
    Collection, CommandKind, HostDemand, Identity, Lab, Node, Shell, Topology,
};
use crate::bindings::exports::antimony::plugin::policy::{Action, CommandRequest, Denial, Namespace};
use crate::deny;
use crate::settings::{Ports, Settings};

/// Decides whether `user` may do `action`.
pub(crate) fn authorize(user: &Identity, action: &Action, settings: &Settings) -> Result<(), Denial> {
    if user.admin {
        return Ok(());
    }
    match action {
        Action::Connect(namespace) => connect(user, namespace),
        Action::Command(request) => command(user, request, settings),
        Action::ViewLab(lab) => member(user, &lab.collection),
        Action::CreateLab(lab) => create_lab(user, lab, settings),
        Action::UpdateLab(change) => {
            own_lab(user, &change.before)?;
            if change.after.topology_id == change.before.topology_id {
                // Somebody else may have changed the topology since, and a new start time has it deployed.
                return host_access(&change.after.nodes, settings);
            }
            create_lab(user, &change.after, settings)
        }
        Action::DeleteLab(lab) => own_lab(user, lab),
        Action::ViewTopology(topology) => member(user, &topology.collection),
        Action::CreateTopology(topology) => create_topology(user, topology),
        Action::UpdateTopology(change) => {
            own_topology(user, &change.before)?;
            if change.after.collection.id != change.before.collection.id {
                create_topology(user, &change.after)?;
            }
            // Labs may be made of it already, and their schedule deploys them without asking again.
            host_access(&change.after.nodes, settings)
        }
        Action::DeleteTopology(topology) => own_topology(user, topology),
        Action::ViewCollection(collection) => member(user, collection),
        Action::CreateCollection(_) => Err(deny("admins-create-collections", "Only administrators create collections")),
        Action::UpdateCollection(change) => own_collection(user, &change.before),
        Action::DeleteCollection(collection) => own_collection(user, collection),
    }
}

fn connect(user: &Identity, namespace: &Namespace) -> Result<(), Denial> {
    match namespace {
        // What is sent there is chosen for each person by what they may see.
        Namespace::LabCommands | Namespace::LabUpdates | Namespace::StatusMessages | Namespace::ShellCommands => Ok(()),
        Namespace::LabLog(lab) => member(user, &lab.collection),
        Namespace::NodeLog(log) => member(user, &log.lab.collection),
        Namespace::Shell(at) => {
            member(user, &at.lab.collection)?;
            own_shell(user, &at.shell)
        }
    }
}

fn command(user: &Identity, request: &CommandRequest, settings: &Settings) -> Result<(), Denial> {
    let lab = &request.lab;
    match request.kind {
        CommandKind::Deploy => {
            own_lab(user, lab)?;
            host_access(&lab.nodes, settings)
        }
        CommandKind::Destroy | CommandKind::StopNode | CommandKind::StartNode | CommandKind::RestartNode => {
            own_lab(user, lab)
        }
        CommandKind::ListShells | CommandKind::OpenShell => member(user, &lab.collection),
        // Also where the lab is out of sight by now: nobody is to be left with a terminal that they can't close.
        CommandKind::CloseShell => match &request.shell {
            Some(shell) => own_shell(user, shell),
            None => Err(deny("own-shells-only", "You can only close shells that you opened")),
        },
    }
}

fn member(user: &Identity, collection: &Collection) -> Result<(), Denial> {
    if user.collections.contains(&collection.name) {
        return Ok(());
    }
    // Its name is not for those outside of it.
    Err(deny("members-only", "You are not a member of its collection"))
}

fn own_lab(user: &Identity, lab: &Lab) -> Result<(), Denial> {
    member(user, &lab.collection)?;
    creator(user, &lab.creator, || format!("the lab {}", lab.name))
}

fn own_topology(user: &Identity, topology: &Topology) -> Result<(), Denial> {
    member(user, &topology.collection)?;
    creator(user, &topology.creator, || format!("the topology {}", topology.name))
}

fn own_collection(user: &Identity, collection: &Collection) -> Result<(), Denial> {
    member(user, collection)?;
    creator(user, &collection.creator, || format!("the collection {}", collection.name))
}

fn creator(user: &Identity, creator: &str, what: impl FnOnce() -> String) -> Result<(), Denial> {
    if creator == user.id {
        return Ok(());
    }
    let message = format!("Only its creator or an administrator may do this with {}", what());
    Err(deny("creator-only", message))
}

fn create_lab(user: &Identity, lab: &Lab, settings: &Settings) -> Result<(), Denial> {
    member(user, &lab.collection)?;
    if !lab.collection.public_deploy {
        let message = format!("Members may not create labs in the collection {}", lab.collection.name);
        return Err(deny("public-deploy", message));
    }
    // A lab whose time has come is deployed by the schedule, which asks nobody.
    host_access(&lab.nodes, settings)
}

fn create_topology(user: &Identity, topology: &Topology) -> Result<(), Denial> {
    member(user, &topology.collection)?;
    if topology.collection.public_write {
        return Ok(());
    }
    let message = format!("Members may not create topologies in the collection {}", topology.collection.name);
    Err(deny("public-write", message))
}

fn own_shell(user: &Identity, shell: &Shell) -> Result<(), Denial> {
    if shell.owner == user.id {
        return Ok(());
    }
    Err(deny("own-shells-only", "This shell belongs to somebody else"))
}

/// Refuses nodes that reach out of their container into the machine that runs them.
fn host_access(nodes: &[Node], settings: &Settings) -> Result<(), Denial> {
    if settings.allow_host_access {
        return Ok(());
    }
    for node in nodes {
        for demand in &node.demands {
            let (rule, what) = match demand {
                HostDemand::Bind(bind) => ("host-access", format!("the host's files (bind {bind})")),
                HostDemand::Privileged => ("host-access", "privileged mode".into()),
                HostDemand::Capability(name) => ("host-access", format!("the capability {name}")),
                HostDemand::Device(device) => ("host-access", format!("the host's device {device}")),
                HostDemand::NetworkMode(mode) => ("host-access", network(mode)),
                HostDemand::Port(port)
                    if Ports::published_by(port).is_some_and(|ports| settings.may_publish(ports)) =>
                {
                    continue;
                }
                HostDemand::Port(port) => ("host-ports", published(port, settings)),
            };
            let message = format!("Node {} asks for {what}, which only an administrator may run", node.name);
            return Err(deny(rule, message));
        }
    }
    Ok(())
}

/// What a network of the host is, by the way in which it is asked for.
fn network(mode: &str) -> String {
    match mode.split_once(' ') {
        Some(("network", name)) => format!("a management network of its own (network {name})"),
        Some(("bridge", name)) => format!("a bridge of the host (bridge {name})"),
        Some(("mgmt", setting)) => format!("a management network of its own making (mgmt {setting})"),
        Some(("link", end)) => format!("a link out of the lab (link {end})"),
        _ => format!("the network mode {mode}"),
    }
}

fn published(port: &str, settings: &Settings) -> String {
    let allowed: Vec<String> = settings.allow_ports.iter().map(ToString::to_string).collect();
    match &allowed[..] {
        [] => format!("a port of the host (ports: {port})"),
        allowed => format!("a port of the host (ports: {port}) that is none of {}", allowed.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::bindings::antimony::plugin::types::{LabState, NodeState};
    use crate::bindings::exports::antimony::plugin::policy::{
        CollectionChange, LabChange, NodeLog, ShellInLab, TopologyChange,
    };

    fn user(id: &str, collections: &[&str]) -> Identity {
        Identity { id: id.into(), admin: false, collections: collections.iter().map(|c| (*c).into()).collect() }
    }

    fn admin() -> Identity {
        Identity { id: "root".into(), admin: true, collections: vec![] }
    }

    fn collection(name: &str) -> Collection {
        Collection {
            id: format!("id-of-{name}"),
            name: name.into(),
            public_write: true,
            public_deploy: true,
            creator: "root".into(),
        }
    }

    fn closed(name: &str) -> Collection {
        Collection { public_write: false, public_deploy: false, ..collection(name) }
    }

    fn node(demands: Vec<HostDemand>) -> Node {
        Node { name: "r1".into(), kind: "linux".into(), image: None, state: NodeState::Absent, demands }
    }

    fn lab(creator: &str, collection: Collection) -> Lab {
        Lab {
            id: "lab".into(),
            name: "ospf".into(),
            topology_id: "t".into(),
            collection,
            creator: creator.into(),
            start_time: 0,
            end_time: None,
            state: LabState::Inactive,
            nodes: vec![node(vec![])],
        }
    }

    fn topology(creator: &str, collection: Collection) -> Topology {
        Topology { id: "t".into(), name: "ospf".into(), collection, creator: creator.into(), nodes: vec![node(vec![])] }
    }

    fn shell(owner: &str) -> Shell {
        Shell { id: "s".into(), lab_id: "lab".into(), node: "r1".into(), owner: owner.into() }
    }

    fn run(kind: CommandKind, lab: Lab, shell: Option<Shell>) -> Action {
        Action::Command(CommandRequest { kind, lab, node: None, shell })
    }

    /// `None`: allowed; otherwise the rule that spoke.
    fn rule(user: &Identity, action: Action) -> Option<String> {
        authorize(user, &action, &Settings::default()).err().map(|denial| denial.rule)
    }

    fn assert_rule(user: &Identity, action: Action, expected: &str) {
        assert_eq!(rule(user, action).as_deref(), Some(expected));
    }

    #[test]
    fn administrators_may_do_everything() {
        let mut dangerous = lab("ada", closed("secret"));
        dangerous.nodes = vec![node(vec![HostDemand::Privileged])];
        assert_eq!(rule(&admin(), run(CommandKind::Deploy, dangerous, None)), None);
        assert_eq!(rule(&admin(), Action::CreateCollection(collection("new"))), None);
        let at = ShellInLab { shell: shell("ada"), lab: lab("ada", closed("secret")) };
        assert_eq!(rule(&admin(), Action::Connect(Namespace::Shell(at))), None);
    }

    #[test]
    fn members_see_what_is_in_their_collections_and_nobody_else_does() {
        let (inside, outside) = (user("bob", &["course"]), user("eve", &["other", "Course", "cours"]));
        let views = || {
            [
                Action::ViewCollection(closed("course")),
                Action::ViewTopology(topology("ada", closed("course"))),
                Action::ViewLab(lab("ada", closed("course"))),
                Action::Connect(Namespace::LabLog(lab("ada", closed("course")))),
                Action::Connect(Namespace::NodeLog(NodeLog { lab: lab("ada", closed("course")), node: "r1".into() })),
                run(CommandKind::ListShells, lab("ada", closed("course")), None),
                run(CommandKind::OpenShell, lab("ada", closed("course")), None),
            ]
        };
        for action in views() {
            assert_eq!(rule(&inside, action), None);
        }
        for action in views() {
            assert_rule(&outside, action, "members-only");
        }
    }

    #[test]
    fn global_namespaces_are_open_to_everybody() {
        for namespace in
            [Namespace::LabCommands, Namespace::LabUpdates, Namespace::StatusMessages, Namespace::ShellCommands]
        {
            assert_eq!(rule(&user("bob", &[]), Action::Connect(namespace)), None);
        }
    }

    #[test]
    fn members_create_where_the_collection_lets_them() {
        let ada = user("ada", &["course"]);
        assert_eq!(rule(&ada, Action::CreateLab(lab("ada", collection("course")))), None);
        assert_eq!(rule(&ada, Action::CreateTopology(topology("ada", collection("course")))), None);
        assert_rule(&ada, Action::CreateLab(lab("ada", closed("course"))), "public-deploy");
        assert_rule(&ada, Action::CreateTopology(topology("ada", closed("course"))), "public-write");
        assert_rule(&ada, Action::CreateLab(lab("ada", collection("other"))), "members-only");
        assert_rule(&ada, Action::CreateTopology(topology("ada", collection("other"))), "members-only");
        assert_rule(&ada, Action::CreateCollection(collection("mine")), "admins-create-collections");
    }

    #[test]
    fn only_the_creator_changes_deploys_and_destroys() {
        let (ada, bob) = (user("ada", &["course"]), user("bob", &["course"]));
        let own = |kind| run(kind, lab("ada", closed("course")), None);
        let kinds = [
            CommandKind::Deploy,
            CommandKind::Destroy,
            CommandKind::StopNode,
            CommandKind::StartNode,
            CommandKind::RestartNode,
        ];
        for kind in kinds {
            assert_eq!(rule(&ada, own(kind)), None);
            assert_rule(&bob, own(kind), "creator-only");
        }
        let writes = || {
            let (before, after) = (lab("ada", closed("course")), lab("ada", closed("course")));
            let (old, new) = (topology("ada", closed("course")), topology("ada", closed("course")));
            [
                Action::UpdateLab(LabChange { before, after }),
                Action::DeleteLab(lab("ada", closed("course"))),
                Action::UpdateTopology(TopologyChange { before: old, after: new }),
                Action::DeleteTopology(topology("ada", closed("course"))),
            ]
        };
        for action in writes() {
            assert_eq!(rule(&ada, action), None);
        }
        for action in writes() {
            assert_rule(&bob, action, "creator-only");
        }
    }

    #[test]
    fn a_creator_who_left_the_collection_has_no_rights_in_it() {
        let ada = user("ada", &[]);
        assert_rule(&ada, run(CommandKind::Destroy, lab("ada", closed("course")), None), "members-only");
        assert_rule(&ada, Action::DeleteTopology(topology("ada", closed("course"))), "members-only");
    }

    #[test]
    fn collections_are_changed_by_their_creator() {
        let mut own = collection("course");
        own.creator = "ada".into();
        let change = |c: &Collection| CollectionChange { before: c.clone(), after: c.clone() };
        let ada = user("ada", &["course"]);
        assert_eq!(rule(&ada, Action::UpdateCollection(change(&own))), None);
        assert_eq!(rule(&ada, Action::DeleteCollection(own)), None);
        assert_rule(&ada, Action::UpdateCollection(change(&collection("course"))), "creator-only");
        assert_rule(&ada, Action::DeleteCollection(collection("course")), "creator-only");
    }

    #[test]
    fn moving_needs_the_right_on_both_sides() {
        let ada = user("ada", &["course", "lab-hall", "shut"]);
        let moved = |to: Collection| TopologyChange {
            before: topology("ada", collection("course")),
            after: topology("ada", to),
        };
        assert_eq!(rule(&ada, Action::UpdateTopology(moved(collection("lab-hall")))), None);
        assert_rule(&ada, Action::UpdateTopology(moved(closed("shut"))), "public-write");
        assert_rule(&ada, Action::UpdateTopology(moved(collection("other"))), "members-only");

        let to_other_topology = |to: Collection| LabChange {
            before: lab("ada", collection("course")),
            after: Lab { topology_id: "t2".into(), ..lab("ada", to) },
        };
        assert_eq!(rule(&ada, Action::UpdateLab(to_other_topology(collection("lab-hall")))), None);
        assert_rule(&ada, Action::UpdateLab(to_other_topology(closed("shut"))), "public-deploy");
        assert_rule(&ada, Action::UpdateLab(to_other_topology(collection("other"))), "members-only");
    }

    #[test]
    fn shells_belong_to_who_opened_them() {
        let (ada, bob) = (user("ada", &["course"]), user("bob", &["course"]));
        let connect = || Namespace::Shell(ShellInLab { shell: shell("ada"), lab: lab("bob", closed("course")) });
        let close = |shell| run(CommandKind::CloseShell, lab("bob", closed("course")), shell);
        assert_eq!(rule(&ada, Action::Connect(connect())), None);
        assert_rule(&bob, Action::Connect(connect()), "own-shells-only");
        assert_eq!(rule(&ada, close(Some(shell("ada")))), None);
        assert_rule(&bob, close(Some(shell("ada"))), "own-shells-only");
        assert_rule(&ada, close(None), "own-shells-only");
    }

    #[test]
    fn what_reaches_into_the_host_is_for_administrators() {
        let ada = user("ada", &["course"]);
        let demands = [
            HostDemand::Bind("/etc:/mnt".into()),
            HostDemand::Privileged,
            HostDemand::Capability("SYS_ADMIN".into()),
            HostDemand::Device("/dev/kvm".into()),
            HostDemand::NetworkMode("host".into()),
        ];
        for demand in demands {
            let nodes = vec![node(vec![]), node(vec![demand])];
            let asking = || Lab { nodes: nodes.clone(), ..lab("ada", collection("course")) };
            let retopologised = || LabChange {
                before: lab("ada", collection("course")),
                after: Lab { topology_id: "t2".into(), ..asking() },
            };
            let rescheduled = || LabChange { before: asking(), after: Lab { start_time: 1, ..asking() } };
            let edited = || TopologyChange {
                before: topology("ada", collection("course")),
                after: Topology { nodes: nodes.clone(), ..topology("ada", collection("course")) },
            };
            assert_rule(&ada, run(CommandKind::Deploy, asking(), None), "host-access");
            assert_rule(&ada, Action::CreateLab(asking()), "host-access");
            assert_rule(&ada, Action::UpdateLab(retopologised()), "host-access");
            assert_rule(&ada, Action::UpdateLab(rescheduled()), "host-access");
            assert_rule(&ada, Action::UpdateTopology(edited()), "host-access");
            assert_eq!(rule(&ada, run(CommandKind::Destroy, asking(), None)), None);

            let open = Settings { allow_host_access: true, ..Settings::default() };
            assert_eq!(authorize(&ada, &run(CommandKind::Deploy, asking(), None), &open), Ok(()));
        }
    }

    #[test]
    fn ports_of_the_host_are_for_administrators_but_for_those_that_the_operator_lists() {
        let asking = |port: &str| {
            let nodes = vec![node(vec![]), node(vec![HostDemand::Port(port.into())])];
            run(CommandKind::Deploy, Lab { nodes, ..lab("ada", collection("course")) }, None)
        };
        let ada = user("ada", &["course"]);
        assert_rule(&ada, asking("8080:80"), "host-ports");
        assert_eq!(rule(&admin(), asking("80:80")), None);
        let listed = Settings::parse(r#"{"allow-ports": ["8000-8999"]}"#).unwrap();
        assert_eq!(authorize(&ada, &asking("8080:80"), &listed), Ok(()));
        let denial = authorize(&ada, &asking("80:80"), &listed).unwrap_err();
        assert_eq!(denial.rule, "host-ports");
        assert!(denial.message.contains("(ports: 80:80) that is none of 8000-8999"), "{}", denial.message);
        let open = Settings { allow_host_access: true, ..Settings::default() };
        assert_eq!(authorize(&ada, &asking("80:80"), &open), Ok(()));
    }

    #[test]
    fn networks_are_named_by_what_they_are() {
        for (mode, words) in [
            ("network other", "a management network of its own (network other)"),
            ("bridge br0", "a bridge of the host (bridge br0)"),
            (
                "mgmt ipv4-subnet: \"10.0.0.0/8\"",
                "a management network of its own making (mgmt ipv4-subnet: \"10.0.0.0/8\")",
            ),
            ("link host:eth1", "a link out of the lab (link host:eth1)"),
            ("container:x", "the network mode container:x"),
        ] {
            assert_eq!(network(mode), words);
        }
    }
}
