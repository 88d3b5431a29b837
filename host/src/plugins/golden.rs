//! Golden cases: what a plugin has to decide, and how, before it is put in force.
//!
//! An entry names files of them (`golden`); the form is that of `plugin test` (see [`super::record`]). They are put to the
//! candidate under its own budget, after it was configured and before anybody else asks it anything.

use std::path::{Path, PathBuf};

use super::plugin::Plugin;
use super::record::{self, CasesError, Difference, Place};

/// Why a candidate isn't put in force.
#[derive(Debug, thiserror::Error)]
pub enum GoldenFailure {
    /// Its cases can't be read.
    #[error(transparent)]
    Cases(#[from] CasesError),
    /// A file without any case would let everything through without anybody noticing.
    #[error("{0}: has no case for this plugin")]
    Empty(PathBuf),
    /// A case is for another hook.
    #[error("{place}: case \"{name}\" asks for `{function}`, which is no function of this plugin")]
    OtherHook {
        /// Where the case is written.
        place: Place,
        /// What it is called.
        name: String,
        /// What it asks for.
        function: record::Function,
    },
    /// It decided otherwise.
    #[error("{place}: case \"{name}\" is decided otherwise\n{difference}")]
    Differs {
        /// Where the case is written.
        place: Place,
        /// What it is called.
        name: String,
        /// What was expected, and what came.
        difference: Box<Difference>,
    },
}

/// Puts all cases of a file to a plugin, one after another.
///
/// # Errors
/// [`GoldenFailure`] for the first case that isn't decided as it should be.
pub(super) async fn check(plugin: &Plugin, path: &Path) -> Result<(), GoldenFailure> {
    let file = path.to_owned();
    let cases = tokio::task::spawn_blocking(move || record::read_cases(&file))
        .await
        .unwrap_or_else(|error| Err(CasesError::Invalid(path.to_owned(), error.to_string())))?;
    if cases.is_empty() {
        return Err(GoldenFailure::Empty(path.to_owned()));
    }
    for case in cases {
        let function = case.input.function();
        if function.hook() != plugin.info.hook {
            return Err(GoldenFailure::OtherHook { place: case.place, name: case.name, function });
        }
        let answer = record::ask(plugin, &case.input).await;
        if let Some(difference) = case.expect.differs_from(&answer.outcome) {
            let difference = Box::new(difference);
            return Err(GoldenFailure::Differs { place: case.place, name: case.name, difference });
        }
    }
    Ok(())
}
