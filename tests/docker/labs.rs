//! A lab that containerlab itself has deployed.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use antimony_host::labs::model::NodeState;
use antimony_host::runtime::docker::Removal;

use crate::harness::{Lab, engine, left_out};
use crate::logs::read;
use crate::shells::{hear, request, say};
use crate::watching::next;

fn containerlab(dir: &std::path::Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("containerlab")
        .args(arguments)
        .args(["-t", "lab.clab.yml"])
        .current_dir(dir)
        .env("CLAB_VERSION_CHECK", "disable")
        .env("CLAB_LABDIR_BASE", dir)
        .env("SUDO_USER", "somebody")
        .output()
        .map_err(|error| format!("containerlab: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What has to be taken down, whatever the test has come to.
struct Deployed<'a>(&'a std::path::Path);

impl Drop for Deployed<'_> {
    fn drop(&mut self) {
        let result = containerlab(self.0, &["destroy", "-c"]);
        assert!(result.is_ok() || std::thread::panicking(), "{result:?}");
    }
}

#[tokio::test]
async fn a_lab_of_containerlab_is_found_followed_and_entered() {
    let test = "labs of containerlab";
    let Some(docker) = engine(test).await else { return };
    if !nix::unistd::geteuid().is_root() || Command::new("containerlab").arg("version").output().is_err() {
        return left_out(test, "needs containerlab, and root");
    }
    let lab = Lab::new(&docker);
    let dir = tempfile::tempdir().unwrap();
    let net = std::process::id() % 250;
    let definition = format!(
        "name: {name}
mgmt: {{network: {name}, ipv4-subnet: 10.217.{net}.0/24, ipv6-subnet: 'fd00:217:{net:x}::/64'}}
topology:
  defaults: {{kind: linux, image: 'lab/busybox:1', image-pull-policy: never}}
  nodes:
    spine-1: {{cmd: sh -c 'echo hello from here; trap exit TERM; while :; do sleep 0.1; done'}}
    r2: {{cmd: sh -c 'trap exit TERM; while :; do sleep 0.1; done'}}
  links:
    - endpoints: ['spine-1:eth1', 'r2:eth1']
",
        name = lab.name
    );
    std::fs::write(dir.path().join("lab.clab.yml"), definition).unwrap();
    let deployed = Deployed(dir.path());
    containerlab(dir.path(), &["deploy"]).unwrap();

    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    let nodes = docker.containers(Some(&lab.name)).await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["r2", "spine-1"]);
    let spine = nodes[1].status();
    assert_eq!((spine.kind.as_str(), spine.state), ("linux", NodeState::Running));
    assert!(spine.ipv4.starts_with(&format!("10.217.{net}.")) && spine.ipv6.starts_with("fd00:217:"), "{spine:?}");
    assert!(nodes[1].topology_file.as_ref().unwrap().ends_with("lab.clab.yml"), "{nodes:?}");
    assert_eq!(nodes[1].owner.as_deref(), Some("somebody"));
    let mut log = watch.follow_log(&lab.name, "spine-1", None).await.unwrap();
    assert_eq!(read(&mut log, Some("hello from here")).await.0.matches("hello").count(), 1);
    let mut pty = docker.open_pty(&lab.name, "spine-1", request(&[&["bash"], &["sh"]])).await.unwrap();
    say(&pty, "cat /sys/class/net/eth1/operstate\n").await;
    hear(&mut pty, "up").await;

    // What stands for ssh here says whom it was sent to.
    let ssh = dir.path().join("ssh");
    std::fs::write(&ssh, "#!/bin/sh\necho to $1\n").unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = [ssh.to_str().unwrap(), "admin@{address}"];
    let mut pty = docker.open_pty(&lab.name, "spine-1", request(&[&command])).await.unwrap();
    hear(&mut pty, &format!("to admin@{}", spine.ipv4)).await;

    drop(deployed);
    let mut told = Vec::new();
    while !told.last().is_some_and(|last: &String| last.starts_with("lost")) {
        told.push(next(&mut events, &lab.name).await);
    }
    read(&mut log, None).await;
}

/// Removed by the test, unless that has failed.
struct Network(String);

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["network", "rm", &self.0]).output();
    }
}

#[tokio::test]
async fn a_network_that_containerlab_has_just_made_stays_and_an_old_one_that_nobody_uses_goes() {
    let Some(docker) = engine("a young network").await else { return };
    let lab = Lab::new(&docker);
    let name = lab.name.clone();
    let subnet = format!("10.218.{}.0/24", std::process::id() % 250);
    lab.docker(&["network", "create", "--subnet", &subnet, "--label", "containerlab", &name]);
    let network = Network(name.clone());
    let young = docker.remove_unused_network(&name, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(young, Removal::TooEarly);
    assert!(docker.has_network(&name).await.unwrap(), "it is young");
    let removed = docker.remove_unused_network(&name, Duration::ZERO).await.unwrap();
    assert!(matches!(removed, Removal::Removed { bridge } if bridge.starts_with("br-")));
    assert!(!docker.has_network(&name).await.unwrap());
    assert_eq!(
        docker.remove_unused_network(&name, Duration::ZERO).await.unwrap(),
        Removal::Kept,
        "nothing is there, which is no error"
    );
    drop(network);
}
