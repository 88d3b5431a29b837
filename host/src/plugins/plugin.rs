//! One loaded plugin, and how it is called.
//!
//! Each call gets an instance of its own, which starts from the snapshot that was taken after `configure` and is gone
//! when the call has returned. So nothing can leak from one user's call into the next. Only where the operator wants it
//! so, instances are used again (see `warm`).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument as _;
use wasmtime::Store;
use wasmtime::component::{Component, Instance, InstancePre};

use super::bindings::antimony::plugin::types::{Circumstances, IdentityParam, IdentityResult};
use super::bindings::exports::antimony::plugin::{formatter, lifecycle, policy, validator};
use super::breaker::Breaker;
use super::config::{BreakerConfig, Budget, Hook, InstanceMode, Mode, OnError};
use super::decision::CallFailure;
use super::engine::Engine;
use super::function::{Function, Signature};
use super::limits::SlowLane;
use super::loader::Origin;
use super::metrics::{Asking, Counts};
use super::state::CallState;
use super::warm::{Live, Use, Warm};

/// What is known of a loaded plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// What it decides.
    pub hook: Hook,
    /// Name in messages.
    pub name: String,
    /// Its version, as it says itself.
    pub version: String,
    /// What it does, in a sentence of its own.
    pub summary: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Where it came from, as it is configured.
    pub path: String,
    /// Whether what it decides counts.
    pub mode: Mode,
    /// What becomes of a question that it fails to answer.
    pub on_error: OnError,
    /// Whether each call gets an instance of its own.
    pub instance: InstanceMode,
}

/// A plugin that is ready to be asked.
pub(super) struct Plugin {
    pub(super) info: PluginInfo,
    pub(super) counts: Counts,
    pub(super) origin: Origin,
    pub(super) breaker: Breaker,
    lane: SlowLane,
    name: Arc<str>,
    budget: Budget,
    wasi: bool,
    engine: Engine,
    pre: InstancePre<CallState>,
    /// Instances that wait for a call; none: each call gets its own.
    warm: Option<Warm>,
    export: Export,
    needs: Needs,
    permits: Semaphore,
    calls: AtomicU64,
}

/// A hook's functions among a component's exports.
///
/// They are looked up one by one, and not through the generated `GuestIndices`: those look up all of an interface's
/// functions in each instance.
pub(super) enum Export {
    Validator { validate: Function<Validate> },
    Policy { identify: Function<Identify>, authorize: Function<Authorize> },
    Formatter { format: Function<Format> },
}

/// The functions' types, as they are bound.
macro_rules! signatures {
    ($($name:ident($($parameter:ty),+) -> $answer:ty;)+) => {
        $(
            pub(super) struct $name;

            impl Signature for $name {
                type Parameters<'a> = ($($parameter,)+);
                type Answer = ($answer,);
            }
        )+
    };
}

signatures! {
    Validate(validator::CommandParam<'a>, validator::Context<'a>)
        -> Result<validator::CommandResult, validator::Rejection>;
    Identify(&'a [policy::Claim<'a>]) -> Result<Option<IdentityResult>, policy::Denial>;
    Authorize(IdentityParam<'a>, policy::Action<'a>, Circumstances) -> Result<(), policy::Denial>;
    Format(formatter::Event<'a>) -> Option<formatter::Status>;
}

impl Export {
    pub(super) fn find(hook: Hook, component: &Component) -> Result<Self, String> {
        let interface = format!("antimony:plugin/{}@{}", hook.interface(), super::shape::VERSION);
        let instance = component.get_export_index(None, interface.as_str());
        let instance = instance.ok_or_else(|| format!("{interface} is not exported"))?;
        let lacks = |name: &str| format!("{interface} lacks the function `{name}`");
        macro_rules! function {
            ($name:literal) => {
                Function::find(component, &instance, $name).ok_or_else(|| lacks($name))?
            };
        }
        Ok(match hook {
            Hook::CommandValidator => Self::Validator { validate: function!("validate") },
            Hook::AuthPolicy => Self::Policy { identify: function!("identify"), authorize: function!("authorize") },
            Hook::StatusFormatter => Self::Formatter { format: function!("format") },
        })
    }

