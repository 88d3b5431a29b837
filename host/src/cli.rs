//! The command line: what can be said on it, and what each command does.

mod author;
mod config;
mod doctor;
mod import;
mod replay;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::auth::{Authenticator, Bearer, SigningKey};
use crate::config::{Config, DEFAULT_DATA, Folders, environment_findings};
use crate::plugins::Install;
use crate::plugins::reload::Trigger;
use crate::runtime::choose::RuntimeChoice;
use crate::server::{Options, SIGNING_KEY, Server};
use crate::{admin, ctl, demo, telemetry};

/// A server for network labs with policy in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "antimony-host", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve {
        /// Address and port to listen on; port 0 takes any free one [default: server.host and server.port of the
        /// configuration, or 127.0.0.1:3000]
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Folder that everything is kept in [default: what `fileSystem` of the configuration says, or antimony-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// What runs labs [default: `runtime` of the configuration, or auto]
        #[arg(long, value_name = "RUNTIME")]
        runtime: Option<RuntimeChoice>,
    },
    /// Find out whether a server could start here and run labs, and what is missing
    Doctor(doctor::Arguments),
    /// Start a server with a fresh data folder and show what it does
    Demo {
        /// End when everything has been shown, instead of leaving the server up
        #[arg(long)]
        exit: bool,
        /// Address and port to listen on
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
        listen: SocketAddr,
    },
    /// Print an access token for a user, valid for 30 minutes
    Token {
        /// Id of the user
        #[arg(long, value_name = "ID")]
        user: String,
        /// Make the user an administrator
        #[arg(long)]
        admin: bool,
        /// Name of a collection that the user belongs to; may be given several times
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
        /// The server's data folder, which holds the key that tokens are signed with
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
        data: PathBuf,
    },
    /// Work with labs on a server: log in, deploy, watch logs, open terminals
    Ctl(ctl::Arguments),
    /// Print the description of the Socket.IO API for clients, an AsyncAPI document
    Asyncapi,
    /// Work with the configuration file
    #[command(subcommand)]
    Config(config::Command),
    /// Take over users, collections, topologies and labs of another Antimony server
    Import(import::Arguments),
    /// Work with plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Have a running server read its configuration again and put its plugins in force
    Reload(admin::ServerArgs),
    /// Have a running server put the plugins in force again that were before
    Rollback(admin::ServerArgs),
    /// Build a plugin from source into a component
    Build {
        /// Folder of the plugin, or a folder that holds those of several
        dir: PathBuf,
        /// File to write the component to, or folder to write it into [default: the plugin's own folder]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Install the tools that a plugin in JavaScript or Python is built with, where they are missing
        #[arg(long)]
        install: bool,
    },
    #[command(flatten)]
    Author(author::AuthorCommand),
    #[command(flatten)]
    Replay(replay::Command),
}

/// Does what the command line says.
///
/// # Errors
/// Whatever went wrong, as a sentence for the person at the terminal.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve { listen, data, config, runtime: chosen } => {
            telemetry::init("info");
            let (mut config, config_dir) = read_config(config.as_deref())?;
            config.runtime = chosen.unwrap_or(config.runtime);
            warn_of(&config);
            let folders = config.folders(data.as_deref(), &config_dir);
            let listen = listen.map_or_else(|| config.server.address(), Ok)?;
            runtime()?.block_on(serve(Options { listen, folders, config, config_dir }))
        }
        Command::Doctor(arguments) => doctor::run(arguments, &runtime()?),
        Command::Demo { exit, listen } => {
            telemetry::init("warn");
            runtime()?.block_on(show(listen, exit))
        }
        Command::Token { user, admin, collections, data } => {
            anyhow::ensure!(!user.trim().is_empty(), "--user: a user needs an id");
            let key = data.join(SIGNING_KEY);
            // A key made here would be one that no server knows.
            anyhow::ensure!(key.exists(), "there is no key at {}: is --data the server's folder?", key.display());
            let auth = Authenticator::new(&SigningKey::load_or_create(&key)?);
            let bearer = Bearer { name: user.clone(), id: user.as_str().into(), admin, collections };
            print_line(&auth.issue_access(&bearer).token);
            Ok(())
        }
        Command::Ctl(arguments) => Ok(runtime()?.block_on(ctl::run(arguments))?),
        Command::Asyncapi => {
            print_line(crate::socket::contract::DOCUMENT.trim_end());
            Ok(())
        }
        Command::Import(arguments) => {
            telemetry::init("warn");
            runtime()?.block_on(import::run(arguments))
        }
        Command::Config(command) => config::run(command, &runtime()?),
        Command::Plugin(PluginCommand::Reload(server)) => {
            print_line(&runtime()?.block_on(admin::reload(&server))?);
            Ok(())
        }
        Command::Plugin(PluginCommand::Rollback(server)) => {
            print_line(&runtime()?.block_on(admin::rollback(&server))?);
            Ok(())
        }
        Command::Plugin(PluginCommand::Replay(command)) => {
            telemetry::init(command.log_level());
            runtime()?.block_on(replay::run(command))
        }
        Command::Plugin(PluginCommand::Build { dir, out, install }) => {
            let install = if install { Install::Missing } else { Install::No };
            for built in crate::plugins::build_with(&dir, out.as_deref(), install, &mut print_line)? {
                print_line(&format!("{} ({} bytes)", built.path.display(), built.size));
            }
            Ok(())
        }
        Command::Plugin(PluginCommand::Author(command)) => author::run(command),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the async runtime can't be started")
}

