//! Components that no compiler makes: the bundled policy with a part added that goes beyond every bound, and guests that
//! use WASI for more than it is there for.

use antimony_host::plugins::config::{Budget, Entry};
use antimony_host::plugins::decision::{Action, CallFailure, Refusal};
use antimony_host::plugins::{LoadError, LoadProblem, PluginHost};
use serde_json::json;
use wasm_encoder::{
    CodeSection, ComponentSection, Function, FunctionSection, InstanceSection, MemorySection, MemoryType, Module,
    ModuleArg, ModuleSection, RefType, StartSection, TableSection, TableType, TypeSection, ValType,
};

use crate::sample::{NOW, lab, user};
use crate::{guests, load, try_load, with_policy};

fn memory(pages: u64) -> MemoryType {
    MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None }
}

fn memories(count: usize, pages: u64) -> Module {
    let mut memories = MemorySection::new();
    for _ in 0..count {
        memories.memory(memory(pages));
    }
    let mut module = Module::new();
    module.section(&memories);
    module
}

pub(crate) fn tables(count: usize, elements: u64) -> Module {
    let mut tables = TableSection::new();
    for _ in 0..count {
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: elements,
            maximum: None,
            shared: false,
        });
    }
    let mut module = Module::new();
    module.section(&tables);
    module
}

/// A module that loops as soon as it is instantiated, before any of its functions is called.
fn loops_at_its_start() -> Module {
    let mut types = TypeSection::new();
    types.ty().function(std::iter::empty::<ValType>(), std::iter::empty());
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut code = CodeSection::new();
    let mut body = Function::new([]);
    body.instructions().loop_(wasm_encoder::BlockType::Empty).br(0).end().end();
    code.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&StartSection { function_index: 0 }).section(&code);
    module
}

/// A module that makes its table grow without an end as soon as it is instantiated.
fn grows_its_table() -> Module {
    let mut types = TypeSection::new();
    types.ty().function(std::iter::empty::<ValType>(), std::iter::empty());
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 0,
        maximum: None,
        shared: false,
    });
    let mut code = CodeSection::new();
    let mut body = Function::new([]);
    body.instructions()
        .loop_(wasm_encoder::BlockType::Empty)
        .ref_null(wasm_encoder::HeapType::FUNC)
        .i32_const(1000)
        .table_grow(0)
        .drop()
        .br(0)
        .end()
        .end();
    code.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables);
    module.section(&StartSection { function_index: 0 }).section(&code);
    module
}

