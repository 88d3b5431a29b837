//! `plugin run`, `plugin test`, `plugin diff`: plugins asked outside of any server, with cases or with what a server recorded.
//!
//! Plugins are loaded and asked by the code of the server, under the same budgets. Nothing is kept but compiled code, in the
//! user's cache folder.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::print_line;
use crate::config::Config;
use crate::plugins::config::{Budget, Entry, Hook, Mode};
use crate::plugins::record::{
    Answer, Comparison, Difference, Function, Given, Input, Outcome, PluginRef, Recorded, TestResult, Trial, Trials,
    junit, read_cases, read_records,
};
use crate::plugins::{LoadError, LoadProblem};

/// Differences that are shown in full, of all that there are.
const SHOWN: usize = 50;

/// What can be asked of plugins outside of a server.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask a plugin for one decision
    Run {
        #[command(flatten)]
        plugin: PluginArgs,
        /// What to ask, as JSON: an object with `function` and `input`, or a line of a decision log; `-`: standard input
        #[arg(long = "case", value_name = "FILE", default_value = "-")]
        case: PathBuf,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that plugins decide as they should: by cases in YAML, or as a server has decided according to its decision log
    Test {
        /// The component, unless --config is given; then files of cases (.yml) and decision logs
        #[arg(required = true, value_name = "COMPONENT|FILE")]
        files: Vec<PathBuf>,
        /// Test the plugins of this configuration, with their settings and budgets, instead of one component
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        setup: Setup,
        /// Of decision logs, replay the decisions of the plugin of this name [default: the component's own, or the only
        /// one that there is]
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// Take no notice of the words in which somebody is refused
        #[arg(long)]
        ignore_words: bool,
        /// Write the results to this file, as JUnit does
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Show where a plugin would decide otherwise: a watched one (`mode: monitor`) according to a decision log, or any
    /// component that is asked what the log holds
    Diff {
        /// The component; without it, the watched plugins that the log tells of
        component: Option<PathBuf>,
        /// The decision log; may be given several times, for the files before it
        #[arg(long = "log", required = true, value_name = "FILE")]
        logs: Vec<PathBuf>,
        #[command(flatten)]
        setup: Setup,
        /// Compare with the decisions of the plugin of this name [default: the component's own, or the only one that
        /// there is]
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// Print the differences as JSON: a list with an object for each plugin
        #[arg(long)]
        json: bool,
        /// End with status 1 where a plugin would decide otherwise, as `plugin test` does
        #[arg(long)]
        fail_on_difference: bool,
    },
}

impl Command {
    /// What is shown of the plugins' own log: of one decision all, of many only what is wrong.
    pub(super) fn log_level(&self) -> &'static str {
        if matches!(self, Self::Run { .. }) { "info" } else { "error" }
    }
}

/// A component and how it is set up.
#[derive(Debug, Args)]
pub(super) struct PluginArgs {
    /// The component: a file, or `builtin:` and the name of a bundled one
    component: PathBuf,
    #[command(flatten)]
    setup: Setup,
}

/// How a component is set up.
#[derive(Debug, Default, Args)]
pub(super) struct Setup {
    /// What the plugin decides: command-validator, auth-policy or status-formatter [default: found out]
    #[arg(long, value_name = "WORLD", value_parser = world)]
    world: Option<Hook>,
    /// The plugin's settings: JSON, or a file with JSON or YAML
    #[arg(long, value_name = "FILE|JSON")]
    settings: Option<String>,
    /// What a call may cost: the keys of `budget` in the configuration, as JSON or as a file [default: as there]
    #[arg(long, value_name = "FILE|JSON")]
    budget: Option<String>,
}

fn world(name: &str) -> Result<Hook, String> {
    let names = || Hook::ALL.map(Hook::name).join(", ");
    Hook::ALL.into_iter().find(|hook| hook.name() == name).ok_or_else(|| format!("worlds are {}", names()))
}

