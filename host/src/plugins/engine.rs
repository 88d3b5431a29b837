//! The engine that all plugins run on, and its clock.
//!
//! One engine per [`super::PluginHost`]: its settings, the pool that instances come from, the cache of compiled code,
//! and the thread that ticks once a millisecond so that a guest which computes is interrupted in time (see `clock`).
//!
//! A call is cheap (some microseconds, instantiation included) because nothing in it asks the kernel for anything: the
//! pool keeps the memory of ended instances mapped and resident, and only writes back what the next one starts from. For
//! those that start from much, it asks what of it was written to (see [`Memory`]).

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use super::LoadError;
use super::bindings::antimony::plugin::logging;
use super::clock::Clock;
use super::config::Budget;
use super::decision_log::DecisionLog;
use super::host::LogBudget;
use super::limits::{Limits, MEMORIES, PARTS, SlowLane, TABLES};
use super::state::CallState;

/// Calls that can run at once, over all plugins. The pool reserves address space for as many, not memory.
pub(super) const CALLS: u32 = 512;
/// What all calls together can have at once. The entries of a configuration must not be able to ask for more.
pub(super) const POOL: [(&str, u32); 3] = [("calls", CALLS), ("memories", CALLS + CALLS / 4), ("tables", CALLS * 4)];
/// What the pool has besides, for plugins while they are loaded.
const SPARE: u32 = 16;
/// The most memory that an entry can be granted, in bytes.
pub(super) const MAX_MEMORY: usize = 512 << 20;
/// The largest tables that an entry can be granted, in elements.
pub(super) const MAX_TABLE: usize = 50_000;

/// Handles to resources that an instance may hold at once, its own ones included.
const MAX_HANDLES: usize = 1024;

/// Bytes of memory that an instance may begin with and still count as small.
const SMALL: u64 = 128 << 10;
/// What an ended instance that began with more keeps resident, of what was written to. Every place in the pool that was
/// ever in use keeps as much at most, for good: more would soon be gigabytes.
const KEPT_OF_LARGE: usize = 1 << 20;

/// How the memory of instances becomes again what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// All of it is written anew, which takes no system call.
    Small,
    /// The kernel is asked which pages were written to, and only those are written anew: that takes a microsecond, however
    /// much lies untouched, such as large settings or an interpreter. Before Linux 6.7 it can't say.
    Large,
}

/// The engine.
#[derive(Clone)]
pub(super) struct Engine {
    wasmtime: wasmtime::Engine,
    cache: Option<Cache>,
    clock: Clock,
    /// What those run on that begin with much memory, once there is one.
    large: Arc<Mutex<Option<(wasmtime::Engine, Clock)>>>,
    lane: SlowLane,
    counting: bool,
    decisions: Arc<OnceLock<DecisionLog>>,
}

impl Engine {
    /// Starts an engine that keeps compiled code below `cache_dir`. Where nothing can be kept there, it does without.
    pub(super) fn start(cache_dir: &Path) -> Result<Self, LoadError> {
        Self::start_as(cache_dir, false)
    }

    /// Starts one that counts the instructions of calls, for measuring: its code is slower.
    pub(super) fn start_counting(cache_dir: &Path) -> Result<Self, LoadError> {
        Self::start_as(cache_dir, true)
    }

    fn start_as(cache_dir: &Path, counting: bool) -> Result<Self, LoadError> {
        let cache = code_cache(&cache_dir.join("code"));
        let (wasmtime, clock) = run(Memory::Small, cache.clone(), counting)?;
        let (large, lane, decisions) = (Arc::default(), SlowLane::new(), Arc::default());
        Ok(Self { wasmtime, cache, clock, large, lane, counting, decisions })
    }

    /// The same engine, for instances that begin with `memory` bytes.
    pub(super) fn fitting(&self, memory: u64) -> Result<Self, LoadError> {
        if memory <= SMALL {
            return Ok(self.clone());
        }
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        let (wasmtime, clock) = match &*large {
            Some(large) => large.clone(),
            None => large.insert(run(Memory::Large, self.cache.clone(), self.counting)?).clone(),
        };
        Ok(Self { wasmtime, clock, ..self.clone() })
    }

    /// Has what its plugins decide written down from now on. Once only.
    pub(super) fn log_decisions(&self, log: DecisionLog) {
        // A second log would be of another server.
        let _ = self.decisions.set(log);
    }

