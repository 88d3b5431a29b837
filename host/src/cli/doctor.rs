//! `doctor`: whether a server could start here and run labs, what was found, what is missing, and what that means.
//!
//! It looks at what a server looks at when it starts, with the same code, and leaves everything as it was: whatever it
//! has to try, it undoes. It ends with 0 where a server would start and labs could run, and with 1 where not.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::print_line;
use crate::auth::native_login;
use crate::auth::users::{Users, UsersError};
use crate::config::Config;
use crate::edge::{Site, Tls};
use crate::plugins::PluginHost;
use crate::runtime::choose::{self, Chosen, RuntimeChoice, WhyEmbedded};
use crate::runtime::containerlab::{self, Found, Missing};
use crate::runtime::embedded::{self, EmbeddedOptions};
use crate::store::Store;

/// What a server would be started with.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address and port that a server would listen on [default: as for serve]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Folder that everything would be kept in [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What would run labs [default: `runtime` of the configuration, or auto]
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<RuntimeChoice>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It may get in the way of labs.
    Warning,
    /// It isn't there, and isn't needed.
    Missing,
    /// Because of this no server would start, or no lab could run.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at, in a word.
    check: &'static str,
    verdict: Verdict,
    /// What was found, and what to do about it.
    found: String,
    /// What follows from it, where that isn't plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    means: Option<String>,
}

impl Finding {
    fn of<E: ToString>(check: &'static str, result: Result<String, E>) -> Self {
        let (verdict, found) = match result {
            Ok(found) => (Verdict::Ok, found),
            Err(error) => (Verdict::Problem, error.to_string()),
        };
        Self { check, verdict, found, means: None }
    }

    fn meaning(self, means: &str) -> Self {
        Self { means: Some(means.to_owned()), ..self }
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether a server would start and labs could run.
    ok: bool,
    /// What labs would run on; `null`: on nothing.
    runtime: Option<&'static str>,
    /// Each thing that was looked at, in the order of a start.
    checks: Vec<Finding>,
    /// The same in a sentence.
    summary: String,
}

/// Looks at everything and prints what it finds.
///
/// # Errors
/// One sentence, when no server would start or no lab could run; what was found has been printed all the same.
pub(super) fn run(arguments: Arguments, tokio: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let report = tokio.block_on(examine(&arguments));
    if arguments.json {
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        for finding in &report.checks {
            print_line(&line(finding));
        }
        print_line("");
        print_line(&report.summary);
    }
    anyhow::ensure!(report.ok, "a server would not start here, or no lab could run");
    Ok(())
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Missing => "missing",
        Verdict::Problem => "PROBLEM",
    };
    let means = finding.means.as_ref().map(|means| format!("\n{:23}{means}", "")).unwrap_or_default();
    format!("{verdict:<8} {:<13} {}{means}", finding.check, finding.found)
}

async fn examine(arguments: &Arguments) -> Report {
    let (config, config_dir, read) = read_config(arguments.config.as_deref());
    let mut checks = vec![Finding::of("configuration", read)];
    checks.extend(config.warnings().into_iter().map(|found| warning("configuration", found)));
    let listen = arguments.listen.map_or_else(|| config.server.address(), Ok);
    let folder = config.folders(arguments.data.as_deref(), &config_dir).data;
    checks.push(Finding::of("data", data(&folder)));
    database(&config, &config_dir, &folder, &mut checks).await;
    checks.push(Finding::of("address", listen.as_ref().map_err(ToString::to_string).and_then(|at| address(*at))));
    let listen = listen.ok();
    checks.extend(redirect(&config, listen).map(|found| Finding::of("redirect", found)));
    checks.extend(tls(&config, &config_dir).map(|found| Finding::of("tls", found)));
    checks.extend(web_client(&config, &config_dir).map(|found| Finding::of("web client", found)));
    if let Some(listen) = listen {
        checks.push(Finding::of("login", logins(&config, &config_dir, &folder, listen)));
    }
    checks.push(Finding::of("plugins", plugins(&config, &config_dir, &folder).await));
    let runtime = runtimes(&config, arguments.runtime.unwrap_or(config.runtime), &mut checks).await;
    let problems: Vec<&str> =
        checks.iter().filter(|finding| finding.verdict == Verdict::Problem).map(|finding| finding.check).collect();
    let summary = match runtime {
        Some(runtime) if problems.is_empty() => {
            format!("A server would start here and run labs on the {runtime} runtime.")
        }
        _ => format!("A server would not start here, or no lab could run: {}.", problems.join(", ")),
    };
    Report { ok: problems.is_empty(), runtime, checks, summary }
}

