//! `import`: takes over what another Antimony server has.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{print_line, read_config};
use crate::config::{Config, ENV_USERNAME};
use crate::import::{Import, Report};
use crate::server;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The other server's database: a file of SQLite, or postgres://USER@HOST:PORT/DATABASE; the password may come from
    /// SB_DATABASE_PASSWORD
    #[arg(long, value_name = "FILE|URL")]
    from: String,
    /// The other server's folder of topologies, its `fileSystem.storage`
    #[arg(long, value_name = "DIR", default_value = "./storage")]
    storage: PathBuf,
    /// Name by which the other server's administrator logs in here [default: SB_NATIVE_USERNAME, or admin]
    #[arg(long, value_name = "NAME")]
    native_username: Option<String>,
    /// Configuration file of this server, which says where it keeps things
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that this server keeps everything in [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
}

/// Imports, and prints what came of it.
///
/// # Errors
/// Whatever keeps it from being done; or, when it is done, that some rows couldn't be taken, which have been named.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (config, config_dir) = read_config(arguments.config.as_deref())?;
    let folders = config.folders(arguments.data.as_deref(), &config_dir);
    let in_environment = || std::env::var(ENV_USERNAME).ok().filter(|name| !name.is_empty());
    let native_username = arguments.native_username.or_else(in_environment).unwrap_or_else(|| "admin".to_owned());
    let import =
        Import { from: arguments.from, storage: arguments.storage, native_username, dry_run: arguments.dry_run };
    let report = into(&import, &config, &config_dir, &folders.data).await?;
    if arguments.json {
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    let refused = report.refused.len();
    let rest = if arguments.dry_run { "everything else can" } else { "everything else is here now" };
    anyhow::ensure!(refused == 0, "not everything can be taken over (rows left out: {refused}); {rest}");
    Ok(())
}

async fn into(import: &Import, config: &Config, config_dir: &Path, data: &Path) -> anyhow::Result<Report> {
    // A server that runs would know nothing of what is written under it.
    let _lock = server::take_data_dir(data)?;
    let database = config.database.choose(data, config_dir, |name| std::env::var(name).ok()).await?;
    for notice in &database.notices {
        tracing::warn!("{notice}");
    }
    let store = Store::open(&database.location).await?;
    let report = import.run(&store).await;
    store.close().await;
    report.context("nothing was imported")
}

fn print(report: &Report) {
    for note in &report.refused {
        print_line(&format!("refused: {note}"));
    }
    for note in &report.warnings {
        print_line(&format!("warning: {note}"));
    }
    let (would, added) = if report.dry_run { ("Would be added: ", report.added) } else { ("Added: ", report.added) };
    print_line(&format!("{would}{added}."));
    print_line(&format!("Here already, and left as they are: {}.", report.already));
}