    pub(super) fn decision_log(&self) -> Option<&DecisionLog> {
        self.decisions.get()
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Whether it counts the instructions of calls.
    pub(super) fn is_counting(&self) -> bool {
        self.counting
    }

    /// Where the slow calls of all plugins wait for each other.
    pub(super) fn lane(&self) -> &SlowLane {
        &self.lane
    }

    /// How many components were found compiled, and how many were not.
    pub(super) fn cache_use(&self) -> (usize, usize) {
        self.cache.as_ref().map(|cache| (cache.cache_hits(), cache.cache_misses())).unwrap_or_default()
    }

    /// A store for one instance of `plugin`, whose slow calls wait in `lane`. `wasi`: its component imports WASI.
    pub(super) fn store(
        &self,
        plugin: Arc<str>,
        call: u64,
        budget: &Budget,
        lane: SlowLane,
        wasi: bool,
    ) -> Store<CallState> {
        let limits = Limits::new(*budget, lane);
        let log = LogBudget::new(plugin, call, budget.log_bytes);
        let mut store = Store::new(&self.wasmtime, CallState::new(limits, log, self.clock.run(), wasi));
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(budget.answer_bytes);
        store.set_max_component_handles(MAX_HANDLES);
        if self.counting {
            store.set_fuel(u64::MAX).expect("an engine that counts has fuel");
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().limits.tick()));
        store
    }

    /// Makes a store from [`Self::store`], in which a call has ended well, ready for another.
    pub(super) fn resume(&self, store: &mut Store<CallState>, plugin: Arc<str>, call: u64, budget: &Budget) {
        let log = LogBudget::new(plugin, call, budget.log_bytes);
        store.data_mut().resume(log, self.clock.run());
        store.set_hostcall_fuel(budget.answer_bytes);
        store.set_epoch_deadline(1);
    }

    /// What a component may import: logging, and WASI where `wasi` says so, with nothing behind it.
    pub(super) fn linker(&self, wasi: bool) -> Result<Linker<CallState>, LoadError> {
        let mut linker = Linker::new(&self.wasmtime);
        let link = |linker: &mut Linker<CallState>| -> wasmtime::Result<()> {
            logging::add_to_linker::<CallState, HasSelf<CallState>>(linker, |state| state)?;
            if wasi {
                wasmtime_wasi::p2::add_to_linker_async(linker)?;
            }
            Ok(())
        };
        link(&mut linker).map_err(|error| LoadError::Engine(format!("{error:#}")))?;
        Ok(linker)
    }
}

/// Starts what guests run on, and its clock.
fn run(memory: Memory, cache: Option<Cache>, counting: bool) -> Result<(wasmtime::Engine, Clock), LoadError> {
    let mut config = config(memory);
    config.cache(cache).consume_fuel(counting);
    let wasmtime = wasmtime::Engine::new(&config)
        .map_err(|error| LoadError::Engine(format!("WebAssembly can't run on this machine: {error:#}")))?;
    let clock = Clock::start(&wasmtime)
        .map_err(|error| LoadError::Engine(format!("the clock of the plugins can't start: {error}")))?;
    Ok((wasmtime, clock))
}

fn config(memory: Memory) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let [(_, calls), (_, memories), (_, tables)] = POOL;
    pool.total_component_instances(calls + SPARE)
        .total_stacks(calls + SPARE)
        .total_core_instances((calls + SPARE) * PARTS)
        .total_memories(memories + SPARE * MEMORIES)
        .total_tables(tables + SPARE * TABLES)
        .max_tables_per_module(4)
        .max_core_instances_per_component(PARTS)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memory_size(MAX_MEMORY)
        .table_elements(MAX_TABLE)
        // What an ended instance had resident stays so, up to here, and is cleaned by hand: below some 256 KiB that is
        // faster than to ask the kernel, and above it the kernel is asked for the rest.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(64 << 10);
    if memory == Memory::Large && PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(KEPT_OF_LARGE);
    }
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        // One answer for one question, on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_threads(false);
    config
}

/// Wasmtime's own cache of compiled code, keyed by content, settings and version. What it reads is run as native code,
/// so the folder is for the server's user alone.
fn code_cache(dir: &Path) -> Option<Cache> {
    let open = || -> Result<Cache, String> {
        private_dir(dir).map_err(|error| error.to_string())?;
        let dir = dir.canonicalize().map_err(|error| error.to_string())?;
        let mut config = CacheConfig::new();
        config.with_directory(dir);
        Cache::new(config).map_err(|error| format!("{error:#}"))
    };
    open()
        .inspect_err(|error| {
            tracing::warn!(dir = %dir.display(), error, "compiled plugins are not kept: every start compiles them anew");
        })
        .ok()
}

/// Makes a folder that only this user can read or write.
pub(super) fn private_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