/// Does what the command says.
pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { plugin, case, json } => run_one(&plugin, &case, json).await,
        Command::Test { mut files, config, setup, plugin, ignore_words, junit } => {
            let trials = start()?;
            let mut subjects = match &config {
                Some(config) => {
                    ensure!(
                        setup.settings.is_none() && setup.budget.is_none() && setup.world.is_none(),
                        "--settings, --budget and --world are for one component: the configuration has its own"
                    );
                    Subjects::configured(&trials, config).await?
                }
                None => Subjects::single(load(&trials, &files.remove(0), &setup).await?),
            };
            ensure!(!files.is_empty(), "name a file of cases (.yml) or a decision log to test with");
            subjects.plugin = plugin;
            test(&subjects, &files, ignore_words, junit.as_deref()).await
        }
        Command::Diff { component, logs, setup, plugin, json, fail_on_difference } => {
            let all = match component {
                Some(component) => {
                    let trial = load(&start()?, &component, &setup).await?;
                    vec![diff_component(&trial, &logs, plugin.as_deref()).await?]
                }
                None => diff_watched(&logs, plugin.as_deref())?,
            };
            conclude(&all, json, fail_on_difference)
        }
    }
}

/// Compiled code is kept where the user keeps such things, so that the second time is fast.
fn start() -> anyhow::Result<Trials> {
    let set = |name| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    // Without a home, somewhere that nobody else can have prepared.
    let cache = match cache {
        Some(dir) => dir.join("antimony-host"),
        None => tempfile::Builder::new().prefix("antimony-cache-").tempdir().context("no folder for a cache")?.keep(),
    };
    Ok(Trials::start(&cache)?)
}

async fn load(trials: &Trials, component: &Path, setup: &Setup) -> anyhow::Result<Trial> {
    let path = component.to_str().context("the component's path is not UTF-8")?;
    let settings = setup.settings.as_deref().map_or(Ok(Value::Null), |text| json_or_file("--settings", text))?;
    let budget = match &setup.budget {
        Some(text) => serde_json::from_value(json_or_file("--budget", text)?).context("--budget")?,
        None => Budget::default(),
    };
    let entry = Entry { settings, budget, ..Entry::new(path) };
    let first = setup.world.unwrap_or(Hook::AuthPolicy);
    let error = match trials.load(Path::new("."), first, 1, &entry).await {
        Ok(trial) => return Ok(trial),
        Err(error) => error,
    };
    match (&error, setup.world) {
        (LoadError::Plugin { problem, .. }, None) => match **problem {
            LoadProblem::OtherHook { found, .. } => Ok(trials.load(Path::new("."), found, 1, &entry).await?),
            _ => Err(error.into()),
        },
        _ => Err(error.into()),
    }
}

/// JSON itself, or a file that holds some, or YAML.
fn json_or_file(option: &str, text: &str) -> anyhow::Result<Value> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).with_context(|| option.to_owned());
    }
    let text = std::fs::read_to_string(text).with_context(|| format!("{option}: {text}"))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{option}: {error}"))
}

