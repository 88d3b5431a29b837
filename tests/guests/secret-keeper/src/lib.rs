//! An auth policy that tries to learn in one call what another call was about: it keeps what it sees, and looks for what
//! others left behind, in its statics, on its heap and in all of its memory. A refusal tells what it found.

use std::sync::Mutex;

use antimony::plugin::types::{Circumstances, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });
export!(Plugin);

/// What earlier calls were about.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let summary = "Remembers what it should forget".into();
        Description { name: "secret-keeper".into(), version: "0.1.0".into(), summary }
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
        let mut seen = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(other) = seen.first() {
            return Err(Denial { rule: "kept".into(), message: other.clone() });
        }
        if let Some(other) = search(user.id.as_bytes()) {
            return Err(Denial { rule: "found".into(), message: other });
        }
        // Once where it belongs, and once where nothing points to.
        seen.push(user.id.clone());
        let scattered: Vec<String> = (0..100).map(|_| user.id.clone()).collect();
        std::mem::forget(scattered);
        Ok(())
    }
}

/// Looks for `zqx-` followed by another letter than in `own`, through all of the memory.
fn search(own: &[u8]) -> Option<String> {
    let own = *own.last()?;
    let end = core::arch::wasm32::memory_size(0) << 16;
    let byte = |at: usize| unsafe { (at as *const u8).read_volatile() };
    (16..end.saturating_sub(8)).find_map(|at| {
        // Letter by letter, so that what is looked for is nowhere in memory itself.
        let found = byte(at) == b'z'
            && byte(at + 1) == b'q'
            && byte(at + 2) == b'x'
            && byte(at + 3) == b'-'
            && byte(at + 4) != own;
        found.then(|| format!("another call's secret, ending in {}", char::from(byte(at + 4))))
    })
}
