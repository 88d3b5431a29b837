//! What people who write plugins have: a project that works at once, what a component is, whether a server would take it,
//! and what it costs; and the examples, asked what their cases say.

use std::path::{Path, PathBuf};
use std::process::Command;

use antimony_host::plugins::author::{self, Language};
use antimony_host::plugins::config::{Entry, Hook};
use antimony_host::plugins::record::{Trials, read_cases};
use antimony_host::plugins::{Install, build, build_with};
use serde_json::json;

use crate::guests;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Asks a component what a file of cases says, under the budget of its entry.
async fn passes(entry: &Entry, hook: Hook, cases: &Path) {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    let trials = Trials::start(&cache).unwrap();
    let trial = trials.load(&cache, hook, 1, entry).await.unwrap();
    let cases = read_cases(cases).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let answer = trial.ask(&case.input).await;
        if let Some(difference) = case.expect.differs_from(&answer.outcome) {
            panic!("{}: {}\n{difference}", case.place, case.name);
        }
    }
}

fn entry(component: &Path) -> Entry {
    Entry::new(component.to_str().unwrap())
}

/// A folder for projects whose compilers work where the guests of the other tests are built, so that what they are all
/// made of is compiled once.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".cargo")).unwrap();
    let config = format!("[build]\ntarget-dir = {:?}\n", root().join("target").to_str().unwrap());
    std::fs::write(dir.path().join(".cargo/config.toml"), config).unwrap();
    dir
}

fn cargo_test(project: &Path) {
    // As a person would, with nothing of the cargo that runs this test.
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "RUSTFLAGS" {
            cargo.env_remove(name.as_ref());
        }
    }
    let output = cargo.arg("test").current_dir(project).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("test result: ok. ") && !text.contains("ok. 0 passed"), "{text}");
}

#[tokio::test]
async fn a_new_project_in_rust_builds_and_passes_its_own_tests_at_once() {
    // Says on the terminal where nothing can be built.
    if guests::entry("deploy-freeze").is_none() {
        return;
    }
    let dir = folder();
    for hook in Hook::ALL {
        let project = dir.path().join(format!("my-{hook}"));
        author::create(&project, hook, Language::Rust).unwrap();
        let built = build(&project, None, &mut |_| {}).unwrap();
        assert_eq!(built[0].path, project.canonicalize().unwrap().join(format!("my-{hook}.wasm")));
        passes(&entry(&built[0].path), hook, &project.join("cases.yml")).await;
        cargo_test(&project);

        let inspection = author::inspect(&built[0].path).await.unwrap();
        assert_eq!(inspection.worlds, [hook.name()]);
        assert_eq!(inspection.description.unwrap().name, format!("my-{hook}"));
        assert_eq!(inspection.source.as_ref(), Some(&built[0].source));
    }
}

#[tokio::test]
async fn the_examples_decide_as_their_cases_say() {
    for name in ["quotas-and-hours", "safe-topologies"] {
        let Some(entry) = guests::entry(name) else { return };
        let example = root().join("examples/plugins").join(name);
        let settings = std::fs::read_to_string(example.join("settings.yml")).unwrap();
        let entry = Entry { settings: serde_saphyr::from_str(&settings).unwrap(), ..entry };
        passes(&entry, Hook::AuthPolicy, &example.join("cases.yml")).await;
    }
}

#[tokio::test]
async fn inspecting_tells_what_a_component_is_without_its_settings() {
    let inspection = author::inspect(Path::new("builtin:auth-policy")).await.unwrap();
    assert_eq!((inspection.worlds.as_slice(), inspection.memories), (&["auth-policy".to_owned()][..], 1));
    assert_eq!(inspection.contract.into_iter().collect::<Vec<_>>(), ["0.1.0"]);
    let description = inspection.description.unwrap();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("auth-policy", "0.1.0"));
    assert!(inspection.made_by.iter().any(|tool| tool.starts_with("wit-component")));

    let error = author::inspect(&root().join("Cargo.toml")).await.unwrap_err().to_string();
    assert!(error.contains("Cargo.toml is not a WebAssembly component"), "{error}");
}