fn read_config(path: Option<&Path>) -> anyhow::Result<(Config, PathBuf)> {
    let Some(path) = path else { return Ok((Config::default(), PathBuf::from("."))) };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Config::read(path)?, dir.to_owned()))
}

/// Says in the log what is to be said about a configuration that can be used.
fn warn_of(config: &Config) {
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let of_environment = environment_findings(variables, Path::new("."));
    for warning in config.warnings().into_iter().chain(of_environment.iter().map(ToString::to_string)) {
        tracing::warn!("{warning}");
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let mut asked_to_stop = std::pin::pin!(stop_signals()?);
    // From here on, so that a SIGHUP while the server starts doesn't end it.
    let mut hangups =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).context("SIGHUP can't be handled")?;
    let server = tokio::select! {
        started = Server::start(options) => started?,
        // It may be waiting for its database.
        () = &mut asked_to_stop => anyhow::bail!("asked to stop before it was up"),
    };
    let reloader = server.reloader().clone();
    let certificate = server.certificate().cloned();
    let on_hangup = tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if let Some(certificate) = &certificate {
                certificate.reload();
            }
            // What came of it is in the log.
            let _ = reloader.reload(Trigger::Signal).await;
        }
    });
    // Scripts and tests wait for this line; with port 0 it is where they learn the port.
    print_line(&format!("listening on {}", server.url()));
    asked_to_stop.await;
    on_hangup.abort();
    end(server).await
}

/// Ends the server in order, unless whoever waits for it asks once more. What runs on the embedded runtime goes with the
/// process either way; what runs on containerlab stays.
async fn end(server: Server) -> anyhow::Result<()> {
    tokio::select! {
        () = server.shut_down() => Ok(()),
        () = stop_signals()? => anyhow::bail!("asked to stop again before everything had ended"),
    }
}

async fn show(listen: SocketAddr, exit: bool) -> anyhow::Result<()> {
    let asked_to_stop = stop_signals()?;
    let data = tempfile::Builder::new().prefix("antimony-demo-").tempdir().context("no folder for the demo's data")?;
    // Its labs have no images.
    let mut config = Config::default();
    config.runtime = RuntimeChoice::Embedded;
    let options = Options { listen, folders: Folders::within(data.path()), config, config_dir: PathBuf::from(".") };
    let server = Server::start(options).await?;
    let url = format!("http://{}", server.address());
    let login = server.login().cloned().context("the demo needs the native login")?;
    let credentials = (login.username.as_str(), login.password.as_str());
    let issue_token = |user: &str, collections: &[&str]| {
        let collections = collections.iter().map(|&name| name.to_owned()).collect();
        let bearer = Bearer { id: user.into(), name: user.to_owned(), admin: false, collections };
        server.auth().issue_access(&bearer).token
    };
    let shown = tokio::select! {
        shown = demo::narrate(&url, credentials, &issue_token) => shown.context("the demo failed"),
        () = stop_signals()? => Err(anyhow::anyhow!("interrupted")),
    };
    if shown.is_ok() && !exit {
        // A password that is the operator's own is not for the screen.
        let password = if login.is_default { Some(login.password.as_str()) } else { None };
        demo::farewell(&url, &login.username, password);
        asked_to_stop.await;
    }
    end(server).await?;
    shown
}

/// Ready when the process is asked to stop: Ctrl-C or SIGTERM.
fn stop_signals() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be handled")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Prints what was asked for. Where nobody reads it any more, there is nobody to tell either.
fn print_line(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
