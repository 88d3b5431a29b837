//! The promise of `wit/README.md`: what was built against a released contract loads and decides for ever, the contract
//! only grows, and a plugin from another version's time is told apart and told what to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use antimony_host::plugins::config::{Entry, Hook};
use antimony_host::plugins::decision::{Action, CommandKind, Occurrence, Refusal};
use antimony_host::plugins::{LoadError, LoadProblem, PluginHost, PluginsConfig};
use serde_json::json;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata, semver_check};
use wit_parser::{ManglingAndAbi, PackageId, Resolve, WorldItem};

use crate::sample::{self, NOW, claims, command, lab, node_command, user};
use crate::{load, try_load, with_policy};

/// Versions of the contract that were released, each a folder of `tests/frozen`.
const RELEASED: [&str; 1] = ["0.1.0"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn frozen(version: &str) -> PathBuf {
    root().join("tests/frozen").join(version)
}

/// The bundled plugins as they were built against a released contract.
fn frozen_plugins(version: &str) -> PluginsConfig {
    let entry = |hook: Hook| {
        let path = frozen(version).join(format!("{hook}.wasm"));
        vec![Entry::new(path.to_str().unwrap())]
    };
    PluginsConfig {
        command_validator: entry(Hook::CommandValidator),
        auth_policy: entry(Hook::AuthPolicy),
        status_formatter: entry(Hook::StatusFormatter),
    }
}

fn released(version: &str, name: &str, settings: serde_json::Value) -> Entry {
    let path = frozen(version).join(format!("{name}.wasm"));
    Entry { settings, ..Entry::new(path.to_str().unwrap()) }
}

#[test]
fn every_released_contract_is_among_those_that_are_tested() {
    let folders = root().join("tests/frozen").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let folders: BTreeSet<String> = folders
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(folders, RELEASED.map(str::to_owned).into());
}

#[tokio::test]
async fn components_built_against_a_released_contract_load_and_decide() {
    for version in RELEASED {
        let mut config = frozen_plugins(version);
        config.auth_policy.push(released(version, "deploy-freeze", json!({"allowed": ["ada"], "reason": "exam week"})));
        config.auth_policy.push(released(version, "uses-wasi", json!({})));
        let host = load(&config).await;
        assert_eq!(host.loaded().len(), 5, "{version}");

        let asked = node_command(CommandKind::StopNode, "r1");
        assert_eq!(host.validate(asked.clone(), &user("ada"), &lab(), None, NOW).await.unwrap(), asked);
        let token = claims(json!({"id": "ada", "isAdmin": false, "collections": ["course"], "exp": 9}));
        assert_eq!(host.identify(&token).await.unwrap(), user("ada"));
        let deploy = command(CommandKind::Deploy);
        host.authorize(&user("ada"), Action::Command(&deploy, &lab(), None), NOW).await.unwrap();
        let mut theirs = lab();
        theirs.lab.creator.id = "bob".into();
        match host.authorize(&user("bob"), Action::Command(&deploy, &theirs, None), NOW).await {
            Err(Refusal::Denied { plugin, message, .. }) => {
                assert_eq!(plugin, "deploy-freeze");
                assert!(message.contains("exam week"), "{message}");
            }
            other => panic!("{version}: {other:?}"),
        }
        let status = host.format(&sample::event(Occurrence::LabDeployed)).await;
        assert_eq!(status.content, "Lab ospf has been deployed", "{version}");
    }
}

/// The files of a contract, as if its version were another one, and with a change.
struct Wit(Vec<(String, String)>);

impl Wit {
    fn read(dir: &Path, version: &str) -> Self {
        let files = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<(String, String)> = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "wit"))
            .map(|path| {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().map(|line| match line.strip_prefix("package antimony:plugin@") {
                    Some(_) => format!("package antimony:plugin@{version};\n"),
                    None => format!("{line}\n"),
                });
                (path.file_name().unwrap().to_str().unwrap().to_owned(), lines.collect())
            })
            .collect();
        files.sort();
        assert_eq!(files.len(), 4);
        Self(files)
    }

    fn present(version: &str) -> Self {
        Self::read(&root().join("wit"), version)
    }

    /// With `from` replaced where it first stands.
    fn with(mut self, from: &str, to: &str) -> Self {
        let (_, text) = self.0.iter_mut().find(|(_, text)| text.contains(from)).expect("it is there to be replaced");
        *text = text.replacen(from, to, 1);
        self
    }

    fn push(&self, resolve: &mut Resolve) -> PackageId {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in &self.0 {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        resolve.push_dir(dir.path()).unwrap().0
    }

    /// A component of this contract whose functions all trap.
    fn component(&self, world: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = self.push(&mut resolve);
        let world = resolve.select_world(&[package], Some(world)).unwrap();
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, true).unwrap();
        ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
    }
}

