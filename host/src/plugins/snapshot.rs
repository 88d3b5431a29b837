//! Configuring a plugin once: its settings go in, and a component comes out that starts already configured.
//!
//! `configure` runs in an instance that is instrumented so that its memory and globals can be read back afterwards; what
//! they hold then becomes the initial state of a new component. Snapshots are kept on disk by the digest of everything
//! that they depend on, so that a start usually makes none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime_wizer::{WasmtimeWizerComponent, Wizer};

use super::bindings::exports::antimony::plugin::lifecycle;
use super::config::Budget;
use super::engine::{Engine, private_dir};
use super::error::LoadProblem;
use super::files::write_atomically;
use super::shape::Shape;

/// What snapshots look like, and what makes them: another version of either makes other snapshots.
const FORMAT: &str = "antimony snapshot 1, wasmtime-wizer 48.0.8";
/// How long `configure` may compute: it may build what saves time in every call.
const TIME: Duration = Duration::from_secs(2);
/// How long `configure` may last in all, so that no plugin keeps a server from starting.
const WALL_CLOCK: Duration = Duration::from_secs(5);

/// Where snapshots are kept.
#[derive(Clone)]
pub(super) struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    /// Keeps them below `cache_dir`.
    pub(super) fn new(cache_dir: &Path) -> Self {
        Self { dir: cache_dir.join("snapshots") }
    }

    /// The snapshot of `component` after `configure(settings)`; taken now if there is none.
    pub(super) async fn get(
        &self,
        engine: &Engine,
        component: &[u8],
        settings: &str,
        shape: Shape,
        budget: Budget,
    ) -> Result<Vec<u8>, LoadProblem> {
        let path = self.dir.join(format!("{}.wasm", key(component, settings)));
        if let Some(snapshot) = read(&path) {
            return Ok(snapshot);
        }
        if super::config::Budget::is_interpreter(component.len()) {
            tracing::info!(
                bytes = component.len(),
                "a plugin with an interpreter in it is configured and compiled, which takes some seconds, once for these settings"
            );
        }
        let snapshot = take(engine.clone(), component.to_vec(), settings.to_owned(), shape, budget).await?;
        if let Err(error) = private_dir(&self.dir).and_then(|()| write(&path, &snapshot)) {
            tracing::warn!(path = %path.display(), %error, "a configured plugin can't be kept: the next start configures it anew");
        }
        Ok(snapshot)
    }
}

fn key(component: &[u8], settings: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [FORMAT.as_bytes(), component, settings.as_bytes()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    super::source::hex_digest(hasher.finalize())
}

/// A file holds the digest of a snapshot and the snapshot. One that doesn't fit its digest counts as not there, and is
/// replaced.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut content = std::fs::read(path).ok()?;
    if content.len() < 32 {
        return None;
    }
    let snapshot = content.split_off(32);
    if Sha256::digest(&snapshot)[..] == content[..] {
        return Some(snapshot);
    }
    tracing::warn!(path = %path.display(), "a kept snapshot of a plugin is damaged and is made anew");
    None
}

fn write(path: &Path, snapshot: &[u8]) -> std::io::Result<()> {
    let mut content = Sha256::digest(snapshot).to_vec();
    content.extend_from_slice(snapshot);
    write_atomically(path, &content)
}

/// Configures a component and takes the snapshot, on a thread of its own: it compiles, and the guest may compute for
/// seconds. What the instrumentation can't cope with, it may panic about; that ends there.
async fn take(
    engine: Engine,
    component: Vec<u8>,
    settings: String,
    shape: Shape,
    budget: Budget,
) -> Result<Vec<u8>, LoadProblem> {
    let runtime = tokio::runtime::Handle::current();
    let taken =
        tokio::task::spawn_blocking(move || runtime.block_on(configure(&engine, &component, &settings, shape, budget)));
    taken.await.unwrap_or_else(|_| Err(LoadProblem::Snapshot("the snapshot tool does not support it".into())))
}

async fn configure(
    engine: &Engine,
    component: &[u8],
    settings: &str,
    shape: Shape,
    budget: Budget,
) -> Result<Vec<u8>, LoadProblem> {
    let contract = |error: wasmtime::Error| LoadProblem::Contract(format!("{error:#}"));
    let unsupported = |error: wasmtime::Error| LoadProblem::Snapshot(format!("{error:#}"));

    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(component).map_err(unsupported)?;
    let instrumented = Component::new(engine.wasmtime(), &instrumented).map_err(contract)?;
    let linker = engine.linker(shape.wasi).map_err(|error| LoadProblem::Host(error.to_string()))?;
    let pre = linker.instantiate_pre(&instrumented).map_err(contract)?;
    let indices = lifecycle::GuestIndices::new(&pre).map_err(contract)?;

    let time_ms = u32::try_from(TIME.as_millis()).expect("it is a few seconds");
    let wall_clock_ms = u32::try_from(WALL_CLOCK.as_millis()).ok();
    let budget = Budget { time_ms, wall_clock_ms, ..budget };
    let mut store = engine.store("configure".into(), 0, &budget, engine.lane().clone(), shape.wasi);
    store.data_mut().log.close();

    let place = store.data().limits.place();
    let call = place.run(async {
        let instance = pre.instantiate_async(&mut store).await?;
        let answer = indices.load(&mut store, &instance)?.call_configure(&mut store, settings).await?;
        Ok((instance, answer))
    });
    let outcome = tokio::time::timeout(budget.wall_clock(), call).await;
    let (instance, answer) = match outcome {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => return Err(LoadProblem::Configure(store.data().limits.failure(&error))),
        Err(_) => return Err(LoadProblem::Configure(super::decision::CallFailure::TimedOut(budget.wall_clock()))),
    };
    answer.map_err(LoadProblem::Settings)?;

    // The memory is now read out through functions that were added to the component: that is the host's own doing, and
    // as much as the memory is large.
    store.data_mut().limits.lift();
    store.set_hostcall_fuel(usize::MAX);
    let mut instance = WasmtimeWizerComponent { store: &mut store, instance };
    wizer.snapshot_component(&context, &mut instance).await.map_err(unsupported)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_counts_as_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        assert_eq!(read(&path), None);
        write(&path, b"snapshot").unwrap();
        assert_eq!(read(&path).as_deref(), Some(&b"snapshot"[..]));

        let mut content = std::fs::read(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &content).unwrap();
        assert_eq!(read(&path), None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(read(&path), None);
    }

    #[test]
    fn the_key_tells_component_and_settings_apart() {
        assert_ne!(key(b"ab", "c"), key(b"a", "bc"));
        assert_ne!(key(b"a", "{}"), key(b"a", r#"{"x":1}"#));
        assert_eq!(key(b"a", "{}"), key(b"a", "{}"));
    }

    #[test]
    fn the_format_names_the_version_of_the_tool_that_is_used() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"wasmtime-wizer\"")).unwrap();
        let version = entry.lines().find_map(|line| line.strip_prefix("version = ")).unwrap().trim_matches('"');
        assert!(FORMAT.ends_with(&format!("wasmtime-wizer {version}")), "{version}");
    }
}
