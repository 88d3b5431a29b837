//! Running the tools of a language, and passing on what they say.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{BuildError, Progress};

/// How many lines of a failed tool are kept for the error.
const KEPT_LINES: usize = 60;

/// Runs `command` for the project in `dir`, passing on what it says on standard error line by line. `tool` is its name in
/// errors.
pub(super) fn run(mut command: Command, tool: &str, dir: &Path, progress: Progress<'_>) -> Result<(), BuildError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(BuildError::io(Path::new(tool)))?;
    let mut kept = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            progress(&line);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    }
    let status = child.wait().map_err(BuildError::io(Path::new(tool)))?;
    if status.success() {
        return Ok(());
    }
    let output = kept.into_iter().collect::<Vec<_>>().join("\n");
    Err(BuildError::Compile { dir: dir.into(), tool: tool.into(), output })
}

/// The version that a program tells when it is asked with `--version`; `None`: it can't be run.
pub(super) fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}
