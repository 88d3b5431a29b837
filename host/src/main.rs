//! Command line of `antimony-host`.
fn main() {}
