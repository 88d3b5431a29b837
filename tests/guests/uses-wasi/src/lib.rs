//! An auth policy that makes use of WASI as its settings say: it sleeps, holds on to things, or asks for random numbers.

use std::sync::OnceLock;

use antimony::plugin::types::{Circumstances, Identity};
use exports::antimony::plugin::lifecycle::{self, Description};
use exports::antimony::plugin::policy::{Action, Claim, Denial, Guest};
use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::random::random::get_random_bytes;

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:guests;

        world uses-wasi {
            include antimony:plugin/auth-policy@0.1.0;
            import wasi:clocks/monotonic-clock@0.2.0;
            import wasi:random/random@0.2.0;
        }

        package wasi:io@0.2.0 {
            interface poll {
                resource pollable {
                    block: func();
                }
            }
        }

        package wasi:clocks@0.2.0 {
            interface monotonic-clock {
                use wasi:io/poll@0.2.0.{pollable};
                subscribe-duration: func(when: u64) -> pollable;
            }
        }

        package wasi:random@0.2.0 {
            interface random {
                get-random-bytes: func(len: u64) -> list<u8>;
            }
        }
    ",
    world: "test:guests/uses-wasi",
    generate_all,
});
export!(Plugin);

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    configure: Use,
    authorize: Use,
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Use {
    #[default]
    Nothing,
    /// Sleeps for a day.
    Sleep,
    /// Sleeps for a millisecond again and again, which takes hardly any time to compute.
    SleepAgainAndAgain,
    /// Makes handles without an end and keeps them.
    Hoard,
    /// Says in its refusal what it got.
    Random,
    /// Asks for far too much.
    RandomALot,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> Description {
        Description { name: "uses-wasi".into(), version: "0.1.0".into(), summary: "Uses WASI as it is told to".into() }
    }

    fn configure(settings: String) -> Result<(), String> {
        let settings: Settings = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        make_use(settings.configure)?;
        SETTINGS.set(settings).map_err(|_| "configured twice".into())
    }
}

impl Guest for Plugin {
    fn identify(_claims: Vec<Claim>) -> Result<Option<Identity>, Denial> {
        Ok(None)
    }

    fn authorize(_user: Identity, _action: Action, _circumstances: Circumstances) -> Result<(), Denial> {
        let of = SETTINGS.get().map(|settings| settings.authorize).unwrap_or_default();
        make_use(of).map_err(|message| Denial { rule: "wasi".into(), message })
    }
}

fn make_use(of: Use) -> Result<(), String> {
    match of {
        Use::Nothing => Ok(()),
        Use::Sleep => {
            subscribe_duration(86_400_000_000_000).block();
            Ok(())
        }
        Use::SleepAgainAndAgain => loop {
            subscribe_duration(1_000_000).block();
        },
        Use::Hoard => loop {
            std::mem::forget(subscribe_duration(0));
        },
        Use::Random => Err(format!("{:?}", get_random_bytes(32))),
        Use::RandomALot => Err(get_random_bytes(64 << 20).len().to_string()),
    }
}
