//! The servers that are compared: how each is started, what a client needs to know of it, and how it is made to emit.
//!
//! All of them have the same namespaces, answer the same command with the same answer, and emit the same lines.

mod antimony;
mod node;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;

use self::antimony::Lab;
use crate::connection::Connection;
use crate::machine::Places;
use crate::process::Process;

pub(crate) use self::antimony::build_server;
pub(crate) use self::node::install;

/// Stands for the lab at servers that have none: as long as the id of a lab.
const NO_LAB: &str = "00000000-0000-7000-8000-000000000000";
/// Bytes of the token where none is looked at: as many as an access token has, since servers keep what comes with a join.
const TOKEN_LENGTH: usize = 300;
/// Lines that may be on their way to a client of a server that would drop or pile up what is more: a little less than
/// the queue that socketioxide has for each.
const WINDOW: u64 = 120;

/// Line `number` of a log: 128 bytes.
pub(crate) fn line(number: u64) -> String {
    format!("n | {number:0>124}")
}

/// A server that is compared.
pub(crate) enum Kind {
    /// This project's, the real program.
    Antimony,
    /// The library that it is built on, deciding nothing.
    Bare,
    /// Node's socket.io.
    Node,
}

impl Kind {
    /// Its name in the table.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Antimony => "antimony-host",
            Self::Bare => "socketioxide, bare",
            Self::Node => "Node socket.io",
        }
    }
}

/// A server, and what it keeps between two starts.
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    /// Program, or script.
    pub(crate) program: PathBuf,
    pub(crate) places: Places,
    /// Whether what it writes to standard error is shown.
    pub(crate) loud: bool,
    /// The folder that it keeps things in.
    home: tempfile::TempDir,
    lab: Option<Lab>,
}

impl Contestant {
    pub(crate) fn new(kind: Kind, program: PathBuf, places: &Places, loud: bool) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("antimony-load-").tempdir()?;
        Ok(Self { kind, program, places: places.clone(), loud, home, lab: None })
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = match self.kind {
            Kind::Antimony => {
                let mut command = Command::new(&self.program);
                command
                    .args(["serve", "--runtime", "embedded", "--listen", "127.0.0.1:0", "--data"])
                    .arg(self.home.path());
                // Nothing of the environment but this: logins, log levels and the like are as they are by default.
                command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
                command
            }
            Kind::Bare => {
                let mut command = Command::new(std::env::current_exe().context("find this program")?);
                command.arg("bare");
                command
            }
            Kind::Node => {
                let mut command = Command::new("node");
                command.arg("--expose-gc").arg(&self.program);
                command
            }
        };
        command.current_dir(self.home.path());
        Ok(command)
    }

    /// Starts it. Answers when the first client is connected.
    pub(crate) async fn start(&mut self) -> anyhow::Result<Started> {
        let process = Process::start(self.command()?, self.places.server.clone(), self.loud)?;
        let address = tokio::task::block_in_place(|| process.address())?;
        let client = Connection::open(address).await?;
        let took = process.started.elapsed();
        drop(client);
        Ok(Started { process, address, took })
    }

    /// Makes what the measurements need.
    pub(crate) async fn prepare(&mut self, started: Started) -> anyhow::Result<Running> {
        let Started { process, address, .. } = started;
        let (token, lab) = match self.kind {
            Kind::Antimony => {
                let token = antimony::log_in(address).await?;
                let lab = antimony::quiet_lab(&mut self.lab, address, &token).await?;
                (token, lab)
            }
            Kind::Bare | Kind::Node => ("x".repeat(TOKEN_LENGTH), NO_LAB.to_owned()),
        };
        Ok(Running { process, address, token, lab })
    }

    /// Has `count` lines emitted on the log namespace, the first of them `first`, at `rate` lines a second; 0: as fast as
    /// clients take them. The task ends when that is under way or done.
    pub(crate) fn emit(
        &self,
        running: &mut Running,
        first: u64,
        count: u64,
        rate: u64,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let Some(lab) = &self.lab else {
            let path = running.log_path();
            running.process.order(&format!("emit {path} {first} {count} {rate} {WINDOW}"))?;
            return Ok(tokio::spawn(async { Ok(()) }));
        };
        let emit = antimony::emit(lab.clone(), running.address, running.token.clone(), first, count, rate);
        Ok(tokio::spawn(emit))
    }

    /// Tells it how far the slowest client is, if it wants to know.
    pub(crate) fn taken(&self, running: &mut Running, line: u64) -> anyhow::Result<()> {
        match self.kind {
            Kind::Antimony => Ok(()),
            Kind::Bare | Kind::Node => running.process.order(&format!("taken {line}")),
        }
    }

    /// Has it do away with garbage, if it has a collector.
    pub(crate) fn collect_garbage(&self, running: &mut Running) -> anyhow::Result<()> {
        if matches!(self.kind, Kind::Node) {
            running.process.order("gc")?;
            tokio::task::block_in_place(|| running.process.wait_for("collected"))?;
        }
        Ok(())
    }
}

/// A server that listens.
pub(crate) struct Started {
    pub(crate) process: Process,
    address: SocketAddr,
    /// From its start to the first client's connection.
    pub(crate) took: Duration,
}

/// A server that is ready to be measured.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// What clients join with.
    pub(crate) token: String,
    /// The lab that commands are about.
    lab: String,
}

impl Running {
    /// The namespace of the log.
    pub(crate) fn log_path(&self) -> String {
        format!("/logs/{}", self.lab)
    }

    /// The command that is measured, before and behind the number of its acknowledgement: list the shells of the lab.
    pub(crate) fn command_around(&self) -> (String, String) {
        ("42/lab-commands,".to_owned(), format!(r#"["data",{{"labId":"{}","command":5}}]"#, self.lab))
    }
}
