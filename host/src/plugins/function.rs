//! Functions that a plugin exports: their types are checked once, when it is loaded, and taken for granted after that.
//!
//! Wasmtime compares the whole type of a function (every record, field and case that it mentions) whenever it is looked
//! up in an instance. Each call has an instance of its own, so that would be a sixth of what a decision costs, for an
//! answer that can't change: an export's type is a property of the component that all of these instances are of.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc};

use super::state::CallState;

/// What a function is called with, and what it answers.
pub(super) trait Signature: 'static {
    /// Its parameters, which may borrow from the host.
    type Parameters<'a>: ComponentNamedList + Lower + Send + Sync;
    /// Its answer.
    type Answer: ComponentNamedList + Lift + Send + Sync + 'static;
}

/// One exported function of one component.
pub(super) struct Function<S> {
    index: ComponentExportIndex,
    /// Its type was found to be that of `S`.
    is_checked: AtomicBool,
    signature: PhantomData<fn() -> S>,
}

impl<S: Signature> Function<S> {
    /// Finds `name` in an interface that `component` exports. None: it isn't there.
    pub(super) fn find(component: &Component, interface: &ComponentExportIndex, name: &str) -> Option<Self> {
        let index = component.get_export_index(Some(interface), name)?;
        Some(Self { index, is_checked: AtomicBool::new(false), signature: PhantomData })
    }

    /// Checks its type, in any instance of its component.
    pub(super) fn check(&self, store: &mut Store<CallState>, instance: &Instance) -> wasmtime::Result<()> {
        instance.get_typed_func::<S::Parameters<'_>, S::Answer>(store, self.index)?;
        self.is_checked.store(true, Ordering::Release);
        Ok(())
    }

    /// The function in an instance of its component.
    #[allow(unsafe_code, reason = "its type was checked; to check it for each call costs as much as the call")]
    pub(super) fn of<'a>(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
    ) -> wasmtime::Result<TypedFunc<S::Parameters<'a>, S::Answer>> {
        if !self.is_checked.load(Ordering::Acquire) {
            return instance.get_typed_func(store, self.index);
        }
        let function = instance.get_func(store, self.index);
        let function = function.ok_or_else(|| wasmtime::format_err!("it is an instance of another component"))?;
        // SAFETY: `new_unchecked` wants a function of exactly these types. `check` saw wasmtime compare them with those
        // of this export. The index names the component that it is of, and is not found in an instance of any other; and
        // the exports of all instances of one component are of the same types, but for resources, which occur in none of
        // our signatures.
        Ok(unsafe { TypedFunc::new_unchecked(function) })
    }
}
