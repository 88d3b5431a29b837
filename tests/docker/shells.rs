//! Shells in nodes, and what is left of them.

use std::time::Duration;

use antimony_host::runtime::docker::Docker;
use antimony_host::runtime::{Pty, PtyRequest, RuntimeError};
use bytes::Bytes;

use crate::harness::{Lab, PATIENCE, engine, left_out, until};

pub(crate) fn request(commands: &[&[&str]]) -> PtyRequest {
    let commands = commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect();
    PtyRequest { size: (100, 30), commands, timeout: Duration::from_secs(30) }
}

pub(crate) async fn say(pty: &Pty, text: &str) {
    pty.input.send(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
}

/// Reads until `enough` is in it.
pub(crate) async fn hear(pty: &mut Pty, enough: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(enough) {
            text.extend_from_slice(&pty.output.recv().await.expect("the terminal goes on"));
        }
    };
    let done = tokio::time::timeout(PATIENCE, reading).await.is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(done, "{enough:?} never came, but {text:?}");
    text
}

async fn end(pty: Pty) -> String {
    let Pty { mut output, exit, control, .. } = pty;
    tokio::time::timeout(PATIENCE, async { while output.recv().await.is_some() {} }).await.unwrap();
    let how = tokio::time::timeout(PATIENCE, exit).await.unwrap().unwrap();
    drop(control);
    how
}

/// Whether a process of a container has this in its command line.
pub(crate) fn runs(lab: &Lab, node: &str, what: &str) -> bool {
    lab.docker(&["top", &lab.container(node), "-eo", "pid,args"]).contains(what)
}

#[tokio::test]
async fn the_first_command_that_exists_is_run_and_tells_how_it_ended() {
    let Some(docker) = engine("opening shells").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let commands = request(&[&["no-such-shell"], &["/etc"], &["sh", "-i"]]);
    let mut pty = docker.open_pty(&lab.name, "r1", commands).await.unwrap();
    say(&pty, "stty size; echo ma''rk\n").await;
    let text = hear(&mut pty, "mark").await;
    assert!(text.contains("30 100"), "{text:?}");
    pty.control.resize(132, 43);
    until("the new size", async || {
        say(&pty, "stty size; echo ma''rk\n").await;
        hear(&mut pty, "mark").await.contains("43 132").then_some(())
    })
    .await;
    say(&pty, "exit 3\n").await;
    assert_eq!(end(pty).await, "exit status 3");
}

