//! Command line of `antimony-host`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while there is one thread: the processes that make up a lab are this program again.
    if let Some(code) = antimony_host::runtime::embedded::helper_main(std::env::args_os()) {
        return code;
    }
    ExitCode::SUCCESS
}
