//! `plugin inspect`: what a component is, told from its outside and by its own `describe`. Nothing is configured, and
//! nothing is judged beyond whether it fits a world.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmparser::{KnownCustom, Parser, Payload};
use wasmtime::component::Component;

use crate::plugins::bindings::exports::antimony::plugin::lifecycle;
use crate::plugins::config::{Budget, Hook};
use crate::plugins::engine::Engine;
use crate::plugins::error::LoadProblem;
use crate::plugins::shape::{self, Names, Shape};
use crate::plugins::source;

/// What an unconfigured component may take to say who it is. It isn't a server's time.
const BUDGET: Budget = Budget {
    time_ms: 5_000,
    wall_clock_ms: Some(10_000),
    memory_bytes: Some(512 << 20),
    answer_bytes: 1 << 20,
    log_bytes: 8 << 10,
    table_elements: 50_000,
    concurrency: 1,
};
/// Bytes of a page of linear memory, where a module doesn't say otherwise.
const PAGE: u64 = 64 << 10;

/// What is known of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// Size in bytes.
    pub size: usize,
    /// SHA-256 in hexadecimal, as the configuration may demand it.
    pub sha256: String,
    /// The worlds that it fits, by their names in `wit/`.
    pub worlds: Vec<String>,
    /// For each world that it exports something of but doesn't fit: why not.
    pub misfits: BTreeMap<String, String>,
    /// Versions of `antimony:plugin` that it was built against: one, unless it was put together by hand.
    pub contract: BTreeSet<String>,
    /// What it says of itself, unconfigured; nothing where it fits no world.
    pub description: Option<Description>,
    /// Why it didn't say anything.
    pub description_problem: Option<String>,
    /// What it needs from the host, by name and version.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
    /// Linear memories in all of its modules together.
    pub memories: usize,
    /// How large these are at the start, in bytes.
    pub memory_bytes: u64,
    /// Tables in all of its modules together.
    pub tables: usize,
    /// How large these are at the start, in elements.
    pub table_elements: u64,
    /// Digest of its source, where `plugin build` made it.
    pub source: Option<String>,
    /// The tools that say they had a part in making it, with their versions.
    pub made_by: BTreeSet<String>,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it decides.
    pub summary: String,
}

/// Why there is nothing to say about a file.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It isn't a component.
    #[error("{path} {problem}")]
    Problem {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: LoadProblem,
    },
    /// The engine doesn't start on this machine.
    #[error(transparent)]
    Engine(#[from] crate::plugins::LoadError),
}

/// Looks at the component in a file, or at a bundled one (`builtin:NAME`).
///
/// # Errors
/// [`InspectError`]: it can't be read, or is no component.
pub async fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let problem = |problem| InspectError::Problem { path: path.display().to_string(), problem };
    let bytes = super::read(path).await.map_err(problem)?;
    let names = Names::read(&bytes).map_err(problem)?;
    let mut inspection = outside(&bytes, &names).map_err(problem)?;
    let shape = Hook::ALL.into_iter().find_map(|hook| shape::inspect(&bytes, hook).ok());
    if let Some(shape) = shape {
        let dir = super::scratch().map_err(|error| problem(LoadProblem::Host(error.to_string())))?;
        let engine = Engine::start(dir.path())?;
        match describe(&engine, &bytes, shape).await {
            Ok(description) => inspection.description = Some(description),
            Err(problem) => inspection.description_problem = Some(shape.explain(problem).to_string()),
        }
    }
    Ok(inspection)
}

fn outside(bytes: &[u8], names: &Names) -> Result<Inspection, LoadProblem> {
    let (mut worlds, mut misfits) = (Vec::new(), BTreeMap::new());
    for hook in Hook::ALL {
        let concerns = |name: &String| shape::interface(name).is_some_and(|(base, _)| base == hook.interface());
        match shape::inspect(bytes, hook) {
            Ok(_) => worlds.push(hook.name().to_owned()),
            Err(problem) if names.exports.iter().any(concerns) => {
                misfits.insert(hook.name().to_owned(), problem.to_string());
            }
            Err(_) => {}
        }
    }
    let all = names.imports.iter().chain(&names.exports);
    let contract = all.filter_map(|name| shape::interface(name)?.1.map(str::to_owned)).collect();
    let mut inspection = Inspection {
        size: bytes.len(),
        sha256: source::hex_digest(Sha256::digest(bytes)),
        worlds,
        misfits,
        contract,
        description: None,
        description_problem: None,
        imports: names.imports.clone(),
        exports: names.exports.clone(),
        memories: 0,
        memory_bytes: 0,
        tables: 0,
        table_elements: 0,
        source: source::recorded(bytes),
        made_by: BTreeSet::new(),
    };
    inside(bytes, &mut inspection).map_err(|error| LoadProblem::Damaged(error.to_string()))?;
    Ok(inspection)
}

