//! An auth policy that counts the calls of its instance, and tells the count in its refusal. What else it does, the name
//! of the user says.

use std::sync::atomic::{AtomicU32, Ordering};

use antimony::plugin::logging::{Level, log};
use antimony::plugin::types::{Circumstances, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });
export!(Plugin);

static CALLS: AtomicU32 = AtomicU32::new(0);

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        Description { name: "counter".into(), version: "0.1.0".into(), summary: "Counts calls".into() }
    }

    fn configure(_settings: String) -> Result<(), String> {
        Ok(())
    }
}

impl Guest for Plugin {
    fn identify(_claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        Ok(None)
    }

    fn authorize(user: Identity, _action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        match user.id.as_str() {
            "trap" => core::arch::wasm32::unreachable(),
            "loop" => loop {
                std::hint::black_box(());
            },
            "answer-a-lot" => return Err(Denial { rule: "count".into(), message: "x".repeat(2 << 20) }),
            // A mebibyte that stays.
            "grow" => {
                core::arch::wasm32::memory_grow(0, 16);
            }
            // More than it gets, which it copes with.
            "ask-for-too-much" => {
                core::arch::wasm32::memory_grow(0, 16_384);
            }
            "log" => log(Level::Info, &"x".repeat(4_096)),
            _ => {}
        }
        Err(Denial { rule: "count".into(), message: calls.to_string() })
    }
}