/// What of `before` is lost or changed in `after`, for components that were built against `before`.
fn incompatible(before: &Wit, after: &Wit) -> Option<String> {
    let mut resolve = Resolve::default();
    let (before, after) = (before.push(&mut resolve), after.push(&mut resolve));
    let names = |package: PackageId| -> BTreeSet<String> {
        let package = &resolve.packages[package];
        let interfaces = package.interfaces.iter().flat_map(|(name, id)| {
            let interface = &resolve.interfaces[*id];
            let items = interface.functions.keys().chain(interface.types.keys());
            items.map(move |item| format!("{name}.{item}"))
        });
        let worlds = package.worlds.iter().flat_map(|(name, id)| {
            let world = &resolve.worlds[*id];
            let exports = world.exports.values().filter_map(|item| match item {
                WorldItem::Interface { id, .. } => resolve.interfaces[*id].name.clone(),
                _ => None,
            });
            exports.map(move |export| format!("{name} exports {export}"))
        });
        interfaces.chain(worlds).collect()
    };
    // The check below is about what makes components fail. That a function is asked for no longer makes none fail, and
    // is a broken promise all the same.
    if let Some(lost) = names(before).difference(&names(after)).next() {
        return Some(format!("{lost} is gone"));
    }
    Hook::ALL.into_iter().find_map(|hook| {
        let world = |package: PackageId| resolve.select_world(&[package], Some(hook.name())).unwrap();
        let checked = semver_check(resolve.clone(), world(before), world(after));
        checked.err().map(|error| format!("{hook}: {error:#}"))
    })
}

#[test]
fn the_present_contract_is_a_compatible_successor_of_every_released_one() {
    for version in RELEASED {
        let released = Wit::read(&frozen(version).join("wit"), version);
        assert_eq!(incompatible(&released, &Wit::present("0.1.999")), None, "{version}");
    }
}

#[test]
fn whatever_would_break_a_plugin_is_found() {
    let released = Wit::read(&frozen("0.1.0").join("wit"), "0.1.0");
    for (what, from, to) in [
        ("a case removed", "        node-exited(node-event),\n", ""),
        (
            "a case added",
            "        node-exited(node-event),\n",
            "        node-exited(node-event),\n        node-lost(node-event),\n",
        ),
        ("a field removed", "        admin: bool,\n", ""),
        ("a field added", "        admin: bool,\n", "        admin: bool,\n        guest: bool,\n"),
        ("a field renamed", "        open-shells: u32,", "        shells-open: u32,"),
        ("a type changed", "type timestamp = u64;", "type timestamp = s64;"),
        ("an argument added", "describe: func() ->", "describe: func(language: string) ->"),
        ("a host function removed", "    @since(version = 0.1.0)\n    log: func(level: level, message: string);", ""),
        ("a function of a plugin removed", "    @since(version = 0.1.0)\n    describe: func() -> description;", ""),
        (
            "a function demanded of plugins",
            "    describe: func() -> description;",
            "    describe: func() -> description;\n    @since(version = 0.1.0)\n    more: func();",
        ),
        ("an interface no longer exported", "    export validator;", "    import validator;"),
    ] {
        let changed = Wit::present("0.1.999").with(from, to);
        assert!(incompatible(&released, &changed).is_some(), "{what}");
    }
}