/// Adds up what the modules of a component define.
fn inside(bytes: &[u8], inspection: &mut Inspection) -> Result<(), wasmparser::BinaryReaderError> {
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let page = memory.page_size_log2.map_or(PAGE, |log2| 1_u64.checked_shl(log2).unwrap_or(PAGE));
                    inspection.memories += 1;
                    inspection.memory_bytes =
                        inspection.memory_bytes.saturating_add(memory.initial.saturating_mul(page));
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    inspection.tables += 1;
                    inspection.table_elements = inspection.table_elements.saturating_add(table?.ty.initial);
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    for field in fields {
                        for value in field?.values {
                            let value = value?;
                            inspection.made_by.insert(format!("{} {}", value.name, value.version).trim().to_owned());
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Asks an unconfigured component who it is.
async fn describe(engine: &Engine, bytes: &[u8], shape: Shape) -> Result<Description, LoadProblem> {
    let contract = |error: wasmtime::Error| LoadProblem::Contract(format!("{error:#}"));
    let (compiler, bytes) = (engine.wasmtime().clone(), bytes.to_vec());
    let component = tokio::task::spawn_blocking(move || Component::new(&compiler, &bytes))
        .await
        .map_err(|error| LoadProblem::Host(error.to_string()))?
        .map_err(contract)?;
    let linker = engine.linker(shape.wasi).map_err(|error| LoadProblem::Host(error.to_string()))?;
    let pre = linker.instantiate_pre(&component).map_err(contract)?;
    let indices = lifecycle::GuestIndices::new(&pre).map_err(contract)?;
    let mut store = engine.store("describe".into(), 0, &BUDGET, engine.lane().clone(), shape.wasi);
    let place = store.data().limits.place();
    let call = place.run(async {
        let instance = pre.instantiate_async(&mut store).await?;
        indices.load(&mut store, &instance)?.call_describe(&mut store).await
    });
    let answer = tokio::time::timeout(BUDGET.wall_clock(), call).await;
    match answer {
        Ok(Ok(lifecycle::Description { name, version, summary })) => Ok(Description { name, version, summary }),
        Ok(Err(error)) => Err(LoadProblem::Describe(store.data().limits.failure(&error))),
        Err(_) => Err(LoadProblem::Describe(crate::plugins::decision::CallFailure::TimedOut(BUDGET.wall_clock()))),
    }
}

impl std::fmt::Display for Inspection {
    /// For people: a line for each thing, without those that there is nothing to say of.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let none = || "none".to_owned();
        let list = |items: Vec<String>| if items.is_empty() { none() } else { items.join("\n             ") };
        let line = |f: &mut std::fmt::Formatter<'_>, what: &str, text: &str| writeln!(f, "{what:<12} {text}");
        match (&self.description, &self.description_problem) {
            (Some(Description { name, version, summary }), _) => {
                line(f, "plugin", &format!("{} {}", printable(name), printable(version)))?;
                line(f, "summary", &printable(summary))?;
            }
            (None, Some(problem)) => line(f, "plugin", &printable(problem))?,
            (None, None) => {}
        }
        line(f, "world", &if self.worlds.is_empty() { none() } else { self.worlds.join(", ") })?;
        for (world, problem) in &self.misfits {
            line(f, "", &format!("not {world}: it {}", printable(problem)))?;
        }
        let contract = self.contract.iter().map(|version| format!("antimony:plugin {version}")).collect::<Vec<_>>();
        line(f, "contract", &list(contract))?;
        line(f, "imports", &list(self.imports.iter().map(|name| printable(name)).collect()))?;
        line(f, "exports", &list(self.exports.iter().map(|name| printable(name)).collect()))?;
        line(f, "size", &format!("{} bytes", self.size))?;
        line(f, "memory", &format!("{} bytes at the start, in {}", self.memory_bytes, self.memories))?;
        line(f, "tables", &format!("{} elements at the start, in {}", self.table_elements, self.tables))?;
        line(f, "sha256", &self.sha256)?;
        line(f, "source", self.source.as_deref().unwrap_or("unknown: it was not built by `plugin build`"))?;
        write!(f, "{:<12} {}", "made by", list(self.made_by.iter().map(|tool| printable(tool)).collect()))
    }
}

/// What a file says is shown on a terminal: without what would steer that.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
