//! `antimony-host`: see `cli`.

use std::process::ExitCode;

use antimony_host::cli::{self, Cli};
use clap::Parser as _;

/// Messages are made by one thread and freed by another, which the system's allocator does under a lock for all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The embedded runtime starts this binary anew inside its namespaces. That must happen before any thread exists.
    if let Some(code) = antimony_host::runtime::embedded::helper_main(std::env::args_os()) {
        return code;
    }
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where an error reaches the terminal")]
            {
                eprintln!("antimony-host: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