    /// Checks that the functions have the types of the contract.
    fn check(&self, store: &mut Store<CallState>, instance: &Instance) -> wasmtime::Result<()> {
        match self {
            Self::Validator { validate } => validate.check(store, instance),
            Self::Policy { identify, authorize } => {
                identify.check(store, instance)?;
                authorize.check(store, instance)
            }
            Self::Formatter { format } => format.check(store, instance),
        }
    }
}

/// What of [`Plugin`] its loader knows.
pub(super) struct Parts {
    pub(super) origin: Origin,
    pub(super) hook: Hook,
    pub(super) name: Option<String>,
    pub(super) digest: String,
    pub(super) path: String,
    pub(super) mode: Mode,
    pub(super) on_error: OnError,
    pub(super) instance: InstanceMode,
    pub(super) budget: Budget,
    pub(super) breaker: BreakerConfig,
    pub(super) wasi: bool,
    pub(super) engine: Engine,
    pub(super) pre: InstancePre<CallState>,
    pub(super) export: Export,
    pub(super) needs: Needs,
}

/// What one instance takes of the engine's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) memories: u32,
    pub(super) tables: u32,
}

/// A call took longer than it may in all.
struct Elapsed;

/// What `call` comes to, unless it takes longer than `time`.
///
/// Nearly all calls are done when they are polled for the first time, which takes a tick of the clock at most: the time is
/// measured from there, so that those need no timer.
async fn within<T>(time: Duration, call: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut call = pin!(call);
    let mut timer = pin!(None);
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(answer));
        }
        if timer.is_none() {
            // Whatever the call has used of the task's turn, the timer is looked at.
            timer.set(Some(tokio::task::unconstrained(tokio::time::sleep(time))));
        }
        let timer = timer.as_mut().as_pin_mut().expect("it was set just now, or before");
        timer.poll(context).map(|()| Err(Elapsed))
    })
    .await
}

/// One call: a place among those that may run at once, and a store. The permit comes last: whoever it is left to finds
/// the instance gone, or put back.
struct Call<'a> {
    store: Store<CallState>,
    id: u64,
    /// The instance, where it is one that was used before, or may be used again.
    instance: Option<(Instance, Use)>,
    _permit: SemaphorePermit<'a>,
}

macro_rules! call {
    // A macro and not a function: what a call borrows from its arguments differs from one to the next, and there is no
    // way to write down that the future of it is `Send` all the same.
    ($plugin:ident, $asking:ident, $function:expr, $arguments:expr) => {{
        $asking.admit()?;
        let mut call = $plugin.begin().await?;
        // Once more: others of its kind may have failed while this one waited for a place.
        $asking.admit()?;
        let place = call.store.data().limits.place();
        let span = tracing::debug_span!("plugin", name = $plugin.name(), hook = %$plugin.info.hook, call = call.id);
        let answer = {
            // Pinned where it is made, since it is large and whatever wraps it would move it.
            let answer = pin!(async {
                let instance = match call.instance {
                    Some((instance, _)) => instance,
                    None => $plugin.instantiate(&mut call).await?,
                };
                let function = $function.of(&mut call.store, &instance)?;
                function.call_async(&mut call.store, $arguments).await
            });
            within($plugin.budget.wall_clock(), place.run(answer)).instrument(span).await
        };
        let (answer,) = $plugin.finish(call, answer)?;
        Ok(answer)
    }};
}

