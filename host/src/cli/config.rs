//! `config`: what a configuration comes to, and what is wrong with it, without starting a server; and its JSON schema.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{doctor, print_line};
use crate::config::{Config, Effective, Finding, Origin, Reading, environment_findings};
use crate::store::Store;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what is wrong with a configuration file and the environment, and what counts in the end
    Check(Arguments),
    /// Print the JSON schema of the configuration file, for editors and checks
    Schema,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Configuration file; without one, what counts is the environment and what is so by default
    file: Option<PathBuf>,
    /// Folder that everything would be kept in [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
}

/// All that there is to say.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether a server would start with it, as far as that can be told.
    ok: bool,
    file: Option<PathBuf>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// What counts for each key, and where it comes from. Empty where there are errors.
    values: Vec<Effective>,
}

/// Does what is asked for.
///
/// # Errors
/// One sentence, when the file can't be read or something is wrong with it; what is wrong has been printed.
pub(super) fn run(command: Command, tokio: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let arguments = match command {
        Command::Schema => {
            print_line(&format!("{:#}", Config::schema()));
            return Ok(());
        }
        Command::Check(arguments) => arguments,
    };
    let report = tokio.block_on(check(&arguments))?;
    if arguments.json {
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    let (errors, warnings) = (report.errors.len(), report.warnings.len());
    anyhow::ensure!(errors == 0, "{errors} of what was found keep a server from starting");
    anyhow::ensure!(report.ok, "{warnings} warnings, which --strict takes for errors");
    Ok(())
}

async fn check(arguments: &Arguments) -> anyhow::Result<Report> {
    let reading = match &arguments.file {
        Some(file) => Reading::of_file(file)?,
        None => Reading::of(""),
    };
    let values =
        if reading.errors.is_empty() { reading.effective(|name| std::env::var(name).ok()) } else { Vec::new() };
    let Reading { config, mut errors, mut warnings, .. } = reading;
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    warnings.extend(environment_findings(variables, Path::new(".")));
    if errors.is_empty() {
        let found = try_out(&config, arguments).await;
        errors.extend(found.0);
        warnings.extend(found.1);
    }
    let ok = errors.is_empty() && (warnings.is_empty() || !arguments.strict);
    Ok(Report { ok, file: arguments.file.clone(), errors, warnings, values })
}

/// What would keep a server from starting, of that which can be found out without starting one, and what else there is to say.
async fn try_out(config: &Config, arguments: &Arguments) -> (Vec<Finding>, Vec<Finding>) {
    let parent = arguments.file.as_deref().and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    let config_dir = parent.unwrap_or(Path::new("."));
    let folders = config.folders(arguments.data.as_deref(), config_dir);
    let listen = config.server.address();
    let login = listen.as_ref().ok().map(|at| doctor::logins(config, config_dir, &folders.data, *at));
    let plugins = doctor::plugins(config, config_dir, &folders.data).await;
    let (notices, probed) =
        match config.database.choose(&folders.data, config_dir, |name| std::env::var(name).ok()).await {
            Ok(choice) => {
                let probed = Store::probe(&choice.location).await.map(drop).map_err(|error| error.to_string());
                (choice.notices, probed)
            }
            Err(error) => (Vec::new(), Err(error.to_string())),
        };
    let redirect = doctor::redirect(config, listen.as_ref().ok().copied());
    let results = [
        ("database", probed),
        ("server", listen.map_err(|error| error.to_string()).and_then(doctor::address).map(drop)),
        ("server.tls.redirectFrom", redirect.map_or(Ok(()), |from| from.map(drop))),
        ("server.tls", doctor::tls(config, config_dir).map_or(Ok(()), |tls| tls.map(drop))),
        ("ui.dir", doctor::web_client(config, config_dir).map_or(Ok(()), |client| client.map(drop))),
        ("auth", login.map_or(Ok(()), |login| login.map(drop))),
        ("fileSystem.storage", doctor::data(&folders.data).map(drop)),
        ("fileSystem.run", doctor::writable(&folders.run).map(drop)),
        ("plugins", plugins.map(drop)),
    ];
    let finding = |key: &str, problem: String| Finding { place: None, key: key.to_owned(), problem };
    let failed = |(key, result): (&str, Result<(), String>)| {
        let problem = result.err()?;
        // Some name their key themselves, and more closely.
        Some(match problem.split_once(": ") {
            Some((named, problem)) if named.starts_with(key) && key.contains('.') => finding(named, problem.to_owned()),
            _ => finding(key, problem),
        })
    };
    let failed = results.into_iter().filter_map(failed).collect();
    (failed, notices.into_iter().map(|notice| finding("database", notice)).collect())
}

fn print(report: &Report) {
    let shown = |finding: &Finding| match (&report.file, finding.place) {
        (Some(file), Some(_)) => finding.in_file(file),
        _ => finding.to_string(),
    };
    for error in &report.errors {
        print_line(&format!("error: {}", shown(error)));
    }
    for warning in &report.warnings {
        print_line(&format!("warning: {}", shown(warning)));
    }
    for Effective { key, value, from } in &report.values {
        let from = match from {
            Origin::File(Some(place)) => format!("line {}", place.line),
            Origin::File(None) => "the file".to_owned(),
            Origin::Environment(name) => (*name).to_owned(),
            Origin::Default => "default".to_owned(),
        };
        print_line(&format!("{key} = {value}  # {from}"));
    }
    if report.errors.is_empty() {
        let name = report.file.as_ref().map_or("the environment".to_owned(), |file| file.display().to_string());
        print_line(&format!(
            "A server would start with {name}. Whether labs could run is said by `antimony-host doctor`."
        ));
    }
}