#[tokio::test]
async fn checking_says_what_a_server_would() {
    let checked = author::check(None, &Entry::new("builtin:status-formatter")).await.unwrap();
    assert_eq!((checked.info.hook, checked.info.name.as_str()), (Hook::StatusFormatter, "status-formatter"));

    let wrong = Entry { settings: json!({"allow_host_access": true}), ..Entry::new("builtin:auth-policy") };
    let error = author::check(None, &wrong).await.unwrap_err().to_string();
    assert!(error.starts_with("builtin:auth-policy refused its settings") && error.contains("`allow-host-access`"));

    let error = author::check(Some(Hook::StatusFormatter), &Entry::new("builtin:auth-policy")).await.unwrap_err();
    assert!(error.to_string().contains("is a plugin for auth-policy"), "{error}");

    let mut small = Entry::new("builtin:auth-policy");
    small.budget.memory_bytes = Some(32 << 10);
    let error = author::check(None, &small).await.unwrap_err().to_string();
    assert!(error.contains("memory budget of 32768 bytes"), "{error}");
}

#[tokio::test]
async fn measuring_says_what_each_function_costs() {
    let measured = author::bench(None, &Entry::new("builtin:auth-policy"), &[], 20).await.unwrap();
    let cases: Vec<_> = measured.cases.iter().map(|case| (case.function.name(), case.outcome.as_str())).collect();
    assert_eq!(cases, [("identify", "identity"), ("authorize", "allow")]);
    for case in &measured.cases {
        assert!(case.calls >= 1 && case.p50_us > 0.0 && case.p50_us <= case.max_us, "{case:?}");
        assert!((64 << 10..=1 << 20).contains(&case.memory_bytes), "{case:?}");
        // A function of some hundred lines, and the copying of its arguments.
        assert!((500..500_000).contains(&case.instructions), "{case:?}");
    }
    let again = author::bench(None, &Entry::new("builtin:auth-policy"), &[], 1).await.unwrap();
    let counted = |measured: &author::Measured| measured.cases.iter().map(|case| case.instructions).collect::<Vec<_>>();
    assert_eq!(counted(&measured), counted(&again), "the same question takes the same instructions");
}

/// An interpreter takes half a minute to compile: all worlds where nothing may be left out, and elsewhere one.
fn worlds(language: Language) -> Vec<Hook> {
    if std::env::var_os("ANTIMONY_REQUIRE_ALL").is_some() {
        return Hook::ALL.to_vec();
    }
    vec![if language == Language::Js { Hook::AuthPolicy } else { Hook::CommandValidator }]
}

/// Builds and tests a new project in a language whose tools have to be fetched, with its own unit tests run by `unit`.
async fn new_project_works(language: Language, hook: Hook, unit: &[&str]) {
    let dir = folder();
    let project = dir.path().join(format!("my-{hook}"));
    author::create(&project, hook, language).unwrap();
    let output = Command::new(unit[0]).args(&unit[1..]).current_dir(&project).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Where the examples in the language have been built, their tools are there, and needn't be fetched again.
    let (example, tools) = match language {
        Language::Js => ("groups-js", "node_modules"),
        _ => ("german-py", "target/venv"),
    };
    let there = root().join("examples/plugins").join(example).join(tools);
    if there.is_dir() {
        let link = project.join(tools);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(there, link).unwrap();
    } else if std::env::var_os("ANTIMONY_REQUIRE_ALL").is_none() {
        use std::io::Write as _;
        let line =
            format!("left out: a new project in {language:?}: the tools of examples/plugins/{example} are missing\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let built = build_with(&project, None, Install::Missing, &mut |_| {}).unwrap();
    passes(&entry(&built[0].path), hook, &project.join("cases.yml")).await;
    assert_eq!(author::inspect(&built[0].path).await.unwrap().description.unwrap().name, format!("my-{hook}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_in_javascript_builds_and_passes_its_own_tests_at_once() {
    for hook in worlds(Language::Js) {
        new_project_works(Language::Js, hook, &["npm", "test"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_in_python_builds_and_passes_its_own_tests_at_once() {
    for hook in worlds(Language::Python) {
        new_project_works(Language::Python, hook, &["python3", "-m", "unittest"]).await;
    }
}
