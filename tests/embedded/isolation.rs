//! That a node can neither read, change, reach nor use up anything outside.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use antimony_host::runtime::embedded::{EmbeddedOptions, EmbeddedRuntime};
use antimony_host::runtime::{NodeAction, RuntimeDriver};
use antimony_host::topology::{Node, Topology};

use crate::harness::{
    HELPER, Outsider, SHOW_NAMESPACES, Shell, deploy, destroy, helper, left_out, link, namespaces_in, node, number,
    one, processes_in, read_log, request, run_in, runtime, two_routers,
};

/// Line 41 of the failure catalogue.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_can_be_read_from_a_node() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("signing.key"), "secret").unwrap();
    let below_usr = nix::unistd::geteuid().is_root().then(|| tempfile::tempdir_in("/usr/local").unwrap());
    let mut options = EmbeddedOptions { helper: helper(), ..Default::default() };
    options.hidden.push(data.path().to_owned());
    if let Some(folder) = &below_usr {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("signing.key"), "secret").unwrap();
        options.hidden.push(folder.path().to_owned());
    }
    // A file alone, in a folder that nodes see.
    let key = nix::unistd::geteuid().is_root().then(|| tempfile::NamedTempFile::new_in("/usr/local").unwrap());
    if let Some(key) = &key {
        fs::write(key.path(), "secret").unwrap();
        fs::set_permissions(key.path(), fs::Permissions::from_mode(0o644)).unwrap();
        options.hidden.push(key.path().to_owned());
    }
    let runtime = EmbeddedRuntime::new(options).unwrap();
    deploy(&runtime, "hidden", one(node("r1"))).await;
    let mut shell = Shell::open(&runtime, "hidden", "r1").await;
    let data = data.path().join("signing.key");
    for path in ["/etc/shadow", "/etc/gshadow", "/etc/ssl/private", "/var/run/docker.sock", "/run/docker.sock"]
        .into_iter()
        .map(PathBuf::from)
        .chain([data, PathBuf::from(env!("CARGO_MANIFEST_DIR"))])
        .chain(below_usr.iter().map(|folder| folder.path().join("signing.key")))
    {
        let (code, text) = shell.run(&format!("test -e {}", path.display())).await;
        assert_eq!(code, 1, "{} is there: {text}", path.display());
    }
    if let Some(key) = &key {
        let (_, text) =
            shell.run(&format!("echo \"<$(head -c 1 {} 2>/dev/null | wc -c)>\"", key.path().display())).await;
        assert!(text.contains("<0>"), "a hidden file can be read: {text}");
    }
    for folder in ["/home", "/root", "/srv", "/mnt", "/media", "/tmp", "/var/lib", "/var/log"] {
        let (_, text) = shell.run(&format!("echo \"<$(ls -A {folder} | wc -l)>\"")).await;
        assert!(text.contains("<0>"), "{folder} is not empty: {text}");
    }
    // Memory of the kernel and of the process that runs the node are not readable either.
    for path in
        ["/proc/kcore", "/proc/1/mem", "/proc/1/environ", "/proc/1/root/etc/passwd", "/dev/mem", "/dev/sda", "/dev/vda"]
    {
        let (_, text) = shell.run(&format!("echo \"<$(head -c 1 {path} 2>/dev/null | wc -c)>\"")).await;
        assert!(text.contains("<0>"), "{path} can be read: {text}");
    }
    destroy(&runtime, "hidden").await;
}