#[tokio::test]
async fn where_no_command_exists_all_are_named() {
    let Some(docker) = engine("nodes without a shell").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    lab.run("r2", &[], "exit 0");
    let open = async |node: &str| match docker.open_pty(&lab.name, node, request(&[&["bash"], &["zsh", "-l"]])).await {
        Ok(_) => panic!("{node} has neither"),
        Err(error) => error,
    };
    let error = open("r1").await.to_string();
    assert!(error.contains("bash: ") && error.contains("zsh -l: ") && error.contains("not found"), "{error}");
    until("the end of r2", async || matches!(open("r2").await, RuntimeError::NodeNotRunning(_)).then_some(())).await;
    assert!(matches!(open("r3").await, RuntimeError::NoNode(node) if node == "r3"));
    let error = docker.open_pty("dkt-no-such-lab", "r1", request(&[&["sh"]])).await.err().unwrap();
    assert!(matches!(error, RuntimeError::NoInstance(_)), "{error}");
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_directions() {
    let Some(docker) = engine("bytes in terminals").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    // Of what a terminal makes of it, nothing: all bytes, among them those that look like the header of a stream.
    let script = "stty raw -echo; echo ready; head -c 1048576 | md5sum; printf '\\000\\001\\002\\000\\000'; cat";
    let mut pty = docker.open_pty(&lab.name, "r1", request(&[&["sh", "-c", script]])).await.unwrap();
    hear(&mut pty, "ready").await;
    let paste: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(std::env::temp_dir().join(&lab.name), &paste).unwrap();
    let sum = std::process::Command::new("md5sum").arg(std::env::temp_dir().join(&lab.name)).output().unwrap();
    std::fs::remove_file(std::env::temp_dir().join(&lab.name)).unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let input = pty.input.clone();
    let typing = tokio::spawn(async move {
        for part in paste.chunks(10_000) {
            input.send(Bytes::copy_from_slice(part)).await.unwrap();
        }
    });
    let mut text = hear(&mut pty, "\0\u{1}\u{2}\0\0").await;
    typing.await.unwrap();
    assert!(text.contains(&sum), "{text:?}");
    // Only now: `head` may read more than it passes on.
    pty.input.send(Bytes::from_static(b"\x01\x02\x00gr\xc3\xbc\xc3\x9fe")).await.unwrap();
    text += &hear(&mut pty, "gr\u{fc}\u{df}e").await;
    assert!(text.contains("\0\u{1}\u{2}\0\0\u{1}\u{2}\0gr"), "{text:?}");
}

/// Opens a shell with a job in the background and one that ignores everything, and answers it.
async fn busy(docker: &Docker, lab: &Lab) -> Pty {
    let mut pty = docker.open_pty(&lab.name, "r1", request(&[&["sh", "-i"]])).await.unwrap();
    say(&pty, "sleep 4242 & (trap '' HUP TERM INT; sleep 4243) & echo re''ady\n").await;
    hear(&mut pty, "ready").await;
    until("its jobs", async || (runs(lab, "r1", "sleep 4242") && runs(lab, "r1", "sleep 4243")).then_some(())).await;
    pty
}

async fn nothing_is_left(lab: &Lab) {
    until("the end of the shell's processes", async || {
        let some = ["sh -i", "sleep 4242", "sleep 4243"].iter().any(|what| runs(lab, "r1", what));
        (!some).then_some(())
    })
    .await;
    assert!(runs(lab, "r1", "sleep 1000"), "the node goes on");
}

#[tokio::test]
async fn what_runs_in_a_shell_ends_with_it_however_that_ends() {
    let Some(docker) = engine("ending shells").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let pty = busy(&docker, &lab).await;
    pty.control.terminate();
    let how = end(pty).await;
    assert!(how.starts_with("signal ") || how.starts_with("exit status "), "{how}");
    nothing_is_left(&lab).await;

    drop(busy(&docker, &lab).await);
    nothing_is_left(&lab).await;

    let docker = docker.with_owner("other");
    let _pty = busy(&docker, &lab).await;
    docker.end_shells().await;
    nothing_is_left(&lab).await;
    assert!(docker.open_pty(&lab.name, "r1", request(&[&["sh"]])).await.is_err(), "the server is closing");
}

#[tokio::test]
async fn a_shell_that_throws_its_environment_away_is_ended_all_the_same() {
    let Some(docker) = engine("shells without their environment").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let pty = docker.open_pty(&lab.name, "r1", request(&[&["sh", "-i"]])).await.unwrap();
    say(&pty, "exec env -i sleep 43217\n").await;
    until("the other program", async || runs(&lab, "r1", "sleep 43217").then_some(())).await;
    pty.control.terminate();
    let how = end(pty).await;
    if nix::unistd::geteuid().is_root() && docker.host().starts_with("unix://") {
        assert!(how.starts_with("signal ") || how.starts_with("exit status "), "{how}");
    }
    // Where it can't be ended, it isn't said that it was.
    assert_eq!(runs(&lab, "r1", "sleep 43217"), how == antimony_host::runtime::NOT_ENDED, "{how}");
}

/// Says which lab the process that a test kills shall open a shell in, and as which server.
const VICTIM: &str = "ANTIMONY_TEST_VICTIM";

/// Says something to who started this process, past the test runner.
fn tell(text: &str) {
    use std::io::Write;
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Not a test: what a server does that is killed meanwhile, or that may not signal processes.
#[tokio::test]
async fn victim() {
    let Ok(task) = std::env::var(VICTIM) else { return };
    let (lab, owner) = task.split_once(' ').unwrap();
    let docker = Docker::connect(None).await.unwrap().with_owner(owner);
    let mut pty = docker.open_pty(lab, "r1", request(&[&["sh", "-i"]])).await.unwrap();
    let script = "(trap '' HUP TERM; sleep 4242) & (trap '' HUP TERM; sleep 4243) & echo re''ady\n";
    say(&pty, script).await;
    hear(&mut pty, "ready").await;
    if nix::unistd::geteuid().is_root() {
        tell("ready");
        std::future::pending::<()>().await;
    }
    // Somebody without the right to signal from here.
    pty.control.terminate();
    tell(&format!("it ended: {}", end(pty).await));
    let lab = Lab::known(lab, &docker);
    assert!(!runs(&lab, "r1", "sleep 4242"), "by the time that it is told");
    std::mem::forget(lab);
    assert_eq!(docker.end_leftover_shells().await.unwrap(), 0);
    tell("ready");
}

fn start_victim(lab: &Lab, owner: &str, user: Option<(u32, u32)>) -> std::process::Child {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    // Where others may run it: the folder that this was built in may be closed to them.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("victim");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["shells::victim", "--exact", "--nocapture"]).env(VICTIM, format!("{} {owner}", lab.name));
    command.stdout(std::process::Stdio::piped());
    if let Some((user, group)) = user {
        command.uid(user).gid(group).current_dir("/");
    }
    command.spawn().unwrap()
}

/// Reads what it prints until it says that it is ready.
async fn ready(victim: &mut std::process::Child) {
    use std::io::BufRead;
    let output = std::io::BufReader::new(victim.stdout.take().unwrap());
    let (tell, told) = tokio::sync::oneshot::channel();
    // Goes on to the end, or the other one could not write any more.
    std::thread::spawn(move || {
        let (mut tell, mut all) = (Some(tell), String::new());
        for line in output.lines().map_while(Result::ok) {
            all += &format!("{line}\n");
            if let Some(tell) = tell.take_if(|_| line.ends_with("ready")) {
                let _ = tell.send(Ok(()));
            }
        }
        if let Some(tell) = tell {
            let _ = tell.send(Err(all));
        }
    });
    tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_a_killed_server_left_in_nodes_is_ended_when_it_is_back() {
    let Some(docker) = engine("shells of a killed server").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let owner = format!("server-{}", lab.name);
    let mut victim = start_victim(&lab, &owner, None);
    ready(&mut victim).await;
    victim.kill().unwrap();
    victim.wait().unwrap();
    for what in ["sh -i", "sleep 4242", "sleep 4243"] {
        assert!(runs(&lab, "r1", what), "{what} is left");
    }
    let another = docker.with_owner("somebody-else");
    let mut pty = another.open_pty(&lab.name, "r1", request(&[&["sh"]])).await.unwrap();
    assert_eq!(another.clone().with_owner(&format!("{owner}-not")).end_leftover_shells().await.unwrap(), 0);
    assert_eq!(another.clone().with_owner(&owner).end_leftover_shells().await.unwrap(), 1);
    nothing_is_left(&lab).await;
    say(&pty, "echo st''ill here\n").await;
    hear(&mut pty, "still here").await;
}

#[tokio::test]
async fn who_may_not_signal_a_shell_ends_it_from_inside() {
    let test = "shells ended from inside";
    let Some(docker) = engine(test).await else { return };
    let Some(socket) = docker.host().strip_prefix("unix://").map(str::to_owned) else {
        return left_out(test, "the engine has no socket here");
    };
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(socket).unwrap());
    if group == 0 || !nix::unistd::geteuid().is_root() {
        return left_out(test, "needs root, and a group that may use the engine's socket");
    }
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let mut victim = start_victim(&lab, "nobody", Some((65_534, group)));
    ready(&mut victim).await;
    victim.wait().unwrap();
    nothing_is_left(&lab).await;
}

#[tokio::test]
async fn nothing_half_open_is_left_when_nobody_waits_any_more() {
    let Some(docker) = engine("openings that are given up").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    for delay in [0, 1, 5, 20, 50, 100, 200, 400] {
        let opening = docker.open_pty(&lab.name, "r1", request(&[&["no-such"], &["sh", "-i"]]));
        let _ = tokio::time::timeout(Duration::from_millis(delay), opening).await;
    }
    let short = PtyRequest { timeout: Duration::from_millis(30), ..request(&[&["sh", "-i"]]) };
    match docker.open_pty(&lab.name, "r1", short).await {
        Err(RuntimeError::TimedOut(..)) | Ok(_) => {}
        Err(error) => panic!("{error}"),
    }
    // Waits for all that are being given up.
    docker.end_shells().await;
    nothing_is_left(&lab).await;
}

#[tokio::test]
async fn a_shell_ends_with_its_node() {
    let Some(docker) = engine("shells of nodes that end").await else { return };
    let lab = Lab::new(&docker);
    let id = lab.run("r1", &[], "sleep 1000");
    for end_node in [&["kill", &id][..], &["rm", "-f", &id]] {
        lab.docker(&["start", &id]);
        let mut pty = docker.open_pty(&lab.name, "r1", request(&[&["sh"]])).await.unwrap();
        say(&pty, "echo re''ady\n").await;
        hear(&mut pty, "ready").await;
        lab.docker(end_node);
        let how = end(pty).await;
        assert!(how == "exit status 137" || how == "its node has ended", "{how}");
    }
}

#[tokio::test]
async fn an_engine_behind_a_port_serves_as_well() {
    let Some(docker) = engine("an engine behind a port").await else { return };
    let Some(socket) = docker.host().strip_prefix("unix://").map(str::to_owned) else {
        return left_out("an engine behind a port", "the engine has no socket here");
    };
    let lab = Lab::new(&docker);
    lab.run("r1", &["-t"], "echo hello; sleep 1000");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let docker = Docker::connect(Some(&host)).await.unwrap();
    assert_eq!(docker.containers(Some(&lab.name)).await.unwrap().len(), 1);
    let watch = docker.watch();
    let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();
    crate::logs::read(&mut log, Some("hello")).await;
    let pty = busy(&docker, &lab).await;
    drop(pty);
    nothing_is_left(&lab).await;
    lab.docker(&["rm", "-f", &lab.container("r1")]);
    crate::logs::read(&mut log, None).await;
}