async fn run_one(plugin: &PluginArgs, case: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    if case.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = std::fs::read_to_string(case).with_context(|| case.display().to_string())?;
    }
    let input = read_question(&text).with_context(|| case.display().to_string())?;
    let trial = load(&start()?, &plugin.component, &plugin.setup).await?;
    let hook = trial.info().hook;
    ensure!(
        input.function().hook() == hook,
        "{} is no function of {hook}, which this is a plugin for",
        input.function()
    );
    let answer = trial.ask(&input).await;
    let (micros, memory) = (answer.duration.as_micros(), answer.memory);
    if as_json {
        let line = json!({
            "outcome": answer.outcome, "duration-us": u64::try_from(micros).unwrap_or(u64::MAX), "memory-bytes": memory,
        });
        print_line(&line.to_string());
    } else {
        let info = trial.info();
        print_line(&format!("{} {} ({hook}): {}", info.name, info.version, input.headline()));
        for (key, value) in answer.outcome.flat() {
            print_line(&format!("  {key}: {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)));
        }
        print_line(&format!("{micros} µs, {memory} bytes of memory"));
    }
    match &answer.outcome {
        Outcome::Failed { message, .. } => bail!("the plugin could not decide: {message}"),
        _ => Ok(()),
    }
}

/// Reads a question: `function`, `input`, and perhaps `given`; other keys, as a record has them, don't matter.
fn read_question(text: &str) -> anyhow::Result<Input> {
    let question: Map<String, Value> = serde_json::from_str(text).context("has to be a JSON object")?;
    let function = question.get("function").context("`function` is missing")?;
    let function: Function = serde_json::from_value(function.clone()).context("function")?;
    let object = |name: &str| match question.get(name) {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => bail!("`{name}` has to be an object"),
    };
    let given = Given::new(object("given")?)?;
    Ok(Input::complete(function, &object("input")?, &given)?)
}

/// The plugins that are tested.
struct Subjects {
    /// In the operator's order.
    trials: Vec<Trial>,
    /// Whether they are those of a configuration, or one component that may take the place of another.
    configured: bool,
    /// Whose decisions are replayed on one component.
    plugin: Option<String>,
}

impl Subjects {
    fn single(trial: Trial) -> Self {
        Self { trials: vec![trial], configured: false, plugin: None }
    }

    async fn configured(trials: &Trials, path: &Path) -> anyhow::Result<Self> {
        let (config, dir) = super::read_config(Some(path))?;
        let Config { plugins, .. } = config;
        let mut loaded = Vec::new();
        for hook in Hook::ALL {
            for (index, entry) in plugins.entries(hook).iter().enumerate() {
                loaded.push(trials.load(&dir, hook, index + 1, entry).await?);
            }
        }
        Ok(Self { trials: loaded, configured: true, plugin: None })
    }

    /// Those of a function whose answers count.
    fn of(&self, function: Function) -> impl Iterator<Item = &Trial> {
        let counts = move |trial: &&Trial| trial.info().mode == Mode::Enforce && trial.info().hook == function.hook();
        self.trials.iter().filter(counts)
    }

    /// What all of them together decide, in the order of the server's chains.
    async fn decide(&self, input: &Input) -> anyhow::Result<Answer> {
        let mut input = input.clone();
        let original = input.clone();
        let mut last: Option<Answer> = None;
        for trial in self.of(input.function()) {
            let mut answer = trial.ask(&input).await;
            if let Some(before) = &last {
                answer.duration += before.duration;
                answer.memory = answer.memory.max(before.memory);
            }
            let goes_on = match (&answer.outcome, &mut input) {
                (Outcome::Accept { command, .. }, Input::Validate { command: next, .. }) => {
                    *next = command.clone();
                    true
                }
                (Outcome::Allow | Outcome::Left, _) => true,
                // Another formatter may have words for it.
                (Outcome::Failed { .. }, Input::Format { .. }) => true,
                _ => false,
            };
            last = Some(answer);
            if !goes_on {
                break;
            }
        }
        let mut answer =
            last.with_context(|| format!("there is no plugin for {} to test", original.function().hook()))?;
        if let (Outcome::Accept { command, rewritten }, Input::Validate { command: asked, .. }) =
            (&mut answer.outcome, &original)
        {
            *rewritten = command != asked;
        }
        Ok(answer)
    }
}

/// What came of a test.
#[derive(Default)]
struct Results {
    all: Vec<TestResult>,
    differing: usize,
    /// Recorded decisions that were not replayed, by the reason.
    left_out: BTreeMap<String, u64>,
}

impl Results {
    fn add(&mut self, result: TestResult, always: bool) {
        match &result.difference {
            Some(difference) => {
                self.differing += 1;
                if self.differing <= SHOWN {
                    print_line(&format!("DIFFERS  {}:{}  {}", result.file, result.line, result.name));
                    print_line(difference.trim_end());
                }
            }
            None if always => {
                let micros = result.took.as_micros();
                print_line(&format!("ok       {}:{}  {} ({micros} µs)", result.file, result.line, result.name));
            }
            None => {}
        }
        self.all.push(result);
    }

    fn leave_out(&mut self, why: impl Into<String>) {
        *self.left_out.entry(why.into()).or_default() += 1;
    }
}

async fn test(subjects: &Subjects, files: &[PathBuf], ignore_words: bool, report: Option<&Path>) -> anyhow::Result<()> {
    let mut results = Results::default();
    for file in files {
        let is_cases = file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        if is_cases {
            for case in read_cases(file)? {
                let answer = subjects.decide(&case.input).await.with_context(|| case.place.to_string())?;
                let difference = case.expect.differs_from(&answer.outcome).map(|difference| difference.to_string());
                let file = case.place.file.display().to_string();
                let line = case.place.line;
                results.add(TestResult { file, line, name: case.name, took: answer.duration, difference }, true);
            }
        } else {
            replay(subjects, file, ignore_words, &mut results).await?;
        }
    }
    if let Some(path) = report {
        std::fs::write(path, junit(&results.all)).with_context(|| path.display().to_string())?;
    }
    for (why, count) in &results.left_out {
        print_line(&format!("left out: {count} recorded decisions, {why}"));
    }
    let (all, differing) = (results.all.len(), results.differing);
    if differing > SHOWN {
        print_line(&format!("… and {} more", differing - SHOWN));
    }
    print_line(&format!("{all} tested, {} as expected, {differing} otherwise", all - differing));
    ensure!(all > 0, "there was nothing to test");
    ensure!(differing == 0, "{differing} of {all} were decided otherwise than expected");
    Ok(())
}

async fn replay(subjects: &Subjects, log: &Path, ignore_words: bool, results: &mut Results) -> anyhow::Result<()> {
    let whose = match (&subjects.trials[..], subjects.configured) {
        ([trial], false) => Some(whose(trial, std::slice::from_ref(&log.to_owned()), subjects.plugin.as_deref())?),
        _ => subjects.plugin.clone(),
    };
    let mut records = read_records(log)?;
    for recorded in records.by_ref() {
        let Recorded { place, record } = recorded?;
        if record.mode == Mode::Monitor {
            results.leave_out("of plugins that were only watched");
            continue;
        }
        if whose.as_ref().is_some_and(|name| *name != record.plugin.name) {
            results.leave_out(format!("of {}", record.plugin.name));
            continue;
        }
        if record.outcome.is_failure() {
            results.leave_out("which the plugin failed to make");
            continue;
        }
        let trial =
            subjects.of(record.function).find(|trial| !subjects.configured || trial.info().name == record.plugin.name);
        let Some(trial) = trial else {
            results.leave_out(format!("of {}, which is not among those that are tested", record.plugin.name));
            continue;
        };
        let answer = trial.ask(&record.input).await;
        let same = ignore_words && record.outcome.same_but_for_words(&answer.outcome);
        let difference = if same { None } else { Difference::between(&record.outcome, &answer.outcome) };
        let result = TestResult {
            file: place.file.display().to_string(),
            line: place.line,
            name: record.input.headline(),
            took: answer.duration,
            difference: difference.map(|difference| difference.to_string()),
        };
        results.add(result, false);
    }
    if records.dropped() > 0 {
        print_line(&format!("{}: {} decisions are missing in this log", log.display(), records.dropped()));
    }
    Ok(())
}

/// Whose decisions a component is to be compared with.
fn whose(trial: &Trial, logs: &[PathBuf], named: Option<&str>) -> anyhow::Result<String> {
    let mut names = Vec::new();
    for log in logs {
        for recorded in read_records(log)? {
            let record = recorded?.record;
            let counts = record.mode == Mode::Enforce && record.hook == trial.info().hook;
            if counts && !names.contains(&record.plugin.name) {
                names.push(record.plugin.name);
            }
        }
    }
    let hook = trial.info().hook;
    match (named, &names[..]) {
        (_, []) => bail!("there are no decisions of plugins for {hook} in the log"),
        (Some(name), _) if names.iter().any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), _) => bail!("there are no decisions of {name} in the log, but of {}", names.join(", ")),
        (None, _) if names.contains(&trial.info().name) => Ok(trial.info().name.clone()),
        (None, [only]) => Ok(only.clone()),
        (None, _) => {
            bail!("the log has decisions of {}: say with --plugin which of them to compare with", names.join(", "))
        }
    }
}