impl Plugin {
    /// Checks the types of a plugin's exports and asks it who it is.
    pub(super) async fn new(parts: Parts) -> Result<Self, super::error::LoadProblem> {
        use super::error::LoadProblem;
        let contract = |error: wasmtime::Error| LoadProblem::Contract(format!("{error:#}"));
        let lifecycle = lifecycle::GuestIndices::new(&parts.pre).map_err(contract)?;
        let mut plugin = Self {
            info: PluginInfo {
                hook: parts.hook,
                name: String::new(),
                version: String::new(),
                summary: String::new(),
                digest: parts.digest,
                path: parts.path,
                mode: parts.mode,
                on_error: parts.on_error,
                instance: parts.instance,
            },
            counts: Counts::default(),
            origin: parts.origin,
            breaker: Breaker::new(parts.breaker),
            lane: parts.engine.lane().of_one_plugin(),
            name: parts.hook.name().into(),
            budget: parts.budget,
            wasi: parts.wasi,
            engine: parts.engine,
            pre: parts.pre,
            // Only once it is known to be what it should.
            warm: None,
            export: parts.export,
            needs: parts.needs,
            permits: Semaphore::new(usize::try_from(parts.budget.concurrency).unwrap_or(Semaphore::MAX_PERMITS)),
            calls: AtomicU64::new(0),
        };

        // Types first, in an instance of their own: a mistake there is no failure of `describe`.
        let mut call = plugin.begin().await.map_err(LoadProblem::Describe)?;
        let checked = match plugin.pre.instantiate_async(&mut call.store).await {
            Ok(instance) => plugin
                .export
                .check(&mut call.store, &instance)
                .and_then(|()| lifecycle.load(&mut call.store, &instance).map(|_| ())),
            Err(error) => return Err(LoadProblem::Describe(call.store.data().limits.failure(&error))),
        };
        checked.map_err(contract)?;
        drop(call);

        let description = plugin.describe(&lifecycle).await.map_err(LoadProblem::Describe)?;
        let name = parts.name.unwrap_or(description.name);
        if name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(LoadProblem::Description(
                "its name has to be one word of 64 letters at most; the entry's `name` can give it another".into(),
            ));
        }
        let line = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect();
        plugin.name = name.as_str().into();
        plugin.info.name = name;
        plugin.info.version = line(description.version);
        plugin.info.summary = line(description.summary);
        if plugin.info.instance == InstanceMode::Warm {
            tracing::warn!(
                plugin = plugin.name(), hook = %plugin.info.hook,
                "instances of this plugin are used again (`instance: warm`): what it keeps of one user's call is there in the next"
            );
            plugin.warm = Some(Warm::new());
        }
        Ok(plugin)
    }

    /// As if nobody had asked it anything: what it was asked to be tried out doesn't count.
    pub(super) fn forget_trials(&mut self) {
        self.counts = Counts::default();
        self.breaker = Breaker::new(self.origin.entry.breaker);
    }

    /// The name in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where its decisions are written down, if they are.
    pub(super) fn decision_log(&self) -> Option<&super::decision_log::DecisionLog> {
        self.engine.decision_log()
    }

    /// What as many instances as may run at once take of the engine's pool: calls, memories and tables.
    pub(super) fn needs(&self) -> [u32; 3] {
        let calls = self.budget.concurrency;
        [calls, calls.saturating_mul(self.needs.memories), calls.saturating_mul(self.needs.tables)]
    }

    async fn describe(&self, lifecycle: &lifecycle::GuestIndices) -> Result<lifecycle::Description, CallFailure> {
        let mut call = self.begin().await?;
        let place = call.store.data().limits.place();
        let answer = place.run(async {
            let instance = self.pre.instantiate_async(&mut call.store).await?;
            lifecycle.load(&mut call.store, &instance)?.call_describe(&mut call.store).await
        });
        let answer = within(self.budget.wall_clock(), answer).await;
        self.finish(call, answer)
    }

    pub(super) async fn validate(
        &self,
        asking: &Asking<'_>,
        command: validator::CommandParam<'_>,
        context: validator::Context<'_>,
    ) -> Result<Result<validator::CommandResult, validator::Rejection>, CallFailure> {
        let Export::Validator { validate } = &self.export else { return Err(self.wrong_hook()) };
        call!(self, asking, validate, (command, context))
    }

    pub(super) async fn identify(
        &self,
        asking: &Asking<'_>,
        claims: &[policy::Claim<'_>],
    ) -> Result<Result<Option<IdentityResult>, policy::Denial>, CallFailure> {
        let Export::Policy { identify, .. } = &self.export else { return Err(self.wrong_hook()) };
        call!(self, asking, identify, (claims,))
    }

    pub(super) async fn authorize(
        &self,
        asking: &Asking<'_>,
        user: IdentityParam<'_>,
        action: policy::Action<'_>,
        circumstances: Circumstances,
    ) -> Result<Result<(), policy::Denial>, CallFailure> {
        let Export::Policy { authorize, .. } = &self.export else { return Err(self.wrong_hook()) };
        call!(self, asking, authorize, (user, action, circumstances))
    }

    pub(super) async fn format(
        &self,
        asking: &Asking<'_>,
        event: formatter::Event<'_>,
    ) -> Result<Option<formatter::Status>, CallFailure> {
        let Export::Formatter { format } = &self.export else { return Err(self.wrong_hook()) };
        call!(self, asking, format, (event,))
    }

    /// Waits for a place among the calls that may run at once.
    async fn begin(&self) -> Result<Call<'_>, CallFailure> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(self.budget.patience(), self.permits.acquire())
                .await
                .map_err(|_| self.failed(CallFailure::Busy))?
                .expect("the semaphore is never closed"),
        };
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(Live { mut store, instance, use_ }) = self.warm.as_ref().and_then(Warm::take) {
            self.engine.resume(&mut store, self.name.clone(), call, &self.budget);
            return Ok(Call { store, id: call, instance: Some((instance, use_)), _permit: permit });
        }
        let store = self.engine.store(self.name.clone(), call, &self.budget, self.lane.clone(), self.wasi);
        Ok(Call { store, id: call, instance: None, _permit: permit })
    }

    /// Makes the instance of a call.
    async fn instantiate(&self, call: &mut Call<'_>) -> wasmtime::Result<Instance> {
        let instance = self.pre.instantiate_async(&mut call.store).await?;
        if self.warm.is_some() {
            call.instance = Some((instance, Use::new(call.store.data().limits.memory())));
        }
        Ok(instance)
    }

    /// Gives the way that a call ended its name.
    fn finish<T>(&self, call: Call<'_>, answer: Result<wasmtime::Result<T>, Elapsed>) -> Result<T, CallFailure> {
        if self.engine.is_counting() {
            super::author::note_fuel(call.store.get_fuel().unwrap_or(u64::MAX));
        }
        super::record::note_memory(call.store.data().limits.memory());
        if call.store.data().log.is_cut() {
            self.counts.log_was_cut();
        }
        match answer {
            Ok(Ok(answer)) => {
                let Call { store, instance, _permit: permit, .. } = call;
                match (&self.warm, instance) {
                    (Some(warm), Some((instance, use_))) => warm.put(Live { store, instance, use_ }),
                    _ => drop(store),
                }
                drop(permit);
                Ok(answer)
            }
            Ok(Err(error)) => {
                tracing::debug!(plugin = self.name(), error = format!("{error:#}"), "a call failed");
                Err(self.failed(call.store.data().limits.failure(&error)))
            }
            Err(_) => Err(self.failed(CallFailure::TimedOut(self.budget.wall_clock()))),
        }
    }

    /// Logs a failure.
    pub(super) fn failed(&self, failure: CallFailure) -> CallFailure {
        tracing::warn!(plugin = self.name(), hook = %self.info.hook, failure = failure.name(), "plugin failed: {failure}");
        failure
    }

    fn wrong_hook(&self) -> CallFailure {
        self.failed(CallFailure::InvalidAnswer(format!("it is a plugin for {}", self.info.hook)))
    }
}
