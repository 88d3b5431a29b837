//! What the host keeps for one instance while a call runs in it.

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::clock::Running;
use super::host::LogBudget;
use super::limits::Limits;

/// The host's side of an instance.
pub(super) struct CallState {
    pub(super) limits: Limits,
    pub(super) log: LogBudget,
    wasi: Option<Box<Wasi>>,
    _running: Running,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl CallState {
    /// `wasi`: the component imports WASI.
    pub(super) fn new(limits: Limits, log: LogBudget, running: Running, wasi: bool) -> Self {
        let wasi = wasi.then(|| Box::new(Wasi { ctx: empty_wasi(), table: ResourceTable::new() }));
        Self { limits, log, wasi, _running: running }
    }
}

/// WASI with nothing behind it: no files, environment, arguments, network or streams. Its clocks stand still, so that a
/// decision depends on what the call passes and on nothing else.
fn empty_wasi() -> WasiCtx {
    WasiCtxBuilder::new()
        .wall_clock(NoClock)
        .monotonic_clock(NoClock)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

struct NoClock;

impl wasmtime_wasi::HostWallClock for NoClock {
    fn resolution(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1)
    }

    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

impl wasmtime_wasi::HostMonotonicClock for NoClock {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("WASI is linked only for components whose state has a context");
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}
