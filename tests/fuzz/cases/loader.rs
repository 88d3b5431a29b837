//! The loader: whatever bytes stand in a component's file, it says in a sentence what is wrong with them, or makes a plugin
//! of them that keeps to its budgets and gives one question one answer.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use antimony_host::plugins::config::{Budget, Entry, Hook};
use antimony_host::plugins::record::{Function, Given, Input, Outcome, Trial, Trials};
use antimony_host::plugins::{LoadError, LoadProblem};
use arbitrary::Unstructured;
use serde_json::{Map, Value, json};
use wasm_encoder::{ComponentSection as _, InstanceSection, ModuleArg, RawSection};
use wasm_mutate::WasmMutate;
use wasmparser::{Parser, Payload};

use super::{companion, guest, no_panic, root, runtime};

/// How long a case may take on a machine with other things to do: `configure` alone may last five seconds.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest sentence about what is wrong, in bytes. Some of them quote the plugin.
const SENTENCE: usize = 16 << 10;

/// A component to begin with, and what it is a plugin for.
struct Seed {
    hook: Hook,
    bytes: Vec<u8>,
    /// Its parts at the top: where their contents are, and what they are.
    sections: Vec<(u8, Range<usize>)>,
    /// Where it names something of the contract.
    names: Vec<usize>,
}

impl Seed {
    fn new(hook: Hook, bytes: Vec<u8>) -> Self {
        let mut sections = Vec::new();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(&bytes).map_while(Result::ok) {
            match &payload {
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                payload => {
                    let place = |at: u64| usize::try_from(at).expect("it is in memory");
                    let section = payload.as_section();
                    sections.extend(section.map(|(id, range)| (id, place(range.start)..place(range.end))));
                }
            }
            if matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) {
                depth += 1;
            }
        }
        let contract = b"antimony:plugin/";
        let names = bytes.windows(contract.len()).enumerate().filter(|(_, name)| name == contract);
        let names = names.map(|(place, _)| place).collect();
        Self { hook, bytes, sections, names }
    }

    /// The modules among the parts.
    fn modules(&self) -> impl Iterator<Item = usize> {
        let modules = self.sections.iter().enumerate().filter(|(_, (id, _))| *id == 1);
        modules.map(|(index, _)| index)
    }

    /// A component of these parts.
    fn of_parts<'a>(&self, parts: impl Iterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
        let mut bytes = self.bytes[..8].to_vec();
        for (id, data) in parts {
            // Not of this length if it is one of those that `wasm_encoder` writes; and it is.
            RawSection { id, data }.append_to_component(&mut bytes);
        }
        bytes
    }

    fn parts(&self) -> Vec<(u8, &[u8])> {
        self.sections.iter().map(|(id, range)| (*id, &self.bytes[range.clone()])).collect()
    }
}

/// Small ones first, as those are tried in depth.
static SEEDS: LazyLock<Vec<Seed>> = LazyLock::new(|| {
    let mut seeds: Vec<_> = Hook::ALL.into_iter().map(|hook| Seed::new(hook, guest::component(hook.name()))).collect();
    for folder in ["tests/frozen/0.1.0", "plugins/prebuilt"] {
        for hook in Hook::ALL {
            let path = root().join(folder).join(format!("{hook}.wasm"));
            seeds.push(Seed::new(hook, std::fs::read(path).expect("it is a part of the project")));
        }
    }
    seeds
});

fn pick<'a, T>(u: &mut Unstructured<'_>, from: &'a [T]) -> arbitrary::Result<&'a T> {
    u.choose(from)
}

