//! From an entry of the configuration to a plugin that can be asked.

use std::borrow::Cow;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::builtin;
use super::config::{BUILTIN, Entry, Hook};
use super::engine::{Engine, MAX_MEMORY, MAX_TABLE};
use super::error::{LoadError, LoadProblem, check_budget};
use super::plugin::{Export, Parts, Plugin};
use super::shape;
use super::snapshot::Snapshots;

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

async fn prepare(
    engine: &Engine,
    snapshots: &Snapshots,
    base_dir: &Path,
    hook: Hook,
    entry: &Entry,
) -> Result<Plugin, LoadProblem> {
    check_budget(&entry.budget, MAX_MEMORY, MAX_TABLE)?;
    let bytes = read(base_dir, &entry.path).await?;
    let shape = shape::inspect(&bytes, hook)?;
    let snapshot = snapshots.get(engine, &bytes, &entry.settings_json(), shape, entry.budget).await?;

    let compiler = engine.wasmtime().clone();
    // Compiling takes milliseconds to seconds, and reading compiled code from disk is no task for a worker either.
    let component = tokio::task::spawn_blocking(move || Component::new(&compiler, &snapshot))
        .await
        .map_err(|error| LoadProblem::Host(error.to_string()))?
        .map_err(|error| LoadProblem::Contract(format!("{error:#}")))?;
    let linker = engine.linker(shape.wasi).map_err(|error| LoadProblem::Host(error.to_string()))?;
    let contract = |error: wasmtime::Error| LoadProblem::Contract(format!("{error:#}"));
    let pre = linker.instantiate_pre(&component).map_err(contract)?;
    let export = Export::find(hook, &component).map_err(LoadProblem::Contract)?;
    Plugin::new(Parts {
        hook,
        name: entry.name.clone(),
        digest: super::source::hex_digest(Sha256::digest(&bytes)),
        path: entry.path.clone(),
        mode: entry.mode,
        budget: entry.budget,
        wasi: shape.wasi,
        engine: engine.clone(),
        pre,
        export,
    })
    .await
}

async fn read(base_dir: &Path, path: &str) -> Result<Cow<'static, [u8]>, LoadProblem> {
    if let Some(name) = path.strip_prefix(BUILTIN) {
        return builtin::find(name).map(Cow::Borrowed).ok_or_else(|| LoadProblem::NoSuchBuiltin(builtin::names()));
    }
    tokio::fs::read(base_dir.join(path)).await.map(Cow::Owned).map_err(LoadProblem::Unreadable)
}
