//! The rule about tests that can't be run. Needs nothing else of the suites: the tests of the package's own modules include
//! this file, too.

/// Says on one line that a test, or a part of it, was left out, and why. Goes straight to standard error, which the test
/// runner doesn't swallow. With `ANTIMONY_REQUIRE_ALL=1`, as in CI, leaving anything out is a failure.
pub(crate) fn leave_out(test: &str, why: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("left out: {test}: {why}\n").as_bytes());
    let required = std::env::var_os("ANTIMONY_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "{test} was left out ({why}), and ANTIMONY_REQUIRE_ALL=1 forbids that");
}
