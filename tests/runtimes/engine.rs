//! A Docker engine of a test's own, which may be stopped and started.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::bench::{Prepared, root};
use crate::harness::eventually;

/// An engine with its own data, containers and socket. It ends, with all that is in it, when this is dropped.
pub(crate) struct Engine {
    folder: TempDir,
    arguments: Vec<String>,
    child: Child,
    client: Prepared,
}

impl Engine {
    /// Starts one, with further arguments for dockerd, and makes the images in it.
    pub(crate) async fn start(prepared: &Prepared, arguments: &[&str]) -> Self {
        // The path of a socket has to be short.
        let folder = tempfile::Builder::new().prefix("antimony-engine-").tempdir_in("/tmp").expect("a folder");
        let client = prepared.with_engine(format!("unix://{}/docker.sock", folder.path().display()));
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = spawn(folder.path(), &arguments);
        let engine = Self { folder, arguments, child, client };
        engine.answers().await;
        let images = Command::new(root().join("tests/containerlab/images"))
            .env("DOCKER_HOST", &engine.client.docker_host)
            .stdin(Stdio::null())
            .output()
            .expect("run tests/containerlab/images");
        assert!(images.status.success(), "{}", String::from_utf8_lossy(&images.stderr));
        engine
    }

    /// Where it answers.
    pub(crate) fn docker_host(&self) -> String {
        self.client.docker_host.clone()
    }

    /// Ends it as an operator would, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        eventually(async || match self.child.try_wait().expect("ask for dockerd") {
            Some(_) => Ok(()),
            None => Err("dockerd goes on".to_owned()),
        })
        .await;
    }

    /// Starts it again.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), &self.arguments);
        self.answers().await;
    }

    async fn answers(&self) {
        eventually(async || match self.client.docker(&["version"]) {
            answer if answer.status.success() => Ok(()),
            answer => {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                Err(format!("{}\n{log}", String::from_utf8_lossy(&answer.stderr)))
            }
        })
        .await;
    }

    fn terminate(&self) {
        let id = i32::try_from(self.child.id()).expect("a process id is an i32");
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
}

fn spawn(folder: &Path, arguments: &[String]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    Command::new(root().join("tests/containerlab/engine"))
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("another handle"))
        .stderr(log)
        .spawn()
        .expect("run tests/containerlab/engine")
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Bridges outlive their engine, and so do containers, if it was told to leave them alone. A test that fails while it is
        // stopped has to have it once more to take them away.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            self.child = spawn(self.folder.path(), &self.arguments);
            for _ in 0..100 {
                if self.client.docker(&["version"]).status.success() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        let containers = self.client.docker(&["ps", "--all", "--quiet"]).stdout;
        for id in String::from_utf8_lossy(&containers).split_whitespace() {
            let _ = self.client.docker(&["rm", "--force", "--volumes", id]);
        }
        let _ = self.client.docker(&["network", "prune", "--force"]);
        self.terminate();
        let _ = self.child.wait();
        // It binds its folder to itself, and forgets that when it is to leave its containers alone.
        for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().rev() {
            if let Some(path) = line.split(' ').nth(4).filter(|path| Path::new(path).starts_with(self.folder.path())) {
                let _ = umount2(path, MntFlags::MNT_DETACH);
            }
        }
    }
}
