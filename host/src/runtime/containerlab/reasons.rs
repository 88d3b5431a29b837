//! Why a deploy failed, in words that help: what containerlab says, and what the engine knows besides. [`super::output`] has made
//! a sentence of containerlab's own words before; [`super::driver`] asks here while the containers are still there.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::driver::{Shared, failed};
use super::program::RunError;
use crate::runtime::docker::{Container, Details, Phase};
use crate::runtime::{LogSink, RuntimeError};

/// Lines of a node's log that go into a message.
const LINES: usize = 5;
/// How long a node that the engine starts again and again is looked at to find it ended.
const LOOK: Duration = Duration::from_secs(2);
/// How often.
const AGAIN: Duration = Duration::from_millis(50);

impl Shared {
    /// The failure of a deploy whose containers have not been taken away yet.
    pub(super) async fn explain(&self, error: RunError, instance: &str, dir: &Path) -> RuntimeError {
        let RunError::Failed(reason) = error else { return failed(error) };
        if reason.contains("bind path") && reason.contains(&*dir.to_string_lossy()) {
            return RuntimeError::Failed(format!(
                "{reason} Relative paths mean the files of the topology: add it to them, or write an absolute path"
            ));
        }
        // An engine that doesn't answer has nothing to add.
        for container in self.docker().containers(Some(instance)).await.unwrap_or_default() {
            if ended_at_once(&reason, &container) {
                return RuntimeError::Failed(format!(
                    "{}. A node runs for as long as its first process: mend its `cmd` or its image",
                    self.end_of(&container).await
                ));
            }
        }
        RuntimeError::Failed(reason)
    }

    /// Says in the log of the lab which of its nodes don't run although it has been deployed.
    pub(super) async fn tell_of_ended(&self, instance: &str, log: &LogSink) {
        for container in self.docker().containers(Some(instance)).await.unwrap_or_default() {
            if matches!(container.phase, Phase::Exited | Phase::Dead | Phase::Restarting) {
                log.line(&self.end_of(&container).await);
            }
        }
    }

    /// How a node ended, in a sentence without its full stop.
    async fn end_of(&self, container: &Container) -> String {
        let until = Instant::now() + LOOK;
        let details = loop {
            match self.docker().details(&container.id).await {
                // Between two attempts, it has ended.
                Ok(details) if details.running && details.exit_code.unwrap_or(0) == 0 && Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                details => break details.ok(),
            }
        };
        sentence(&container.node, details.as_ref(), &self.docker().last_lines(&container.id, LINES).await)
    }
}

/// Whether containerlab means that it found this node ended when it was about to go on with it.
fn ended_at_once(reason: &str, container: &Container) -> bool {
    let quoted = [format!("\"{}\"", container.node), format!("\"{}\"", container.name)];
    reason.contains("namespace path not available") && quoted.iter().any(|name| reason.contains(name))
}

fn sentence(node: &str, details: Option<&Details>, last: &[String]) -> String {
    let how = match details {
        Some(Details { out_of_memory: true, .. }) => "was killed for lack of memory".to_owned(),
        Some(Details { exit_code: Some(code), running: false, .. }) => format!("exited with status {code}"),
        Some(Details { exit_code: Some(code @ 1..), .. }) => format!("exited with status {code}"),
        _ => "ended".to_owned(),
    };
    let last = match last {
        [] => "it printed nothing".to_owned(),
        lines => format!("it printed at last: {}", lines.join(" / ")),
    };
    format!("node {node} {how} right after its start; {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> Details {
        Details {
            tty: false,
            running: false,
            pid: None,
            started_at: None,
            finished_at: None,
            exit_code: Some(7),
            out_of_memory: false,
            error: None,
            memory_limit: None,
        }
    }

    #[test]
    fn how_a_node_ended_is_told_with_its_status_and_what_it_said_at_last() {
        let lines = ["going".to_owned(), "bad config".to_owned()];
        let said = sentence("r1", Some(&details()), &lines);
        assert_eq!(said, "node r1 exited with status 7 right after its start; it printed at last: going / bad config");
        let said = sentence("r1", Some(&Details { out_of_memory: true, ..details() }), &[]);
        assert_eq!(said, "node r1 was killed for lack of memory right after its start; it printed nothing");
        let again = Details { running: true, exit_code: Some(0), ..details() };
        assert!(sentence("r1", Some(&again), &[]).starts_with("node r1 ended right after its start"));
    }
}
