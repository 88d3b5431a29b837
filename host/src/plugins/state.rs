//! What the host keeps for one instance while a call runs in it.

use wasmtime_wasi::{Deterministic, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::clock::Running;
use super::host::LogBudget;
use super::limits::Limits;

/// Resources of WASI that a call may hold at once: it has no use for more than a few.
const MAX_RESOURCES: usize = 1024;
/// The most random bytes that a guest gets at a time. They are made while everything else on the thread waits.
const MAX_RANDOM: u64 = 64 << 10;

/// The host's side of an instance.
pub(super) struct CallState {
    pub(super) limits: Limits,
    pub(super) log: LogBudget,
    wasi: Option<Box<Wasi>>,
    running: Option<Running>,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl CallState {
    /// `wasi`: the component imports WASI.
    pub(super) fn new(limits: Limits, log: LogBudget, running: Running, wasi: bool) -> Self {
        let wasi = wasi.then(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(MAX_RESOURCES);
            Box::new(Wasi { ctx: empty_wasi(), table })
        });
        Self { limits, log, wasi, running: Some(running) }
    }

    /// No call runs in the instance until [`Self::resume`].
    pub(super) fn rest(&mut self) {
        self.running = None;
    }

    /// Another call begins in the instance. What it holds of WASI stays, since the guest may refer to it.
    pub(super) fn resume(&mut self, log: LogBudget, running: Running) {
        self.limits.renew();
        self.log = log;
        self.running = Some(running);
    }
}

/// WASI with nothing behind it: no files, environment, arguments, network or streams. Its clocks stand still, and its
/// random numbers are the same in every call, so that a decision depends on what the call passes and on nothing else.
fn empty_wasi() -> WasiCtx {
    WasiCtxBuilder::new()
        .wall_clock(NoClock)
        .monotonic_clock(NoClock)
        .secure_random(no_chance())
        .insecure_random(no_chance())
        .insecure_random_seed(0)
        .max_random_size(MAX_RANDOM)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// The same bytes again and again. Nothing that a plugin does may rest on their being secret, and it can't keep secrets
/// from one call to the next in any case.
fn no_chance() -> Deterministic {
    Deterministic::new(vec![0x6e, 0x6f, 0x63, 0x68, 0x61, 0x6e, 0x63, 0x65])
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
