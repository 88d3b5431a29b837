//! What of a topology containerlab can't do here, found before anything is begun. Pure.

use crate::runtime::RuntimeError;
use crate::topology::{FileBind, HostDemand, Node, Topology};

/// Kinds that stand for something which exists already, and so have no image.
const KINDS_WITHOUT_IMAGE: &[&str] = &["bridge", "ovs-bridge", "ext-container", "host", "k8s-kind"];

/// Whether containerlab makes a container for it.
pub(super) fn is_made(node: &Node) -> bool {
    !KINDS_WITHOUT_IMAGE.contains(&node.kind.as_str())
}

/// Says whether containerlab can run it.
pub(super) fn check(topology: &Topology, engine: &str) -> Result<(), RuntimeError> {
    if topology.nodes.is_empty() {
        return Err(RuntimeError::Unsupported("the topology has no nodes".to_owned()));
    }
    topology.nodes.iter().try_for_each(|node| check_node(node, engine))
}

fn check_node(node: &Node, engine: &str) -> Result<(), RuntimeError> {
    // What another engine runs, this server would neither see nor take away.
    if let Some(other) = node.runtime.as_deref().filter(|runtime| *runtime != engine) {
        let name = &node.name;
        return Err(RuntimeError::Unsupported(format!(
            "node {name}: `runtime: {other}`, but this server runs labs with {engine}; leave the key out"
        )));
    }
    let name = &node.name;
    let image = node.image.as_deref().unwrap_or_default();
    if image.trim().is_empty() && is_made(node) {
        return Err(RuntimeError::Unsupported(format!(
            "node {name}: there is no image for it; write `image:` at the node, at its kind or group, or under defaults"
        )));
    }
    // Nothing is looked up that isn't known to be there: what else there may be in the folder is containerlab's.
    if let Some(problem) = node.binds.iter().find_map(FileBind::problem) {
        return Err(RuntimeError::Unsupported(format!("node {name}: {problem}")));
    }
    for demand in &node.demands {
        let HostDemand::Bind(bind) = demand else { continue };
        let source = bind.split(':').next().unwrap_or_default();
        if !source.starts_with(['/', '~']) && source.split('/').any(|part| part == "..") {
            return Err(RuntimeError::Unsupported(format!(
                "node {name}: {bind}: the path leaves the folder of the lab; write an absolute one"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(topology: &str) -> Result<(), String> {
        let topology = Topology::parse(&format!("name: x\ntopology:\n{topology}")).unwrap();
        check(&topology, "docker").map_err(|error| error.to_string())
    }

    #[test]
    fn images_may_come_from_wherever_containerlab_takes_them() {
        for topology in [
            "  nodes: {r1: {kind: linux, image: a}}",
            "  kinds: {srl: {image: a}}\n  nodes: {r1: {kind: srl}}",
            "  groups: {g: {image: a, kind: ceos}}\n  nodes: {r1: {group: g}}",
            "  defaults: {image: a, kind: crpd}\n  nodes: {r1: }",
            "  nodes: {br0: {kind: bridge}}",
        ] {
            assert_eq!(checked(topology), Ok(()), "{topology}");
        }
        let said = checked("  nodes: {r1: {kind: linux, image: a}, r2: {kind: linux}}").unwrap_err();
        assert!(said.starts_with("node r2: there is no image"), "{said}");
    }

    #[test]
    fn a_node_is_made_with_the_engine_that_the_server_sees() {
        assert_eq!(checked("  nodes: {r1: {kind: linux, image: a, runtime: docker}}"), Ok(()));
        let said = checked("  defaults: {runtime: podman}\n  nodes: {r1: {kind: linux, image: a}}").unwrap_err();
        assert!(said.starts_with("node r1: `runtime: podman`, but this server runs labs with docker"), "{said}");
    }

    #[test]
    fn relative_paths_stay_in_the_folder_of_the_lab() {
        let bind = |bind: &str| checked(&format!("  nodes: {{r1: {{kind: linux, image: a, binds: ['{bind}']}}}}"));
        assert!(bind("../../antimony.db:/x").unwrap_err().contains("leaves the folder"));
        assert!(bind("a/../../b:/x").is_err());
        let missing = bind("conf/a..b:/x:ro").unwrap_err();
        assert!(missing.contains("binds (conf/a..b:/x:ro)") && missing.contains("add it"), "{missing}");
        let text = "name: x\ntopology:\n  nodes: {r1: {kind: linux, image: a, binds: ['conf/a..b:/x:ro', 'conf:/y']}}";
        let topology = Topology::parse_beside(text, &["conf/a..b".to_owned()]).unwrap();
        assert!(check(&topology, "docker").is_ok());
        assert_eq!(bind("/etc/../srv/x:/x"), Ok(()));
    }
}