/// Line 42.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_host_sees_can_be_changed_from_a_node() {
    let runtime = runtime();
    deploy(&runtime, "confined", one(node("r1"))).await;
    let mut shell = Shell::open(&runtime, "confined", "r1").await;
    let refused = [
        "touch /usr/bin/x",
        "touch /bin/x",
        "touch /lib/x",
        "chmod 777 /usr",
        "mount -t tmpfs none /mnt",
        "mount -t proc none /mnt",
        "mount --bind /tmp /mnt",
        "mount -o remount,rw /usr",
        "umount /proc",
        "umount /usr",
        "mknod /tmp/disk b 254 0",
        "mknod /tmp/null c 1 3",
        "unshare -r true",
        "unshare -m true",
        "unshare -n true",
        "nsenter -t 1 -m true",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/vm/swappiness",
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "echo 15000 > /proc/sys/user/max_user_namespaces",
        "hostname other",
        "date -s 2001-01-01",
        "ls /sys/fs/cgroup/*",
        "dmesg",
    ];
    for line in refused {
        let (code, text) = shell.run(&format!("({line}) >/dev/null 2>&1")).await;
        assert_ne!(code, 0, "`{line}` worked: {text}");
    }
    // Mounting, tracing the kernel, loading modules, making devices, rebooting, raw I/O.
    let (_, text) = shell.run("grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status").await;
    let field = |name: &str| {
        let rest = text.rsplit_once(name).unwrap_or_else(|| panic!("{text}")).1;
        u64::from_str_radix(rest.split_whitespace().next().unwrap(), 16).unwrap()
    };
    for capability in [16, 17, 19, 21, 22, 23, 24, 25, 27, 31, 34, 38, 39, 40] {
        assert_eq!(field("CapEff:") >> capability & 1, 0, "capability {capability}: {text}");
        assert_eq!(field("CapBnd:") >> capability & 1, 0, "capability {capability}: {text}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), (1, 2));
    // Nothing that failed above did so because nothing works: the node's own things can be changed.
    for line in
        ["touch /etc/x /tmp/x /root/x /var/x /run/x", "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo x > /dev/stderr"]
    {
        let (code, text) = shell.run(line).await;
        assert_eq!(code, 0, "`{line}`: {text}");
    }
    // Its root is nobody in particular outside.
    let (_, text) = shell.run(SHOW_NAMESPACES).await;
    let inside = processes_in(&namespaces_in(&text));
    assert!(!inside.is_empty(), "{text}");
    for pid in inside {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ids = status.split_once("Uid:").unwrap().1.lines().next().unwrap().split_whitespace();
        assert!(ids.clone().all(|id| id != "0") && ids.count() == 4, "{status}");
    }
    destroy(&runtime, "confined").await;
}

/// Line 43.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_and_no_network_outside_can_be_reached_from_a_node() {
    let runtime = runtime();
    let topology = |address: &str, peer: &str| Topology {
        links: vec![link(("r1", "eth1", address), ("r2", "eth1", peer))],
        ..two_routers()
    };
    deploy(&runtime, "here", topology("10.0.0.1/24", "10.0.0.2/24")).await;
    deploy(&runtime, "there", topology("10.0.0.3/24", "10.0.0.4/24")).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut sleeper = Outsider::start();
    let mut shell = Shell::open(&runtime, "here", "r1").await;

    let (code, text) = shell.run(&format!("kill -0 {}", sleeper.0.id())).await;
    assert_ne!(code, 0, "{text}");
    // Init, the shell, and what the shell runs to look.
    let (_, text) = shell.run("echo \"<$(ls -d /proc/[0-9]* | wc -l)>\"").await;
    assert!(number(&text) <= 5, "{text}");
    let (code, _) = shell.run("kill -9 -1; kill -9 1").await;
    assert_eq!(code, 0);
    assert!(sleeper.0.try_wait().unwrap().is_none());

    // That the shell survived its kill of everybody is because it leaves itself out; its node did because it is PID 1.
    let (code, text) = shell.run(&format!("bash -c '</dev/tcp/127.0.0.1/{port}'")).await;
    assert_ne!(code, 0, "{text}");
    let (code, text) = shell.run("ping -c 1 -W 5 10.0.0.2").await;
    assert_eq!(code, 0, "{text}");
    for elsewhere in ["10.0.0.3", "10.0.0.4"] {
        let (code, text) = shell.run(&format!("ping -c 1 -W 1 {elsewhere}")).await;
        assert_ne!(code, 0, "{text}");
    }
    let (_, text) = shell.run("echo \"<$(ls /sys/class/net | tr '\\n' ' ')>\"").await;
    assert!(text.contains("<eth1 lo >"), "{text}");
    let (_, text) = shell.run("echo \"<$(wc -l < /proc/net/route)>\"").await;
    assert!(text.contains("<2>"), "a route leads out: {text}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    tokio::join!(destroy(&runtime, "here"), destroy(&runtime, "there"));
}

/// Line 44.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_node_hurts_itself_only_and_destroy_takes_seconds() {
    let runtime = runtime();
    let stubborn = Node {
        cmd: Some("sh -c 'trap \"\" TERM INT HUP; while :; do sleep 1000; done'".to_owned()),
        ..node("stubborn")
    };
    let nodes = ["bomb", "full", "hog"].map(node).into_iter().chain([stubborn, node("quiet")]).collect();
    let topology = Topology { nodes, links: vec![], ..two_routers() };
    deploy(&runtime, "hostile", topology).await;

    let full = run_in(&runtime, "hostile", "full", "cat /dev/zero > /tmp/all; cat /dev/zero > /dev/shm/all").await;
    assert_ne!(full.0, 0, "{}", full.1);
    let hog = Shell::open(&runtime, "hostile", "hog").await;
    hog.send("tail /dev/zero\n").await;
    let bomb = Shell::open(&runtime, "hostile", "bomb").await;
    bomb.send("b() { b | b & }; b\n").await;

    // Once the bomb can't grow any more, others still can do everything.
    let mut bomb = bomb;
    while !bomb.seen.contains("fork") {
        assert!(bomb.read().await, "{}", bomb.seen);
    }
    let (code, text) = run_in(&runtime, "hostile", "quiet", "true | true && echo alive").await;
    assert_eq!(code, 0, "{text}");
    assert!(Command::new("true").status().unwrap().success());
    // A full node still opens a shell.
    assert_eq!(run_in(&runtime, "hostile", "full", "true").await.0, 0);

    let begun = Instant::now();
    destroy(&runtime, "hostile").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "destroy took {:?}", begun.elapsed());
}

