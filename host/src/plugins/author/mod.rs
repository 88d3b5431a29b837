//! What plugin authors have besides a compiler: a project to begin with (`plugin new`), what a component is seen from
//! outside (`inspect`), whether a server would take it (`check`), and what its calls cost (`bench`).
//!
//! The command line is the only caller. Nothing here is used by a running server, and nothing here judges a component by
//! rules of its own: it is loaded by the same code.

mod bench;
mod check;
mod inspect;
mod new;

pub(super) use self::bench::note_fuel;
pub use self::bench::{Measured, MeasuredCase, bench};
pub use self::check::{CheckError, Checked, check};
pub use self::inspect::{InspectError, Inspection, inspect};
pub use self::new::{Language, NewError, Project, create};

use std::borrow::Cow;
use std::path::Path;

use super::error::LoadProblem;

/// The component in a file, or a bundled one, relative to the working directory.
async fn read(path: &Path) -> Result<Cow<'static, [u8]>, LoadProblem> {
    super::loader::read(Path::new(""), &path.to_string_lossy()).await
}

/// A folder for what is compiled: nothing of it is kept, so that what is said of a component was seen now.
fn scratch() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("antimony-plugin-").tempdir()
}
