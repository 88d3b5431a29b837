//! `cargo fuzz run answers`: see README.md.

#![no_main]

#[path = "../cases/mod.rs"]
#[allow(dead_code, reason = "the other target's part")]
mod cases;

libfuzzer_sys::fuzz_target!(
    init: cases::sow("answers", &cases::answers::seeds()),
    |data: &[u8]| cases::answers::lift(data)
);