#[test]
fn what_a_patch_may_bring_is_no_break() {
    let released = Wit::read(&frozen("0.1.0").join("wit"), "0.1.0");
    for (from, to) in
        [NEW_FUNCTION, NEW_INTERFACE, ("    /// How much a line matters.", "    /// How much it matters.")]
    {
        assert_eq!(incompatible(&released, &Wit::present("0.1.7").with(from, to)), None, "{to}");
    }
}

const NEW_FUNCTION: (&str, &str) = (
    "    log: func(level: level, message: string);",
    "    log: func(level: level, message: string);\n    @since(version = 0.1.7)\n    count: func(what: string);",
);
const NEW_INTERFACE: (&str, &str) = (
    "interface logging {",
    "interface counting {\n    @since(version = 0.1.7)\n    count: func(what: string);\n}\n\n@since(version = 0.1.0)\ninterface logging {",
);

fn file(dir: &tempfile::TempDir, component: &[u8]) -> Entry {
    let path = dir.path().join("plugin.wasm");
    std::fs::write(&path, component).unwrap();
    Entry { name: Some("crafted".into()), ..Entry::new(path.to_str().unwrap()) }
}

async fn problem(component: &[u8]) -> LoadProblem {
    let dir = tempfile::tempdir().unwrap();
    match try_load(&with_policy(file(&dir, component))).await.err().expect("it can't be loaded") {
        LoadError::Plugin { problem, .. } => *problem,
        other => panic!("{other}"),
    }
}

/// The bundled policy, as if it had been built against another version: names are of one length.
fn of_version(version: &str) -> Vec<u8> {
    let mut component = std::fs::read(frozen("0.1.0").join("auth-policy.wasm")).unwrap();
    for interface in ["types", "lifecycle", "logging", "policy"] {
        let (from, to) =
            (format!("antimony:plugin/{interface}@0.1.0"), format!("antimony:plugin/{interface}@{version}"));
        assert_eq!(from.len(), to.len());
        let places: Vec<usize> = component
            .windows(from.len())
            .enumerate()
            .filter(|(_, w)| *w == from.as_bytes())
            .map(|(at, _)| at)
            .collect();
        for at in places {
            component[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    component
}

#[tokio::test]
async fn a_plugin_of_a_later_patch_that_uses_nothing_new_is_loaded_and_asked() {
    let dir = tempfile::tempdir().unwrap();
    let config = PluginsConfig { auth_policy: vec![file(&dir, &of_version("0.1.7"))], ..PluginsConfig::default() };
    let host: PluginHost = load(&config).await;
    let deploy = command(CommandKind::Deploy);
    host.authorize(&user("ada"), Action::Command(&deploy, &lab(), None), NOW).await.unwrap();
    assert!(host.authorize(&user("bob"), Action::Command(&deploy, &lab(), None), NOW).await.is_err());
}

#[tokio::test]
async fn a_plugin_of_a_later_patch_that_uses_something_new_is_told_what_to_do() {
    for (from, to) in [NEW_FUNCTION, NEW_INTERFACE] {
        let mut wit = Wit::present("0.1.7").with(from, to);
        if to == NEW_INTERFACE.1 {
            wit = wit
                .with("world auth-policy {", "world auth-policy {\n    @since(version = 0.1.7)\n    import counting;");
        }
        let problem = problem(&wit.component("auth-policy")).await;
        assert!(matches!(problem, LoadProblem::Newer { .. }), "{problem}");
        let text = problem.to_string();
        for word in ["0.1.7", "0.1.0", "count", "update the server", "build the plugin against"] {
            assert!(text.contains(word), "{word:?} is missing: {text}");
        }
    }
}

#[tokio::test]
async fn plugins_of_other_versions_are_told_apart_and_told_what_to_do() {
    for (version, newer, advice) in [
        ("0.2.0", true, "update the server"),
        ("1.0.0", true, "update the server"),
        ("0.0.9", false, "build it anew against 0.1.0"),
    ] {
        let problem = problem(&of_version(version)).await;
        let text = problem.to_string();
        match problem {
            LoadProblem::Version { newer: told, .. } => assert_eq!(told, newer, "{text}"),
            other => panic!("{other}"),
        }
        assert!(text.contains(version) && text.contains(advice), "{text}");
    }
}
