//! From an entry of the configuration to a plugin that can be asked.

use std::borrow::Cow;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::builtin;
use super::config::{BUILTIN, Entry, Hook};
use super::engine::{CALLS, Engine, MAX_MEMORY, MAX_TABLE, POOL};
use super::error::{LoadError, LoadProblem, check_budget};
use super::plugin::{Export, Needs, Parts, Plugin};
use super::shape;
use super::snapshot::Snapshots;

/// What a plugin was loaded from: two of the same would be the same plugin.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) entry: Entry,
    /// The contents of its files; `None`: one can't be read.
    files: Option<[u8; 32]>,
}

impl Origin {
    /// What loading this entry now would load, or something older if its files change meanwhile.
    pub(super) async fn of(base_dir: &Path, entry: &Entry) -> Self {
        let mut hasher = Sha256::new();
        let mut readable = true;
        for path in std::iter::once(&entry.path).chain(&entry.golden) {
            match read(base_dir, path).await {
                Ok(content) => hasher.update(Sha256::digest(&content)),
                Err(_) => readable = false,
            }
        }
        Self { entry: entry.clone(), files: readable.then(|| hasher.finalize().into()) }
    }

    /// Whether loading either makes the same plugin.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.entry == other.entry && self.files.is_some() && self.files == other.files
    }
}

/// Loads one plugin. `place` counts from 1.
pub(super) async fn load(
    engine: &Engine,
    snapshots: &Snapshots,
    base_dir: &Path,
    hook: Hook,
    place: usize,
    entry: &Entry,
) -> Result<Plugin, LoadError> {
    prepare(engine, snapshots, base_dir, hook, entry).await.map_err(|problem| LoadError::Plugin {
        hook,
        place,
        path: entry.path.clone(),
        problem: Box::new(problem),
    })
}

/// Checks that as many calls as the entries of all hooks may have at once find what they need: otherwise one plugin could
/// keep others from answering.
pub(super) fn check_pool<'a>(plugins: impl Iterator<Item = (usize, &'a Plugin)>) -> Result<(), LoadError> {
    let mut taken = [0_u32; 3];
    for (place, plugin) in plugins {
        for (index, (what, most)) in POOL.into_iter().enumerate() {
            let needs = plugin.needs()[index];
            let left = most - taken[index];
            if needs > left {
                let problem = format!(
                    "`concurrency` is too high: all plugins together can have {most} {what} at once, of which {left} \
                     are left, and this many calls of it take {needs}"
                );
                let problem = Box::new(LoadProblem::Budget(problem));
                return Err(LoadError::Plugin {
                    hook: plugin.info.hook,
                    place,
                    path: plugin.info.path.clone(),
                    problem,
                });
            }
            taken[index] += needs;
        }
    }
    Ok(())
}

pub(super) async fn prepare(
    engine: &Engine,
    snapshots: &Snapshots,
    base_dir: &Path,
    hook: Hook,
    entry: &Entry,
) -> Result<Plugin, LoadProblem> {
    check_budget(&entry.budget, MAX_MEMORY, MAX_TABLE, CALLS)?;
    let origin = Origin::of(base_dir, entry).await;
    let on_error = entry.on_error(hook).map_err(LoadProblem::OnError)?;
    let bytes = read(base_dir, &entry.path).await?;
    let digest = super::source::hex_digest(Sha256::digest(&bytes));
    if let Some(expected) = entry.sha256.as_ref().filter(|expected| expected.as_str() != digest) {
        return Err(LoadProblem::Digest { expected: expected.as_str().into(), found: digest });
    }
    let budget = entry.budget.for_component(bytes.len());
    let shape = shape::inspect(&bytes, hook)?;
    shape.check_grants(entry)?;
    let snapshot = snapshots.get(engine, &bytes, &entry.settings_json(), shape, budget).await;
    let snapshot = snapshot.map_err(|problem| shape.explain(problem))?;

    let engine = engine.fitting(shape::memory(&snapshot)).map_err(|error| LoadProblem::Host(error.to_string()))?;
    let compiler = engine.wasmtime().clone();
    // Compiling takes milliseconds to seconds, and reading compiled code from disk is no task for a worker either.
    let component = tokio::task::spawn_blocking(move || Component::new(&compiler, &snapshot))
        .await
        .map_err(|error| LoadProblem::Host(error.to_string()))?
        .map_err(|error| LoadProblem::Contract(format!("{error:#}")))?;
    let linker = engine.linker(shape.wasi).map_err(|error| LoadProblem::Host(error.to_string()))?;
    let contract = |error: wasmtime::Error| LoadProblem::Contract(format!("{error:#}"));
    let pre = linker.instantiate_pre(&component).map_err(contract)?;
    let required = component.resources_required();
    let required = required.ok_or_else(|| LoadProblem::Contract("it imports modules".into()))?;
    let needs = Needs { memories: required.num_memories, tables: required.num_tables };
    let export = Export::find(hook, &component).map_err(LoadProblem::Contract)?;
    let mut plugin = Plugin::new(Parts {
        origin,
        hook,
        name: entry.name.clone(),
        digest,
        path: entry.path.clone(),
        mode: entry.mode,
        on_error,
        instance: entry.instance,
        budget,
        breaker: entry.breaker,
        wasi: shape.wasi,
        engine,
        pre,
        export,
        needs,
    })
    .await?;
    for golden in &entry.golden {
        super::golden::check(&plugin, &base_dir.join(golden)).await.map_err(LoadProblem::Golden)?;
    }
    plugin.forget_trials();
    Ok(plugin)
}

pub(super) async fn read(base_dir: &Path, path: &str) -> Result<Cow<'static, [u8]>, LoadProblem> {
    if let Some(name) = path.strip_prefix(BUILTIN) {
        return builtin::find(name).map(Cow::Borrowed).ok_or_else(|| LoadProblem::NoSuchBuiltin(builtin::names()));
    }
    tokio::fs::read(base_dir.join(path)).await.map(Cow::Owned).map_err(LoadProblem::Unreadable)
}
