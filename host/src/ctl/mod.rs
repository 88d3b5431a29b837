//! `antimony-host ctl`: labs from a terminal, for people and scripts.
//!
//! A plain client of the public API, as anybody could write one: [`session`] knows the server and who is logged in there,
//! [`labs`], [`checkpoints`] and [`reservations`] do one thing and end, [`follow`] shows what comes as it comes, [`stats`]
//! what nodes use, [`terminal`] is a terminal in a node, and [`capture`] brings packets. It knows nothing of the server's
//! modules but `client`. What was asked for goes to standard output, what is to be known beside it to standard error; with
//! `--json` each answer is one JSON value, and each thing that comes one line of JSON.

mod capture;
mod checkpoints;
mod follow;
mod labs;
mod output;
mod reservations;
mod session;
mod stats;
mod terminal;

use clap::{Args, Subcommand};

use self::output::Output;
use self::session::Session;
use crate::client::{AckError, ApiError, ConnectError, OpenError};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// The server refused a request, or gave no answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no Socket.IO connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A namespace was not joined.
    #[error("{0} can't be joined: {1}")]
    Join(String, ConnectError),
    /// A command brought an error.
    #[error(transparent)]
    Command(#[from] AckError),
    /// Nobody is logged in.
    #[error("nobody is logged in at {0}: run `antimony-host ctl login`, or give a token by --token or ANTIMONY_TOKEN")]
    LoggedOut(String),
    /// There is no such thing, or more than one.
    #[error("{0}")]
    NotOne(String),
    /// The connection ended.
    #[error("the server ended the connection")]
    Ended,
    /// A file, or the terminal, can't be used.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// Whatever else is wrong with what was asked.
    #[error("{0}")]
    Other(String),
}

/// What `ctl` is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server [default: the value of ANTIMONY_SERVER, or the server of the last login, or http://127.0.0.1:3000]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// An access token, in place of a login [default: the value of ANTIMONY_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON: one value, or one line for each thing that comes
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Log in, and be known to the commands that follow
    Login {
        /// Name of the user
        #[arg(value_name = "NAME", default_value = "admin")]
        user: String,
        /// Read the password from standard input, instead of asking for it at the terminal
        #[arg(long)]
        password_stdin: bool,
    },
    /// Log out
    Logout,
    /// List the labs that one may see
    Labs {
        /// Only those whose name has this in it
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Show a lab and its nodes
    Lab(Lab),
    /// Create a lab from a topology file, and what it needs: its collection, for administrators, and its topology
    Create(labs::Create),
    /// Deploy a lab, or deploy it anew, and show its log meanwhile
    Deploy(Lab),
    /// Destroy what runs of a lab
    Destroy(Lab),
    /// Delete a lab that doesn't run
    Delete(Lab),
    /// Give a lab another end, also while it runs
    Extend(reservations::Extend),
    /// Show what labs may take at once, and how much of it is reserved
    Capacity,
    /// Save what the nodes of a lab have made, for its next checkpoint
    Save(Lab),
    /// Make, list or remove checkpoints of a lab
    #[command(subcommand)]
    Checkpoint(checkpoints::Command),
    /// Deploy a lab as it was at a checkpoint, and show its log meanwhile
    Restore(checkpoints::Named),
    /// Start a node
    Start(Node),
    /// Stop a node
    Stop(Node),
    /// Stop a node and start it again
    Restart(Node),
    /// Show the log of a lab, or of one of its nodes
    Logs {
        #[command(flatten)]
        lab: Lab,
        /// Name of a node
        node: Option<String>,
        /// Go on with what comes, over losses of the connection too
        #[arg(short, long)]
        follow: bool,
    },
    /// Show what the nodes of a lab use: processor, memory, traffic
    Stats {
        #[command(flatten)]
        lab: Lab,
        /// Go on with what comes, over losses of the connection too
        #[arg(short, long)]
        follow: bool,
    },
    /// Open a terminal in a node; Ctrl-] leaves it open and goes
    Shell {
        #[command(flatten)]
        node: Node,
        /// Go back to a shell that is open, by its id
        #[arg(long, value_name = "SHELL")]
        attach: Option<String>,
    },
    /// Capture packets at an interface of a node, as a pcap file; Ctrl-C ends it
    Capture(capture::Capture),
    /// List one's open shells of a lab
    Shells(Lab),
    /// Close an open shell
    Close {
        #[command(flatten)]
        lab: Lab,
        /// Id of the shell
        shell: String,
    },
    /// Say how the server is, or what it tells
    Status {
        /// Show status messages and updates of labs as they come
        #[arg(short, long)]
        follow: bool,
    },
}