async fn diff_component(trial: &Trial, logs: &[PathBuf], named: Option<&str>) -> anyhow::Result<Compared> {
    let whose = whose(trial, logs, named)?;
    let mut comparison = Comparison::default();
    for log in logs {
        for recorded in read_records(log)? {
            let recorded = recorded?;
            let record = &recorded.record;
            if record.mode == Mode::Monitor || record.hook != trial.info().hook || record.plugin.name != whose {
                continue;
            }
            let answer = trial.ask(&record.input).await;
            comparison.add(&record.outcome, &answer.outcome, || example(&recorded, &answer.outcome));
            comparison.cost(
                u64::try_from(answer.duration.as_micros()).unwrap_or(u64::MAX),
                u64::try_from(answer.memory).ok(),
            );
            comparison.cost_in_force(record.duration_us);
        }
    }
    Ok(Compared { plugin: PluginRef::from(trial.info()), beside: Some(whose), comparison })
}

/// A plugin, and how it compares with those in force: all of them, or the one of this name.
struct Compared {
    plugin: PluginRef,
    beside: Option<String>,
    comparison: Comparison,
}

impl Compared {
    fn to_json(&self) -> Value {
        let mut json = self.comparison.to_json();
        json["plugin"] = json!(self.plugin);
        json["beside"] = json!(self.beside);
        json
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PluginRef { name, version, sha256 } = &self.plugin;
        match &self.beside {
            Some(whose) => writeln!(f, "{name} {version} (sha256 {sha256:.12}) beside the decisions of {whose}")?,
            None => writeln!(f, "{name} {version} (sha256 {sha256:.12}), watched beside the plugins in force")?,
        }
        self.comparison.fmt(f)
    }
}