/// CVE-2019-5736 and its relatives: what runs in a node is started by our own program, which lies on the host.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_program_cannot_be_changed_through_the_processes_of_a_node() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("antimony-host");
    fs::copy(helper(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let state = || {
        let meta = fs::metadata(&program).unwrap();
        (meta.permissions().mode(), meta.modified().unwrap(), meta.len())
    };
    let (before, content) = (state(), fs::read(&program).unwrap());
    let runtime = EmbeddedRuntime::new(EmbeddedOptions { helper: program.clone(), ..Default::default() }).unwrap();
    let attack = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *antimony*) { \
                  chmod 6777 /proc/self/fd/9; touch -d @0 /proc/self/fd/9; kill -9 ${p#/proc/}; sleep 0.2; \
                  echo x >> /proc/self/fd/9; echo attacked; } 9<$p/exe;; esac; done; done 2>&1";
    let exec = vec!["ln -s /proc/self/exe /tmp/ping".to_owned()];
    let attacker = Node { cmd: Some(format!("sh -c '{attack}'")), exec, ..node("r1") };
    deploy(&runtime, "overwrite", one(attacker)).await;
    let mut log = runtime.follow_log("overwrite", "r1", None).await.unwrap();
    // Under this name the program stays for a while.
    let again = ["/tmp/ping", "-c", "1000", "127.0.0.1"];
    let pty = runtime.open_pty("overwrite", "r1", request(&[&again])).await.unwrap();
    let text = read_log(&mut log, "attacked").await;
    assert_eq!(state(), before, "{text}");
    drop(pty);
    destroy(&runtime, "overwrite").await;
    assert_eq!(state(), before, "{text}");
    assert!(fs::read(&program).unwrap() == content, "the program has other bytes now: {text}");
}

/// What the helper needs of a node's devices it holds since before the node ran anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_swaps_its_devices_gets_nothing_of_the_helper_and_starts_again() {
    let runtime = runtime();
    let swap = "rm -rf /dev.old; mv /dev /dev.old; mkdir /dev; ln -s /proc/self/exe /dev/null";
    let look = "stat -L -c %F-%t:%T /proc/self/fd/0";
    let swapper = Node { exec: vec![format!("sh -c '{swap}'"), look.to_owned()], ..node("r1") };
    let text = deploy(&runtime, "swapped", one(swapper)).await.text();
    assert!(text.contains("r1 | character special file-1:3"), "the input of a command is something else: {text}");
    runtime.node("swapped", "r1", NodeAction::Restart).await.unwrap();
    for masked in ["/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/kcore"] {
        if Path::new(masked).exists() {
            let (_, text) = run_in(&runtime, "swapped", "r1", &format!("stat -c %F-%t:%T {masked}")).await;
            assert!(text.contains("character special file-1:3"), "{masked}: {text}");
        }
    }
    destroy(&runtime, "swapped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_folder_is_hidden_by_whatever_path_it_is_named() {
    let relative = EmbeddedOptions { helper: helper(), hidden: vec!["antimony-data".into()], ..Default::default() };
    let error = EmbeddedRuntime::new(relative).err().expect("a relative path could be anywhere").to_string();
    assert!(error.contains("antimony-data"), "{error}");
    if !nix::unistd::geteuid().is_root() {
        // Only root can make a folder there; where root started this, it has done so.
        if std::env::var_os(HELPER).is_none() {
            left_out("a hidden folder below /usr: only root can make one");
        }
        return;
    }
    let folder = tempfile::tempdir_in("/usr/local").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("signing.key"), "secret").unwrap();
    let alias = elsewhere.path().join("alias");
    std::os::unix::fs::symlink(folder.path(), &alias).unwrap();
    let roundabout = folder.path().join("../../local").join(folder.path().file_name().unwrap());
    for (name, path) in [("alias", alias), ("roundabout", roundabout)] {
        let options = EmbeddedOptions { helper: helper(), hidden: vec![path], ..Default::default() };
        let runtime = EmbeddedRuntime::new(options).unwrap();
        deploy(&runtime, name, one(node("r1"))).await;
        let key = folder.path().join("signing.key");
        let (code, text) = run_in(&runtime, name, "r1", &format!("test -e {}", key.display())).await;
        assert_eq!(code, 1, "{name}: {text}");
        destroy(&runtime, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_can_use_up_of_the_kernel_is_bounded() {
    let runtime = runtime();
    deploy(&runtime, "bounded", one(node("r1"))).await;
    let (_, text) = run_in(
        &runtime,
        "bounded",
        "r1",
        "n=0; while [ $n -lt 90 ] && exec {fd}<>/dev/ptmx; do n=$((n+1)); done 2>/dev/null; echo \"<$n>\"",
    )
    .await;
    assert!((16..=64).contains(&number(&text)), "terminals: {text}");
    let at_most = async |line: &str, most: u32| {
        let (_, text) = run_in(&runtime, "bounded", "r1", &format!("echo \"<$({line})>\"")).await;
        assert!(number(&text) <= most, "{line}: {text}");
    };
    at_most("ulimit -Sn", 1024).await;
    at_most("ulimit -Hn", 4096).await;
    at_most("ulimit -Hi", 4096).await;
    at_most("ulimit -Hq", 819_200).await;
    at_most("ulimit -Hl", 8192).await;
    for key in ["max_inotify_instances", "max_inotify_watches"] {
        at_most(&format!("cat /proc/sys/user/{key}"), 65_536).await;
    }
    at_most("cat /proc/sys/kernel/shmall", (256 << 20) / 4096).await;
    destroy(&runtime, "bounded").await;
}