/// The component that an input stands for.
fn craft(u: &mut Unstructured<'_>) -> arbitrary::Result<(Hook, Vec<u8>)> {
    let way = u.int_in_range(0..=9_u8)?;
    let any = &SEEDS[..];
    Ok(match way {
        0 => (*pick(u, &Hook::ALL)?, u.bytes(u.len())?.to_vec()),
        1 | 2 => {
            let seed = pick(u, any)?;
            (seed.hook, edited(seed.bytes.clone(), &|length| 0..length, u)?)
        }
        3 => {
            // In its own list or in another.
            let seed = pick(u, any)?;
            let names = &seed.names;
            let hook = if u.ratio(1, 4)? { *pick(u, &Hook::ALL)? } else { seed.hook };
            let name = *pick(u, names)?;
            (hook, edited(seed.bytes.clone(), &|length| name..(name + 40).min(length), u)?)
        }
        4 | 5 => {
            let seed = pick(u, any)?;
            (seed.hook, rearranged(seed, u)?)
        }
        6 | 7 => {
            let seed = pick(u, &any[..3])?;
            (seed.hook, mutated(seed, u)?)
        }
        _ => {
            let seed = pick(u, &any[..3])?;
            (seed.hook, accompanied(seed, u)?)
        }
    })
}

/// A few bytes are others, missing, or doubled.
fn edited(
    mut bytes: Vec<u8>,
    within: &dyn Fn(usize) -> Range<usize>,
    u: &mut Unstructured<'_>,
) -> arbitrary::Result<Vec<u8>> {
    for _ in 0..u.int_in_range(1..=8_u8)? {
        let range = within(bytes.len());
        if range.is_empty() {
            break;
        }
        let place = u.int_in_range(range.start..=range.end - 1)?;
        match u.int_in_range(0..=5_u8)? {
            0 => bytes[place] = u.arbitrary()?,
            1 => bytes[place] ^= 1 << u.int_in_range(0..=7_u8)?,
            2 => bytes[place] = bytes[place].wrapping_add(1),
            3 => {
                let end = (place + usize::from(u.arbitrary::<u8>()?)).min(bytes.len());
                bytes.drain(place..end);
            }
            4 => {
                let end = (place + usize::from(u.arbitrary::<u8>()?)).min(bytes.len());
                let copy = bytes[place..end].to_vec();
                let to = u.int_in_range(range.start..=range.end - 1)?;
                bytes.splice(to..to, copy);
            }
            _ if u.ratio(1, 4)? => bytes.truncate(place),
            _ => bytes.insert(place, u.arbitrary()?),
        }
    }
    Ok(bytes)
}

/// Its parts in another order, missing, doubled, or with those of another plugin.
fn rearranged(seed: &Seed, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut parts = seed.parts();
    for _ in 0..u.int_in_range(1..=4_u8)? {
        if parts.is_empty() {
            break;
        }
        let (one, other) = (u.choose_index(parts.len())?, u.choose_index(parts.len())?);
        match u.int_in_range(0..=4_u8)? {
            0 => drop(parts.remove(one)),
            1 => parts.swap(one, other),
            2 => parts.insert(other, parts[one]),
            3 => {
                let theirs = pick(u, &SEEDS)?;
                let (id, range) = pick(u, &theirs.sections)?;
                parts.insert(one, (*id, &theirs.bytes[range.clone()]));
            }
            _ => parts.truncate(one),
        }
    }
    Ok(seed.of_parts(parts.into_iter()))
}

/// Its code is other code, which is mostly valid.
fn mutated(seed: &Seed, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let modules: Vec<_> = seed.modules().collect();
    let module = *pick(u, &modules)?;
    let mut parts: Vec<_> = seed.parts().into_iter().map(|(id, data)| (id, data.to_vec())).collect();
    for _ in 0..u.int_in_range(1..=4_u8)? {
        let mut mutate = WasmMutate::default();
        mutate.seed(u.arbitrary()?).fuel(300).preserve_semantics(u.ratio(1, 4)?);
        let before = parts[module].1.clone();
        if let Ok(mut mutants) = mutate.run(&before)
            && let Some(Ok(mutant)) = mutants.next()
        {
            parts[module].1 = mutant;
        }
    }
    Ok(seed.of_parts(parts.iter().map(|(id, data)| (*id, &data[..]))))
}

