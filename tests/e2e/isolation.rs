//! What a person finds who has a shell in a node and looks for a way out: lines 41 to 43 of the failure catalogue, as
//! they see it, on a server of root and on one of an ordinary user.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use tempfile::TempDir;

use crate::TWO_ROUTERS;
use crate::harness::{Screen as Shell, Server, ServerBuilder, User, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_leads_nowhere_out_of_its_node_on_a_server_run_by_root() {
    if User::Myself.can_run_labs("isolation as whoever runs the tests") {
        leads_nowhere(User::Myself).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_leads_nowhere_out_of_its_node_on_a_server_run_by_an_ordinary_user() {
    if User::Ordinary.can_run_labs("isolation as an ordinary user") {
        leads_nowhere(User::Ordinary).await;
    }
}

async fn leads_nowhere(user: User) {
    let server = ServerBuilder::new(user).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    assert_eq!(shell.run("id -u").await, (0, "0".to_owned()), "whoever has a shell is root in the node");
    nothing_to_read(&server, &mut shell).await;
    nothing_to_change(&mut shell).await;
    no_processes(&server, &mut shell).await;
    no_network(&server, &mut shell).await;
    admin.destroy(&lab).await.unwrap();
}

async fn nothing_to_read(server: &Server, shell: &mut Shell) {
    let data = server.place().data();
    assert!(data.join("signing.key").exists() && data.join("antimony.db").exists());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let on_the_host = [data.join("signing.key"), data.join("antimony.db"), data, repository.to_owned()];
    let never = ["/etc/shadow", "/etc/gshadow", "/var/run/docker.sock", "/run/docker.sock", "/run/containerd"];
    for path in never.iter().map(Path::new).chain(on_the_host.iter().map(AsRef::as_ref)) {
        shell.fails(&format!("test -e {}", path.display())).await;
    }
    // Something of the host in each, where the tests may put it there, so that empty means hidden.
    let folders = ["/root", "/home", "/tmp", "/srv", "/mnt", "/var/lib", "/var/log"];
    let _there: Vec<TempDir> = folders.iter().filter_map(|folder| tempfile::tempdir_in(folder).ok()).collect();
    for folder in folders {
        assert_eq!(shell.run(&format!("ls -A {folder}")).await.1, "", "{folder} is not empty");
    }
    shell.fails("head -c 1 /dev/mem").await;
    shell.fails("head -c 1 /proc/kcore").await;
    shell.fails("head -c 1 /dev/sda || head -c 1 /dev/vda || head -c 1 /dev/nvme0n1").await;
}

async fn nothing_to_change(shell: &mut Shell) {
    for line in [
        "touch /usr/antimony",
        "touch /usr/bin/antimony",
        "touch /bin/antimony",
        "rm /usr/bin/env",
        "mount -t tmpfs none /mnt",
        "mount --bind /tmp /mnt",
        "mount -o remount,rw /usr",
        "umount /usr",
        "mknod /tmp/disk b 8 0",
        "mknod /tmp/null c 1 3",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/vm/swappiness",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "unshare --user true",
        "unshare --mount true",
        "date -s 2001-01-01",
    ] {
        shell.fails(line).await;
    }
    // None of it failed because nothing works.
    shell.succeeds("touch /tmp/mine /root/mine /etc/mine && rm /tmp/mine /root/mine /etc/mine").await;
    shell.succeeds("echo 1 > /proc/sys/net/ipv4/ip_forward").await;
}

async fn no_processes(server: &Server, shell: &mut Shell) {
    let namespace = shell.succeeds("readlink /proc/self/ns/pid").await;
    assert!(namespace.starts_with("pid:["), "{namespace}");
    // The shell's own doing, without another process that would come and go.
    let seen = shell.succeeds("echo /proc/[0-9]*").await;
    let seen = seen.split_whitespace().count();
    assert!(seen >= 2, "the node's first process and the shell");
    // What ran a moment ago may take one more to be gone.
    eventually(async || {
        let there = processes_in(&namespace);
        if there.len() == seen { Ok(()) } else { Err(format!("{seen} were seen, and these are there: {there:?}")) }
    })
    .await;
    let commands = shell.succeeds("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
    assert!(!commands.contains("serve"), "{commands}");
    shell.fails(&format!("kill -0 {}", server.id())).await;
    shell.fails(&format!("kill -0 {}", std::process::id())).await;
}

/// Processes of this machine that are in a namespace.
fn processes_in(namespace: &str) -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let link = fs::read_link(entry.path().join("ns/pid")).ok()?;
            (link.to_str()? == namespace).then_some(id)
        })
        .collect()
}

async fn no_network(server: &Server, shell: &mut Shell) {
    assert_eq!(shell.succeeds("ls -1 /sys/class/net").await, "eth1\nlo");
    let routes = shell.succeeds("cat /proc/net/route").await;
    let routes: Vec<_> = routes.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(routes, ["eth1"]);
    // The address works from here, and from the node there is nobody at it.
    let address: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    TcpStream::connect(address).unwrap();
    let connect = |to: &str, port: u16| format!("bash -c 'exec 3<>/dev/tcp/{to}/{port}' 2>&1");
    let refused = shell.fails(&connect("127.0.0.1", address.port())).await;
    assert!(refused.contains("refused"), "{refused}");
    let unreachable = shell.fails(&connect("192.0.2.1", 80)).await;
    assert!(unreachable.contains("unreachable"), "{unreachable}");
    shell.succeeds("ping -c 1 10.0.0.2").await;
}
