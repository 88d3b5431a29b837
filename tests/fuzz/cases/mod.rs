//! What is fuzzed: [`loader`] takes bytes for a component, [`answers`] for what a component answers. Each has one function
//! that takes one input and panics if anything about its outcome is not as it has to be.
//!
//! `tests/fuzz/targets` hands them to libFuzzer; `tests/plugins/fuzzed.rs` runs them on a fixed number of inputs.

pub mod answers;
mod companion;
mod guest;
pub mod loader;

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, Once, PoisonError};

/// The folder of the project.
fn root() -> PathBuf {
    let begin = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = begin.ancestors().find(|dir| dir.join("wit").is_dir() && dir.join("plugins/prebuilt").is_dir());
    root.expect("this is a part of the project").to_owned()
}

/// Puts the inputs to begin with where `cargo fuzz run` looks for them.
pub fn sow(target: &str, seeds: &[Vec<u8>]) {
    let corpus = root().join("tests/fuzz/corpus").join(target);
    std::fs::create_dir_all(&corpus).expect("the corpus has its place");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(corpus.join(format!("seed-{number}")), seed).expect("there is room for it");
    }
}

/// The runtime that everything is asked from.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("the runtime can be started")
    });
    &RUNTIME
}

/// Where each panic was, on whatever thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs one case. A panic anywhere meanwhile, also one that was caught, makes it fail; but those of the tool that takes
/// snapshots, which the loader contains and turns into an error.
fn no_panic<T>(case: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map_or_else(String::new, ToString::to_string);
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
            if !place.contains("wasmtime-wizer-") {
                // Past the test harness, which would keep it to itself, and no macro, which lints forbid.
                let line = format!("panicked at {place}: {text}\n");
                let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        }));
    });
    let outcome = case();
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(panics.is_empty(), "something panicked on the way: {}", panics.concat());
    outcome
}
