//! The commands for people who write plugins: `plugin new`, `inspect`, `check`, `bench`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::{print_line, runtime};
use crate::plugins::author::{self, Language};
use crate::plugins::config::{Entry, Hook};
use crate::plugins::record::read_cases;

#[derive(Debug, Subcommand)]
pub(super) enum AuthorCommand {
    /// Write a project for a new plugin, which builds and passes its own tests
    New {
        /// Folder to make; its last part is the plugin's name
        name: PathBuf,
        /// What it decides: command-validator, auth-policy or status-formatter
        #[arg(long, value_parser = world)]
        world: Hook,
        /// Language to write it in
        #[arg(long, value_enum)]
        lang: Language,
    },
    /// Say what a component is: world, version, imports, size, digest
    Inspect {
        /// The component
        file: PathBuf,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Load a plugin as a server would, and say what is wrong with it
    Check {
        /// The component
        file: PathBuf,
        /// What it should decide [default: what it was made for]
        #[arg(long, value_parser = world)]
        world: Option<Hook>,
        #[command(flatten)]
        entry: EntryArgs,
    },
    /// Measure what a plugin's calls cost: time, memory, instructions
    Bench {
        /// The component
        file: PathBuf,
        /// What it decides [default: what it was made for]
        #[arg(long, value_parser = world)]
        world: Option<Hook>,
        /// File with cases to measure, as for `plugin test` [default: an example for each function]
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,
        /// The one case of it to measure
        #[arg(long, value_name = "NAME", requires = "cases")]
        case: Option<String>,
        /// How many calls to make for each
        #[arg(long, default_value_t = 10_000)]
        calls: u32,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        entry: EntryArgs,
    },
}

/// What of a plugin's entry in the configuration is said on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct EntryArgs {
    /// File with its settings, YAML or JSON, as they would stand under `settings` in the configuration
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// File with its budget, as it would stand under `budget` in the configuration
    #[arg(long, value_name = "FILE")]
    budget: Option<PathBuf>,
}

impl EntryArgs {
    /// The entry for the component in `file`.
    pub(super) fn entry(&self, file: &Path) -> anyhow::Result<Entry> {
        let mut entry = Entry::new(file.to_str().context("the path of a plugin has to be UTF-8")?);
        if let Some(path) = &self.settings {
            entry.settings = read_yaml(path)?;
        }
        if let Some(path) = &self.budget {
            entry.budget = read_yaml(path)?;
        }
        Ok(entry)
    }
}

fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

/// One of the three worlds, by its name in `wit/`.
fn world(name: &str) -> Result<Hook, String> {
    let all = || Hook::ALL.map(Hook::name).join(", ");
    Hook::ALL.into_iter().find(|hook| hook.name() == name).ok_or_else(|| format!("there are {}", all()))
}

/// Does what the command says.
pub(super) fn run(command: AuthorCommand) -> anyhow::Result<()> {
    match command {
        AuthorCommand::New { name, world, lang } => {
            let project = author::create(&name, world, lang)?;
            for file in &project.files {
                print_line(&project.dir.join(file).display().to_string());
            }
            print_line(&format!("next: antimony-host plugin build {}", project.dir.display()));
            Ok(())
        }
        AuthorCommand::Inspect { file, json } => {
            let inspection = runtime()?.block_on(author::inspect(&file))?;
            if json {
                print_line(&serde_json::to_string_pretty(&inspection)?);
            } else {
                print_line(&inspection.to_string());
            }
            Ok(())
        }
        AuthorCommand::Check { file, world, entry } => {
            let checked = runtime()?.block_on(author::check(world, &entry.entry(&file)?))?;
            let info = &checked.info;
            print_line(&format!(
                "{} {} is fit for {}: loaded in {:.0} ms, and in {:.1} ms from what a server keeps",
                info.name,
                info.version,
                info.hook,
                checked.first.as_secs_f64() * 1e3,
                checked.again.as_secs_f64() * 1e3
            ));
            Ok(())
        }
        AuthorCommand::Bench { file, world, cases, case, calls, json, entry } => {
            let mut asked = match &cases {
                Some(path) => read_cases(path)?,
                None => vec![],
            };
            if let Some(name) = &case {
                asked.retain(|case| case.name == *name);
                anyhow::ensure!(!asked.is_empty(), "there is no case named {name:?}");
            }
            // One core: what is measured isn't spread over others.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("the async runtime can't be started")?;
            let measured = runtime.block_on(author::bench(world, &entry.entry(&file)?, &asked, calls))?;
            if json {
                print_line(&serde_json::to_string_pretty(&measured)?);
            } else {
                print_line(&measured.to_string());
            }
            Ok(())
        }
    }
}
