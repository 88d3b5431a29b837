//! An auth policy that misbehaves in the way that its settings name: in `configure`, in `identify`, or in `authorize`.

use std::sync::OnceLock;

use antimony::plugin::logging::{Level, log};
use antimony::plugin::types::{Circumstances, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};

wit_bindgen::generate!({ path: "../../../wit", world: "auth-policy" });
export!(Plugin);

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    configure: Way,
    identify: Way,
    authorize: Way,
    describe: Way,
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    #[default]
    Well,
    LoopForever,
    TakeMemory,
    /// Takes memory, and goes on when there is none.
    TakeMemoryAndCope,
    Trap,
    OverflowStack,
    OverflowStackInMemory,
    AnswerALot,
    /// Answers with a text of 100 MiB.
    AnswerEnormously,
    /// Answers with a text that is no UTF-8.
    AnswerNoText,
    LogALot,
    LogControlCharacters,
    Refuse,
    /// Answers with a user who has no id.
    Nobody,
    /// Answers with a user who is in a million collections.
    EverywhereAMember,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        let way = SETTINGS.get().map(|settings| settings.describe).unwrap_or_default();
        let name = if behave(way).is_err() { "not one word".into() } else { "misbehaves".into() };
        Description { name, version: "0.1.0".into(), summary: "Misbehaves as it is told to".into() }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings: Settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        behave(settings.configure)?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn identify(_claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        let way = SETTINGS.get().map(|settings| settings.identify).unwrap_or_default();
        if let Way::Nobody = way {
            return Ok(Some(Identity { id: String::new(), admin: true, collections: vec![] }));
        }
        if let Way::EverywhereAMember = way {
            return Ok(Some(Identity { id: "x".into(), admin: true, collections: vec![String::new(); 1_000_000] }));
        }
        behave(way).map_err(deny)?;
        Ok(None)
    }

    fn authorize(_user: Identity, _action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        behave(SETTINGS.get().map(|settings| settings.authorize).unwrap_or_default()).map_err(deny)
    }
}

fn deny(message: String) -> Denial {
    Denial { rule: "misbehaviour".into(), message }
}

fn behave(way: Way) -> Result<(), String> {
    match way {
        Way::Well | Way::Nobody | Way::EverywhereAMember => {}
        Way::LoopForever => loop {
            std::hint::black_box(());
        },
        Way::TakeMemory => {
            let mut taken = Vec::new();
            loop {
                taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        Way::TakeMemoryAndCope => {
            let mut taken: Vec<Vec<u8>> = Vec::new();
            loop {
                let mut piece = Vec::new();
                if piece.try_reserve_exact(1 << 20).is_err() {
                    break;
                }
                taken.push(std::hint::black_box(piece));
            }
        }
        Way::Trap => panic!("as it was told to"),
        Way::OverflowStack => {
            std::hint::black_box(recurse(std::hint::black_box(1)));
        }
        Way::OverflowStackInMemory => {
            std::hint::black_box(recurse_in_memory(1));
        }
        Way::AnswerALot => return Err("x".repeat(4 << 20)),
        Way::AnswerEnormously => return Err("x".repeat(100 << 20)),
        // Nothing looks at it on the way out.
        Way::AnswerNoText => return Err(unsafe { String::from_utf8_unchecked(vec![b'a', 0xff, 0xc3]) }),
        Way::LogALot => {
            for line in 0..10_000 {
                log(Level::Info, &format!("line {line} of far too many"));
            }
        }
        Way::LogControlCharacters => log(Level::Warn, "first\nsecond \u{1b}[2J"),
        Way::Refuse => return Err("it was told to refuse".into()),
    }
    Ok(())
}

/// Without an end that is ever reached, in locals alone, and nothing that could be turned into a loop.
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { recurse(depth + 1).rotate_left(7) ^ depth }
}

/// The same with what has to lie in memory: overflows the stack that the guest itself keeps there.
fn recurse_in_memory(depth: u64) -> u64 {
    let next = std::hint::black_box(depth + 1);
    if next == 0 { 0 } else { recurse_in_memory(next).wrapping_mul(next) + 1 }
}