fn read_config(path: Option<&Path>) -> (Config, PathBuf, Result<String, String>) {
    match super::read_config(path) {
        Err(error) => (Config::default(), PathBuf::from("."), Err(format!("{error:#}"))),
        Ok((config, dir)) => {
            let found = match path {
                None => "no file is given, so everything is as it is by default".to_owned(),
                Some(path) => format!("{} can be used", path.display()),
            };
            (config, dir, Ok(found))
        }
    }
}

/// Whether a folder can be written, or made.
pub(super) fn writable(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let existing = std::path::absolute(folder).map_err(|error| format!("the folder {shown} can't be used: {error}"))?;
    let existing = existing.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"));
    // A file without a name, which is gone as soon as it is closed.
    tempfile::tempfile_in(existing).map(drop).map_err(|error| {
        let what = if existing.ends_with(folder) { String::new() } else { format!(" in {}", existing.display()) };
        format!(
            "the folder {shown} can't be used: nothing can be written{what}: {error}; give it to the server's user, or choose another with --data"
        )
    })
}

/// Whether the data folder can be used, or made.
pub(super) fn data(folder: &Path) -> Result<String, String> {
    let shown = folder.display();
    let unusable = |error: io::Error| format!("the data folder {shown} can't be used: {error}");
    writable(folder)?;
    if !folder.exists() {
        return Ok(format!("{shown} isn't there yet and can be made"));
    }
    match std::fs::File::open(folder.join("lock")) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(format!("a server runs with the data folder {shown} at this moment"));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(unusable(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    Ok(format!("{shown} can be written"))
}

/// Which database a server would use, and whether it could.
async fn database(config: &Config, config_dir: &Path, data: &Path, checks: &mut Vec<Finding>) {
    let choice = match config.database.choose(data, config_dir, |name| std::env::var(name).ok()).await {
        Ok(choice) => choice,
        Err(error) => return checks.push(Finding::of("database", Err::<String, _>(error))),
    };
    checks.extend(choice.notices.into_iter().map(|notice| warning("database", notice)));
    checks.push(Finding::of("database", Store::probe(&choice.location).await));
}

pub(super) fn address(address: SocketAddr) -> Result<String, String> {
    match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => Ok(format!("{} can be listened on, on any free port", address.ip())),
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) => Err(crate::server::StartError::Listen { address, error }.to_string()),
    }
}

/// The certificate that TLS would be spoken with; `None`: it wouldn't be.
pub(super) fn tls(config: &Config, config_dir: &Path) -> Option<Result<String, String>> {
    let opened = Tls::open(config.server.tls.as_ref()?, config_dir);
    let said = |(tls, _): (Tls, _)| format!("the certificate and its key can be used until {}", tls.report().not_after);
    Some(opened.map(said).map_err(|error| error.to_string()))
}

/// Where whoever comes without TLS would be sent on, besides `listen`; `None`: nowhere.
pub(super) fn redirect(config: &Config, listen: Option<SocketAddr>) -> Option<Result<String, String>> {
    let from = config.server.tls.as_ref()?.redirect_from?;
    // Held meanwhile, as a server would: the two can't be one.
    let _held = listen.map(TcpListener::bind);
    Some(address(from))
}

