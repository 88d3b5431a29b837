//! `cargo fuzz run loader`: see README.md.

#![no_main]

#[path = "../cases/mod.rs"]
#[allow(dead_code, reason = "the other target's part")]
mod cases;

libfuzzer_sys::fuzz_target!(
    init: cases::sow("loader", &cases::loader::seeds()),
    |data: &[u8]| cases::loader::load(data)
);
