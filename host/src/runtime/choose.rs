//! Which runtime runs the labs: what the operator asks for, and what of it there is.
//!
//! `server` opens the runtime here, once; the log then says in one line which it is and why. `antimony-host doctor` looks
//! at the same things without opening anything.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;

use super::RuntimeDriver;
use super::containerlab::{self, ContainerlabConfig, ContainerlabRuntime, Found, FoundEngine, FoundProgram, Missing};
use super::embedded::{EmbeddedOptions, EmbeddedRuntime, Unavailable};

/// What shall run labs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// containerlab where it and its container engine answer, the embedded runtime elsewhere.
    #[default]
    Auto,
    /// containerlab, and nothing else.
    Containerlab,
    /// The embedded runtime, and nothing else.
    Embedded,
}

impl RuntimeChoice {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Containerlab => "containerlab",
            Self::Embedded => "embedded",
        }
    }
}

/// What will run labs, and why.
#[derive(Debug)]
pub enum Chosen {
    /// containerlab, which was found.
    Containerlab(Found),
    /// The embedded runtime, for this reason.
    Embedded(WhyEmbedded),
}

/// Why the embedded runtime is chosen.
#[derive(Debug)]
pub enum WhyEmbedded {
    /// The configuration or the command line says so.
    AskedFor,
    /// containerlab can't be used.
    Missing(Missing),
}

/// Why no runtime can be had. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoRuntime {
    /// containerlab was asked for and can't be used.
    #[error(
        "the runtime containerlab can't run labs here: {0}; without it, `runtime: embedded` runs nodes of kind linux"
    )]
    Containerlab(Missing),
    /// The embedded runtime was asked for and can't be used.
    #[error(transparent)]
    Embedded(Unavailable),
    /// Neither can be used.
    #[error("there is nothing to run labs with. {containerlab}. Or {embedded}")]
    Neither {
        /// What containerlab lacks.
        containerlab: Missing,
        /// What the embedded runtime lacks.
        embedded: Unavailable,
    },
}

/// Which runtime is to be used, given what was found of containerlab and its engine. Whether the embedded one works is found
/// out when it is opened.
///
/// # Errors
/// [`NoRuntime::Containerlab`].
pub fn decide(choice: RuntimeChoice, found: Result<Found, Missing>) -> Result<Chosen, NoRuntime> {
    match (choice, found) {
        (RuntimeChoice::Embedded, _) => Ok(Chosen::Embedded(WhyEmbedded::AskedFor)),
        (_, Ok(found)) => Ok(Chosen::Containerlab(found)),
        (RuntimeChoice::Containerlab, Err(missing)) => Err(NoRuntime::Containerlab(missing)),
        (RuntimeChoice::Auto, Err(missing)) => Ok(Chosen::Embedded(WhyEmbedded::Missing(missing))),
    }
}

async fn choose(choice: RuntimeChoice, config: &ContainerlabConfig) -> Result<Chosen, NoRuntime> {
    match choice {
        // Nothing of containerlab is to be run where nobody wants it.
        RuntimeChoice::Embedded => Ok(Chosen::Embedded(WhyEmbedded::AskedFor)),
        choice => decide(choice, containerlab::probe(config).await),
    }
}

/// Opens the runtime that the operator asks for. `data` is the server's data folder, by its real name: it tells what this
/// server has made from what others have.
///
/// # Errors
/// [`NoRuntime`].
pub async fn open(
    choice: RuntimeChoice,
    config: &ContainerlabConfig,
    embedded: EmbeddedOptions,
    data: &Path,
) -> Result<Arc<dyn RuntimeDriver>, NoRuntime> {
    let why = match choose(choice, config).await? {
        Chosen::Containerlab(found) => return open_containerlab(config, found, data).await,
        Chosen::Embedded(why) => why,
    };
    let opened = EmbeddedRuntime::new(embedded);
    let reason = match why {
        WhyEmbedded::AskedFor => {
            let runtime = opened.map_err(NoRuntime::Embedded)?;
            tracing::info!("labs run on the embedded runtime: it was asked for");
            return Ok(Arc::new(runtime));
        }
        WhyEmbedded::Missing(missing) => missing,
    };
    match opened {
        Ok(runtime) => {
            if reason.is_absent() {
                tracing::info!("labs run on the embedded runtime: {reason}");
            } else {
                tracing::warn!(
                    "labs run on the embedded runtime, although containerlab is installed here: {reason}. To have them run on \
                     containerlab or not at all, set `runtime: containerlab`"
                );
            }
            Ok(Arc::new(runtime))
        }
        Err(embedded) => Err(NoRuntime::Neither { containerlab: reason, embedded }),
    }
}

async fn open_containerlab(
    config: &ContainerlabConfig,
    found: Found,
    data: &Path,
) -> Result<Arc<dyn RuntimeDriver>, NoRuntime> {
    let FoundProgram { path, version, .. } = &found.program;
    let version = version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
    let FoundEngine { address, version: engine, .. } = &found.engine;
    tracing::info!(
        "labs run on containerlab {version} ({}), with the container engine {engine} at {address}: both answer",
        path.display()
    );
    if let Some(problem) = kernel_problem() {
        tracing::warn!("{problem}");
    }
    let driver = ContainerlabRuntime::start(config, found, data).await;
    Ok(Arc::new(driver.map_err(NoRuntime::Containerlab)?))
}

/// What every deploy of containerlab needs of the kernel and isn't there, in a sentence.
pub fn kernel_problem() -> Option<String> {
    (!Path::new("/proc/modules").exists()).then(|| {
        "this kernel has no loadable modules (there is no /proc/modules), and containerlab up to 0.79 refuses every \
         deploy without that file: run it on a kernel with modules, or take a containerlab that was changed to do without"
            .to_owned()
    })
}