/// It instantiates a module besides that is not its own, whose start runs before anything else does.
fn accompanied(seed: &Seed, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut bytes = seed.bytes.clone();
    let there = u32::try_from(seed.modules().count()).expect("there are few");
    let module = companion::module(u)?;
    RawSection { id: 1, data: &module }.append_to_component(&mut bytes);
    let mut instances = InstanceSection::new();
    for _ in 0..u.int_in_range(1..=3_u8)? {
        instances.instantiate(there, std::iter::empty::<(&str, ModuleArg)>());
    }
    instances.append_to_component(&mut bytes);
    Ok(bytes)
}

/// The engine, and a file that each case writes its component to. One at a time.
static ENGINE: LazyLock<Mutex<(tempfile::TempDir, Trials)>> = LazyLock::new(|| {
    let _inside = runtime().enter();
    let dir = tempfile::tempdir().expect("there is room for a folder");
    Mutex::new((dir, Trials::start(Path::new("/dev/null/nothing-is-kept")).expect("the engine starts")))
});

thread_local! {
    static LOADED: Cell<u64> = const { Cell::new(0) };
}

/// How many of the components that this thread has tried were plugins.
pub fn loaded() -> u64 {
    LOADED.get()
}

/// One input: a component, loaded, and asked if it can be.
pub fn load(data: &[u8]) {
    let Ok((hook, bytes)) = craft(&mut Unstructured::new(data)) else { return };
    let began = Instant::now();
    no_panic(|| {
        let engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        let (dir, trials) = &*engine;
        std::fs::write(dir.path().join("plugin.wasm"), &bytes).expect("there is room for it");
        let budget = Budget { time_ms: 20, wall_clock_ms: Some(2_000), ..Budget::default() };
        let entry = Entry { name: Some("plugin".into()), budget, ..Entry::new("plugin.wasm") };
        runtime().block_on(async {
            match trials.load(dir.path(), hook, 1, &entry).await {
                Ok(trial) => ask(&trial, &budget).await,
                Err(LoadError::Plugin { problem, .. }) => {
                    let sentence = problem.to_string();
                    assert!(!sentence.is_empty() && sentence.len() < SENTENCE, "{} bytes: {sentence}", sentence.len());
                    // What would be the host's own fault.
                    assert!(!matches!(*problem, LoadProblem::Host(_) | LoadProblem::Unreadable(_)), "{sentence}");
                }
                Err(other) => panic!("{other}"),
            }
        });
    });
    assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
}

/// Each function twice: the answers are the same, and within the budget.
async fn ask(trial: &Trial, budget: &Budget) {
    LOADED.set(LOADED.get() + 1);
    for (function, input) in questions() {
        if function.hook() != trial.info().hook {
            continue;
        }
        let (one, other) = (trial.ask(&input).await, trial.ask(&input).await);
        let timely = |outcome: &Outcome| !matches!(outcome, Outcome::Failed { kind, .. } if kind == "timeout");
        if timely(&one.outcome) && timely(&other.outcome) {
            assert!(one.outcome.same(&other.outcome), "{:?}, and then {:?}", one.outcome, other.outcome);
        }
        let memory = one.memory.max(other.memory);
        assert!(memory <= 16 << 20 && budget.time_ms == 20, "{memory} bytes");
    }
}

fn questions() -> Vec<(Function, Input)> {
    let question = |function: Function, input: Value| {
        let Value::Object(input) = input else { unreachable!("it is one") };
        let given = Given::new(Map::new()).expect("nothing is given");
        (function, Input::complete(function, &input, &given).expect("it is all there"))
    };
    vec![
        question(Function::Validate, json!({"command": {"kind": "deploy"}})),
        question(Function::Identify, json!({"claims": {"id": "ada", "collections": ["course"]}})),
        question(Function::Authorize, json!({"action": {"command": {"kind": "deploy"}}})),
        question(Function::Format, json!({"event": {"what": {"lab-deployed": {}}}})),
    ]
}

/// Inputs to begin with: some of each way.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0; 2], [&[0, 0], &b"\0asm\x0d\0\x01\0"[..]].concat()];
    for way in 1..=9_u8 {
        for seed in 0..9_u8 {
            let noise = (0..96_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> (13 + seed % 8)) as u8);
            seeds.push([way, seed].into_iter().chain(noise).collect());
        }
    }
    seeds
}