/// Which lab.
#[derive(Debug, Args)]
struct Lab {
    /// Name or id of a lab
    #[arg(value_name = "LAB")]
    lab: String,
}

/// Which node of which lab.
#[derive(Debug, Args)]
struct Node {
    #[command(flatten)]
    lab: Lab,
    /// Name of a node
    #[arg(value_name = "NODE")]
    node: String,
}

/// Does what `ctl` was told.
///
/// # Errors
/// [`CtlError`], as a sentence for whoever is at the terminal.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CtlError> {
    let Arguments { server, token, json, command } = arguments;
    let output = Output::new(json);
    if let Command::Login { user, password_stdin } = &command {
        return session::log_in(server, user, *password_stdin, &output).await;
    }
    let mut session = Session::open(server, token)?;
    let done = match command {
        Command::Login { .. } => unreachable!("done above"),
        Command::Logout => session.log_out(&output).await,
        Command::Labs { search } => labs::list(&mut session, search.as_deref(), &output).await,
        Command::Lab(lab) => labs::show(&mut session, &lab.lab, &output).await,
        Command::Create(create) => labs::create(&mut session, &create, &output).await,
        Command::Deploy(lab) => follow::deploy(&mut session, &lab.lab, &output).await,
        Command::Destroy(lab) => labs::destroy(&mut session, &lab.lab, &output).await,
        Command::Delete(lab) => labs::delete(&mut session, &lab.lab, &output).await,
        Command::Extend(extend) => reservations::extend(&mut session, &extend, &output).await,
        Command::Capacity => reservations::capacity(&mut session, &output).await,
        Command::Save(lab) => checkpoints::save(&mut session, &lab.lab, &output).await,
        Command::Checkpoint(command) => checkpoints::run(&mut session, &command, &output).await,
        Command::Restore(checkpoint) => {
            follow::restore(&mut session, &checkpoint.lab.lab, &checkpoint.name, &output).await
        }
        Command::Stop(node) => labs::node(&mut session, labs::Action::Stop, &node.lab.lab, &node.node, &output).await,
        Command::Start(node) => labs::node(&mut session, labs::Action::Start, &node.lab.lab, &node.node, &output).await,
        Command::Restart(node) => {
            labs::node(&mut session, labs::Action::Restart, &node.lab.lab, &node.node, &output).await
        }
        Command::Logs { lab, node, follow } => {
            follow::logs(&mut session, &lab.lab, node.as_deref(), follow, &output).await
        }
        Command::Stats { lab, follow } => stats::show(&mut session, &lab.lab, follow, &output).await,
        Command::Shell { node, attach } => {
            terminal::open(&mut session, &node.lab.lab, &node.node, attach.as_deref(), &output).await
        }
        Command::Capture(capture) => capture::run(&mut session, &capture, &output).await,
        Command::Close { lab, shell } => labs::close(&mut session, &lab.lab, &shell, &output).await,
        Command::Shells(lab) => labs::shells(&mut session, &lab.lab, &output).await,
        Command::Status { follow: false } => labs::status(&session, &output).await,
        Command::Status { follow: true } => follow::status(&mut session, &output).await,
    };
    // Whoever reads no further has what they wanted.
    match done {
        Err(CtlError::File(_, error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