/// Prints what was compared; fails over a difference if that is wanted.
fn conclude(all: &[Compared], as_json: bool, fail_on_difference: bool) -> anyhow::Result<()> {
    if as_json {
        let all: Vec<_> = all.iter().map(Compared::to_json).collect();
        print_line(&format!("{:#}", Value::Array(all)));
    } else {
        for (index, one) in all.iter().enumerate() {
            let space = if index == 0 { "" } else { "\n" };
            print_line(&format!("{space}{}", one.to_string().trim_end()));
        }
    }
    let differing: u64 = all.iter().map(|one| one.comparison.differing()).sum();
    let compared: u64 = all.iter().map(|one| one.comparison.compared()).sum();
    ensure!(differing == 0 || !fail_on_difference, "{differing} of {compared} would be decided otherwise");
    Ok(())
}

fn diff_watched(logs: &[PathBuf], named: Option<&str>) -> anyhow::Result<Vec<Compared>> {
    let mut watched = BTreeMap::new();
    for log in logs {
        for recorded in read_records(log)? {
            let recorded = recorded?;
            let record = &recorded.record;
            let Some(in_force) = record.in_force.as_ref().filter(|_| record.mode == Mode::Monitor) else { continue };
            if named.is_some_and(|name| name != record.plugin.name) {
                continue;
            }
            let comparison: &mut Comparison = watched.entry(record.plugin.clone()).or_default();
            comparison.add(&in_force.outcome, &record.outcome, || example(&recorded, &record.outcome));
            comparison.cost(record.duration_us, record.memory_bytes);
        }
    }
    ensure!(
        !watched.is_empty(),
        "the log has no decisions of watched plugins: give one `mode: monitor`, or name a component"
    );
    let compared = |(plugin, comparison)| Compared { plugin, beside: None, comparison };
    Ok(watched.into_iter().map(compared).collect())
}

/// One decision, to look it up by, and what the candidate says of it.
fn example(recorded: &Recorded, candidate: &Outcome) -> String {
    let message = match candidate.flat().get("message").and_then(Value::as_str) {
        Some(message) => format!(": {message}"),
        None => String::new(),
    };
    format!("{}  {}  {}{message}", recorded.place, recorded.record.time, recorded.record.input.headline())
}