/// The bundled policy, which also instantiates these modules.
pub(crate) fn policy_with(modules: &[Module], times: usize) -> (tempfile::TempDir, Entry) {
    let mut component = std::fs::read(crate::loading::prebuilt("auth-policy")).unwrap();
    let mut depth = 0_u32;
    let mut there = 0_u32;
    for payload in wasmparser::Parser::new(0).parse_all(&component) {
        match payload.unwrap() {
            wasmparser::Payload::ModuleSection { .. } => {
                there += u32::from(depth == 0);
                depth += 1;
            }
            wasmparser::Payload::ComponentSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let mut instances = InstanceSection::new();
    for module in modules {
        ModuleSection(module).append_to_component(&mut component);
        for _ in 0..times {
            instances.instantiate(there, std::iter::empty::<(&str, ModuleArg)>());
        }
        there += 1;
    }
    instances.append_to_component(&mut component);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crafted.wasm");
    std::fs::write(&path, component).unwrap();
    let entry = Entry { name: Some("crafted".into()), ..Entry::new(path.to_str().unwrap()) };
    (dir, entry)
}

async fn problem(modules: &[Module], times: usize) -> LoadProblem {
    let (_dir, entry) = policy_with(modules, times);
    match try_load(&with_policy(entry)).await.err().expect("it can't be loaded") {
        LoadError::Plugin { problem, .. } => *problem,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_component_with_a_harmless_part_added_is_a_plugin() {
    let (_dir, entry) = policy_with(&[tables(2, 1)], 1);
    let host = try_load(&with_policy(entry)).await.unwrap();
    host.authorize(&user("ada"), Action::ViewLab(&lab()), NOW).await.unwrap();
}

#[tokio::test]
async fn a_hundred_memories_are_refused_before_they_take_them_from_others() {
    for (modules, times) in [(vec![memories(100, 0)], 1), ((0..100).map(|_| memories(1, 0)).collect(), 1)] {
        let problem = problem(&modules, times).await;
        let limit = if modules.len() > 1 { "maximum of 8" } else { "limit of 1" };
        assert!(matches!(problem, LoadProblem::Contract(_)) && problem.to_string().contains(limit), "{problem}");
    }
}

#[tokio::test]
async fn memory_and_tables_that_are_large_from_the_start_meet_their_budgets() {
    let memory = problem(&[memories(1, 1024)], 1).await;
    assert!(matches!(memory, LoadProblem::Configure(CallFailure::OutOfMemory(_))), "{memory}");
    let table = problem(&[tables(1, 20_000)], 1).await;
    assert!(matches!(table, LoadProblem::Configure(CallFailure::TableOverflow(10_000))), "{table}");
    let many = problem(&[tables(100, 1)], 1).await;
    assert!(matches!(many, LoadProblem::Contract(_)) && many.to_string().contains("limit of 4"), "{many}");
}

/// A snapshot can't hold it, so no plugin gets as far as to fill one.
#[tokio::test]
async fn a_table_that_could_grow_is_refused_at_load() {
    let problem = problem(&[grows_its_table()], 1).await;
    assert!(matches!(problem, LoadProblem::Snapshot(_)) && problem.to_string().contains("table.grow"), "{problem}");
}

#[tokio::test]
async fn a_loop_before_the_first_call_costs_no_more_than_one_in_it() {
    let problem = problem(&[loops_at_its_start()], 1).await;
    assert!(matches!(problem, LoadProblem::Configure(CallFailure::TimedOut(_))), "{problem}");
}

async fn using(settings: serde_json::Value, budget: Budget) -> Option<PluginHost> {
    let entry = guests::with_settings("uses-wasi", settings)?;
    Some(load(&with_policy(Entry { budget, ..entry })).await)
}

async fn authorize(host: &PluginHost) -> Refusal {
    host.authorize(&user("ada"), Action::ViewLab(&lab()), NOW).await.unwrap_err()
}

#[tokio::test]
async fn a_guest_that_sleeps_is_woken_by_its_deadline() {
    let budget = Budget { wall_clock_ms: Some(70), ..Budget::default() };
    for way in ["sleep", "sleep-again-and-again"] {
        let Some(host) = using(json!({"authorize": way}), budget).await else { return };
        for _ in 0..3 {
            match authorize(&host).await {
                Refusal::Failed { failure, .. } => assert_eq!(failure, CallFailure::TimedOut(budget.wall_clock())),
                other => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_guest_that_sleeps_does_not_keep_a_server_from_starting_or_answering() {
    let Some(entry) = guests::with_settings("uses-wasi", json!({"configure": "sleep"})) else { return };
    let started = std::time::Instant::now();
    match try_load(&with_policy(entry)).await.err() {
        Some(LoadError::Plugin { problem, .. }) => {
            assert!(matches!(*problem, LoadProblem::Configure(CallFailure::TimedOut(_))), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(60));
}

#[tokio::test]
async fn random_numbers_are_the_same_in_every_call_and_few_at_a_time() {
    let Some(host) = using(json!({"authorize": "random"}), Budget::default()).await else { return };
    let first = authorize(&host).await;
    assert!(matches!(first, Refusal::Denied { .. }), "{first}");
    assert_eq!(authorize(&host).await.to_string(), first.to_string());

    let host = using(json!({"authorize": "random-a-lot"}), Budget::default()).await.unwrap();
    let refusal = authorize(&host).await;
    assert!(matches!(refusal, Refusal::Failed { .. }), "{refusal}");
}

#[tokio::test]
async fn a_guest_that_hoards_handles_runs_out_of_them() {
    let Some(host) = using(json!({"authorize": "hoard"}), Budget::default()).await else { return };
    let refusal = authorize(&host).await;
    assert!(
        matches!(&refusal, Refusal::Failed { failure, .. } if !matches!(failure, CallFailure::TimedOut(_))),
        "{refusal}"
    );
}
