//! Labs of single containers on a real engine, made past everything that is tested.

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antimony_host::runtime::docker::Docker;

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
