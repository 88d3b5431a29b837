//! `config`: what a configuration comes to, and what is wrong with it, without starting a server; and its JSON schema.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{doctor, print_line};
use crate::config::{Circumstances, Config, Effective, Finding, Origin, Reading, environment_findings};
use crate::guide;
use crate::store::Store;
use crate::store::config::Location;

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
    /// What counts for each key, and where it comes from. Empty where the file can't be used.
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
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut warnings = environment_findings(variables, Path::new("."));
    let (mut errors, mut values) = (Vec::new(), Vec::new());
    if reading.errors.is_empty() {
        let tried = try_out(&reading, arguments).await;
        (errors, values) = (tried.errors, tried.values);
        warnings.extend(tried.warnings);
    }
    errors.splice(0..0, reading.errors);
    warnings.splice(0..0, reading.warnings);
    let ok = errors.is_empty() && (warnings.is_empty() || !arguments.strict);
    Ok(Report { ok, file: arguments.file.clone(), errors, warnings, values })
}

/// What came of trying a configuration out.
struct Tried {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    values: Vec<Effective>,
}

/// What would keep a server from starting, of that which can be found out without starting one or asking another program, and
/// what else there is to say.
async fn try_out(reading: &Reading, arguments: &Arguments) -> Tried {
    let config = &reading.config;
    let parent = arguments.file.as_deref().and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    let config_dir = parent.unwrap_or(Path::new("."));
    let folders = config.folders(arguments.data.as_deref(), config_dir);
    let environment = |name: &str| std::env::var(name).ok();
    let listen = config.server.address();
    let login = listen.as_ref().ok().map(|at| doctor::logins(config, config_dir, &folders.data, *at));
    let plugins = doctor::plugins(config, config_dir, &folders.data).await;
    let mut warnings: Vec<Finding> = Vec::new();
    let mut warn = |key: &str, problem: String| warnings.push(finding(key, problem));
    let mut location: Option<Location> = None;
    let database = match config.database.choose(&folders.data, config_dir, environment).await {
        Ok(choice) => {
            choice.notices.into_iter().for_each(|notice| warn("database", notice));
            let location = location.insert(choice.location);
            Store::examine(location).await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    config.auth.open_id_notice(environment).into_iter().for_each(|notice| warn("auth.openIdClientSecret", notice));
    guide::problems(&config.containerlab, config_dir).into_iter().for_each(|(key, problem)| warn(key, problem));
    let redirect = doctor::redirect(config, listen.as_ref().ok().copied());
    let results = [
        ("database", database),
        ("server", listen.map_err(|error| error.to_string()).and_then(doctor::address).map(drop)),
        ("server.tls.redirectFrom", redirect.map_or(Ok(()), |from| from.map(drop))),
        ("server.tls", doctor::tls(config, config_dir).map_or(Ok(()), |tls| tls.map(drop))),
        ("ui.dir", doctor::web_client(config, config_dir).map_or(Ok(()), |client| client.map(drop))),
        ("auth", login.map_or(Ok(()), |login| login.map(drop))),
        ("fileSystem.storage", doctor::data(&folders.data).map(drop)),
        ("fileSystem.run", doctor::writable(&folders.run).map(drop)),
        ("plugins", plugins.map(drop)),
    ];
    let failed = |(key, result): (&str, Result<(), String>)| {
        let problem = result.err()?;
        // Some name their key themselves, and more closely.
        Some(match problem.split_once(": ") {
            Some((named, problem)) if named.starts_with(key) && key.contains('.') => finding(named, problem.to_owned()),
            _ => finding(key, problem),
        })
    };
    let errors = results.into_iter().filter_map(failed).collect();
    let circumstances = Circumstances {
        config_dir,
        folders: &folders,
        data_is_named: arguments.data.is_some(),
        database: location.as_ref(),
    };
    Tried { errors, warnings, values: reading.effective(circumstances, environment) }
}

fn finding(key: &str, problem: String) -> Finding {
    Finding { place: None, key: key.to_owned(), problem }
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
            Origin::Environment(name) | Origin::Argument(name) => (*name).to_owned(),
            Origin::Default => "default".to_owned(),
        };
        print_line(&format!("{key} = {value}  # {from}"));
    }
    if report.errors.is_empty() {
        let name = report.file.as_ref().map_or("the environment".to_owned(), |file| file.display().to_string());
        print_line(&format!(
            "A server would start with {name}. Whether its database answers, and labs could run, is said by `antimony-host doctor`."
        ));
    }
}
