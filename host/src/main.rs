//! `antimony-host`: see `cli`.

use std::process::ExitCode;

use antimony_host::cli::{self, Cli};
use clap::Parser as _;

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
