//! What `cargo fuzz` runs for hours (see `tests/fuzz`), on a fixed number of inputs that are the same each time.

use crate::alone::{elsewhere, grown, resident};

#[path = "../fuzz/cases/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz targets are other programs")]
mod cases;

/// How much more may be resident after all of it than after its first part: what stays mapped of instances, and what the
/// allocator keeps.
const GROWTH: usize = 16 << 20;

/// Seeds, and then as many inputs that differ from them in some bytes or are only noise.
fn inputs(seeds: Vec<Vec<u8>>, count: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: usize| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    };
    let mut inputs = seeds.clone();
    while inputs.len() < count {
        let mut input = seeds[below(seeds.len())].clone();
        if below(4) == 0 {
            input = (0..16 + below(400)).map(|_| below(256) as u8).collect();
        }
        for _ in 0..=below(12) {
            let place = below(input.len());
            input[place] = below(256) as u8;
        }
        inputs.push(input);
    }
    inputs
}

fn run(inputs: &[Vec<u8>], case: fn(&[u8])) {
    let (first, rest) = inputs.split_at(inputs.len() / 2);
    first.iter().for_each(|input| case(input));
    let before = resident();
    rest.iter().for_each(|input| case(input));
    grown(before, GROWTH);
}

#[test]
fn whatever_bytes_a_guest_answers_the_host_makes_a_bounded_answer_or_a_named_failure_of_them() {
    if elsewhere("fuzzed::whatever_bytes_a_guest_answers_the_host_makes_a_bounded_answer_or_a_named_failure_of_them") {
        return;
    }
    run(&inputs(cases::answers::seeds(), 4_000), cases::answers::lift);
    let met = cases::answers::met();
    for what in [
        "validate: valid",
        "identify: known",
        "identify: known, with collections",
        "identify: left",
        "authorize: allowed",
        "format: worded",
        "format: left or failed",
        "load: a plugin",
        "load: settings refused",
        "refused",
        "oversize",
        "trap",
        "invalid-answer",
    ] {
        assert!(met.contains_key(what), "{what} never came of it, but {met:?}");
    }
}

#[test]
fn whatever_bytes_a_component_has_the_loader_names_what_is_wrong_or_makes_a_plugin_of_them() {
    if elsewhere("fuzzed::whatever_bytes_a_component_has_the_loader_names_what_is_wrong_or_makes_a_plugin_of_them") {
        return;
    }
    run(&inputs(cases::loader::seeds(), 300), cases::loader::load);
    // Otherwise it would not get far.
    assert!(cases::loader::loaded() >= 30, "{} were plugins", cases::loader::loaded());
}