/// The folder with the web client; `None`: none is named.
pub(super) fn web_client(config: &Config, config_dir: &Path) -> Option<Result<String, String>> {
    let shown = config_dir.join(config.ui.dir.as_ref()?);
    let opened = Site::open(&config.ui, config_dir);
    Some(opened.map(|_| format!("{} can be served", shown.display())).map_err(|error| error.to_string()))
}

/// How people would log in.
pub(super) fn logins(config: &Config, config_dir: &Path, data: &Path, listen: SocketAddr) -> Result<String, String> {
    let environment = |name: &str| std::env::var(name).ok();
    let open_id = config.auth.open_id(environment).map_err(|error| error.to_string())?;
    let source = config.auth.users(config_dir, data);
    let others = open_id.is_some() || source.is_used();
    let login = native_login(&config.auth, listen, others, environment).map_err(|error| error.to_string())?;
    let mut ways = Vec::new();
    ways.extend(login.map(|login| {
        if login.is_default {
            "admin with the password admin, from this machine only".to_owned()
        } else {
            "the user and password that the environment names".to_owned()
        }
    }));
    if config.auth.enable_native {
        match Users::read(&source.path).map_err(|error| error.to_string())? {
            Some(users) => ways.push(format!("{} users in {}", users.len(), source.path.display())),
            None if source.required => return Err(UsersError::Missing(source.path).to_string()),
            None => {}
        }
    }
    ways.extend(open_id.map(|open_id| {
        format!("OpenID Connect by {}, which has to know the address {}", open_id.issuer, open_id.redirect_url())
    }));
    Ok(if ways.is_empty() { "nobody can log in".to_owned() } else { ways.join("; ") })
}

/// Loads the plugins as a server would. What that compiles is kept where a server would look for it, if there is such a
/// place already.
pub(super) async fn plugins(config: &Config, config_dir: &Path, data: &Path) -> Result<String, String> {
    let kept = data.join("plugin-cache");
    let aside = tempfile::Builder::new().prefix("antimony-doctor-").tempdir();
    let aside = aside.map_err(|error| format!("there is no place to compile plugins in: {error}"))?;
    let cache = if tempfile::tempfile_in(&kept).is_ok() { kept } else { aside.path().to_owned() };
    let host = PluginHost::load(&config.plugins, config_dir, &cache).await.map_err(|error| error.to_string())?;
    let names: Vec<String> = host.loaded().into_iter().map(|plugin| plugin.name).collect();
    Ok(format!("{} of them load: {}", names.len(), names.join(", ")))
}

