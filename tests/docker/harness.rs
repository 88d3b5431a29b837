//! Labs of single containers on a real engine, made past everything that is tested.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antimony_host::runtime::docker::Docker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far longer than anything here takes; reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// An image with a shell and nothing else, as `.ci` makes it.
pub(crate) const IMAGE: &str = "lab/busybox:1";

/// The engine; or says that the test is left out, and why.
pub(crate) async fn engine(test: &str) -> Option<Docker> {
    let why = match Docker::connect(None).await {
        Err(error) => error.to_string(),
        Ok(docker) if has_image(&docker) => return Some(docker),
        Ok(_) => format!("the engine has no image {IMAGE}"),
    };
    left_out(test, &why);
    None
}

fn has_image(docker: &Docker) -> bool {
    let found = Command::new("docker").args(["-H", &docker.host(), "image", "inspect", IMAGE]).output();
    found.is_ok_and(|output| output.status.success())
}

/// Says that something was not tested. Goes straight to standard error, which the test runner shows.
pub(crate) fn left_out(test: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("left out: {test}: {why}\n").as_bytes());
    let required = std::env::var_os("ANTIMONY_REQUIRE_ALL").is_some();
    assert!(!required, "{test} was left out ({why}), and ANTIMONY_REQUIRE_ALL=1 forbids that");
}

/// A lab of its own, of which nothing is left afterwards.
pub(crate) struct Lab {
    pub(crate) name: String,
    host: String,
}

impl Lab {
    pub(crate) fn new(docker: &Docker) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("dkt-{}-{number}", std::process::id()), host: docker.host() }
    }

    /// One that somebody else has made.
    pub(crate) fn known(name: &str, docker: &Docker) -> Self {
        Self { name: name.to_owned(), host: docker.host() }
    }

    /// Runs `docker`; answers what it printed, which has to be a success.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.host]).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn container(&self, node: &str) -> String {
        format!("clab-{}-{node}", self.name)
    }

    /// Starts a node that runs `script`, with more options for `docker run`. Answers the id of its container.
    pub(crate) fn run(&self, node: &str, options: &[&str], script: &str) -> String {
        let (name, lab, node) =
            (self.container(node), format!("containerlab={}", self.name), format!("clab-node-name={node}"));
        let fixed = ["run", "-d", "--network", "none", "--name", &name, "-l", &lab, "-l", &node];
        let labels = ["-l", "clab-node-kind=linux", "-l", "clab-topo-file=/labs/x.clab.yml", "-l", "clab-owner=me"];
        self.docker(&[&fixed[..], &labels, options, &[IMAGE, "sh", "-c", script]].concat())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let filter = format!("label=containerlab={}", self.name);
        let ids = Command::new("docker").args(["-H", &self.host, "ps", "-aq", "--filter", &filter]).output();
        let ids = ids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !ids.trim().is_empty() {
            let _ = Command::new("docker").args(["-H", &self.host, "rm", "-fv"]).args(ids.split_whitespace()).output();
        }
    }
}

/// An engine of a test's own, which it may restart.
pub(crate) struct OwnEngine {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl OwnEngine {
    /// Starts one; or says that the test is left out, and why.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let why = if !nix::unistd::geteuid().is_root() {
            "dockerd wants root"
        } else if Command::new("dockerd").arg("--version").output().is_err() {
            "dockerd is not installed"
        } else if engine(test).await.is_none() {
            // Has said so itself.
            return None;
        } else {
            let mut own = Self { dir: tempfile::tempdir().unwrap(), daemon: None };
            own.bring_up().await;
            own.load_image();
            return Some(own);
        };
        left_out(test, why);
        None
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock"))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts the daemon and waits until it answers. Its containers survive it.
    pub(crate) async fn bring_up(&mut self) {
        let mut command = Command::new("dockerd");
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(self.path(name));
        }
        command.args(["-H", &self.host(), "--bridge", "none", "--iptables=false", "--live-restore"]);
        // Where containers can't be run without it, as the machine's own engine says.
        let info =
            Command::new("docker").args(["info", "-f", "{{.DefaultRuntime}} {{json .Runtimes}}"]).output().unwrap();
        let info = String::from_utf8(info.stdout).unwrap();
        let (runtime, all) = info.trim().split_once(' ').unwrap_or_default();
        let all: serde_json::Value = serde_json::from_str(all).unwrap_or_default();
        if let Some(path) = all[runtime]["path"].as_str().filter(|path| path.starts_with('/')) {
            command.args(["--add-runtime", &format!("{runtime}={path}"), "--default-runtime", runtime]);
        }
        let log = File::options().append(true).create(true).open(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        until("an engine of our own", async || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            let log = || std::fs::read_to_string(self.path("log")).unwrap();
            assert!(ended.is_none(), "dockerd has ended: {}", log());
            Docker::connect(Some(&self.host())).await.ok()
        })
        .await;
    }

    /// Ends the daemon, as when it is updated.
    pub(crate) fn take_down(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
        daemon.wait().unwrap();
    }

    fn load_image(&self) {
        let mut saved = Command::new("docker").args(["save", IMAGE]).stdout(Stdio::piped()).spawn().unwrap();
        let image = saved.stdout.take().unwrap();
        let loaded = Command::new("docker").args(["-H", &self.host(), "load"]).stdin(image).output().unwrap();
        assert!(loaded.status.success() && saved.wait().unwrap().success(), "{loaded:?}");
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let all = Command::new("docker").args(["-H", &self.host(), "ps", "-aq"]).output();
        let all = all.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !all.trim().is_empty() {
            let _ = Command::new("docker").args(["-H", &self.host(), "rm", "-f"]).args(all.split_whitespace()).output();
        }
        if self.daemon.is_some() {
            self.take_down();
        }
        // What it mounts for itself.
        let _ = Command::new("umount").args(["-q", &self.path("data/overlay2"), &self.path("data")]).output();
    }
}

/// Waits until something holds.
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(result) = check().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came: {what}"))
}