/// Looks at both runtimes, whichever is asked for. Answers the one that would run labs.
async fn runtimes(config: &Config, choice: RuntimeChoice, checks: &mut Vec<Finding>) -> Option<&'static str> {
    let (program, engine) =
        tokio::join!(containerlab::find_program(&config.containerlab), containerlab::find_engine(&config.containerlab));
    let found = match (&program, &engine) {
        (Ok(program), Ok(engine)) => Ok(Found { program: program.clone(), engine: engine.clone() }),
        (Err(missing), _) | (_, Err(missing)) => Err(missing.clone()),
    };
    let overlap = match &found {
        Ok(found) => containerlab::overlap(&found.engine).await,
        Err(_) => None,
    };
    let chosen = choose::decide(choice, found);
    let works = embedded::preflight(&EmbeddedOptions::default());
    let embedded_works = works.is_ok();

    let wanted = choice == RuntimeChoice::Containerlab || (choice == RuntimeChoice::Auto && !embedded_works);
    let unneeded = |finding: Finding| match finding.verdict {
        Verdict::Problem if !wanted => {
            let means = match (choice, embedded_works) {
                (RuntimeChoice::Auto, true) => {
                    "Labs run on the embedded runtime: nodes of kind linux only, without images, and they end with the server."
                }
                _ => "It isn't asked for.",
            };
            Finding { verdict: Verdict::Missing, ..finding }.meaning(means)
        }
        Verdict::Problem => finding.meaning("No lab can run on the containerlab runtime."),
        _ => finding,
    };
    let mut warnings = Vec::new();
    let is_there = program.is_ok();
    let said = program.map(|program| {
        warnings = program.warnings();
        let version = program.version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
        format!("{} is containerlab {version} and has the rights that it needs", program.path.display())
    });
    checks.push(unneeded(Finding::of("containerlab", said)));
    checks.extend(warnings.into_iter().map(|found| warning("containerlab", found)));
    let said = engine.map(|engine| {
        format!("version {} answers at {}, with version {} of the API", engine.version, engine.address, engine.api)
    });
    let finding = Finding::of("engine", said);
    checks.push(if finding.verdict == Verdict::Ok && !is_there {
        finding.meaning("It isn't used without containerlab.")
    } else {
        unneeded(finding)
    });
    if is_there && let Some(found) = choose::kernel_problem() {
        checks.push(warning("kernel", found).meaning("Labs on the containerlab runtime may all fail to deploy."));
    }
    if let Some(found) = overlap {
        let means = "Deploys may fail, or what is reached by that route can't be reached while a lab runs.";
        checks.push(warning("network", found).meaning(means));
    }
    let said = works.map(|()| "a lab with two nodes and a link was built and taken down".to_owned());
    let finding = Finding::of("embedded", said);
    let instead = matches!(chosen, Ok(Chosen::Containerlab(_)));
    checks.push(match finding.verdict {
        Verdict::Problem if instead => {
            Finding { verdict: Verdict::Missing, ..finding }.meaning("Labs run on containerlab, which doesn't need it.")
        }
        _ => finding,
    });
    let (finding, taken) = match chosen {
        Ok(Chosen::Containerlab(_)) => (taken(choice, "containerlab", None), "containerlab"),
        Ok(Chosen::Embedded(WhyEmbedded::AskedFor)) if embedded_works => (taken(choice, "embedded", None), "embedded"),
        Ok(Chosen::Embedded(WhyEmbedded::Missing(missing))) if embedded_works => {
            (taken(choice, "embedded", Some(&missing)), "embedded")
        }
        // What is missing has been said.
        _ => return None,
    };
    checks.push(finding);
    Some(taken)
}

/// Which runtime is taken, and why. `missing`: what keeps labs from running on containerlab.
fn taken(choice: RuntimeChoice, runtime: &'static str, missing: Option<&Missing>) -> Finding {
    let found = match (choice, missing) {
        (RuntimeChoice::Auto, None) => format!("auto takes {runtime}: the program and its engine are there and answer"),
        (RuntimeChoice::Auto, Some(missing)) => format!("auto takes {runtime}: {missing}"),
        _ => format!("{runtime} is taken, as it is asked for"),
    };
    match missing.filter(|missing| !missing.is_absent()) {
        Some(_) => {
            warning("runtime", found).meaning("To run labs on containerlab or not at all, set `runtime: containerlab`.")
        }
        None => Finding { check: "runtime", verdict: Verdict::Ok, found, means: None },
    }
}

fn warning(check: &'static str, found: String) -> Finding {
    Finding { check, verdict: Verdict::Warning, found, means: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_can_be_made_where_its_parent_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(data(&dir.path().join("a/b")).unwrap().contains("can be made"));
        assert!(!dir.path().join("a").exists(), "it was only looked at");
        assert!(data(dir.path()).unwrap().contains("can be written"));
        let lock = std::fs::File::create(dir.path().join("lock")).unwrap();
        lock.try_lock().unwrap();
        assert!(data(dir.path()).unwrap_err().contains("a server runs"));
        assert!(data(Path::new("/proc/nowhere")).unwrap_err().contains("/proc"));
    }
}
