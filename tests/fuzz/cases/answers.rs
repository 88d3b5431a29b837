//! The lifting of results: a guest answers with any bytes whatever, and the host makes an answer that keeps to its bounds
//! of it, or a failure that has a name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use antimony_host::auth::{Claims, Identity};
use antimony_host::labs::model::{Collection, Lab, LabSnapshot, LabState, User};
use antimony_host::plugins::config::{BreakerConfig, Budget, Entry, Hook, InstanceMode};
use antimony_host::plugins::decision::{
    Action, CallFailure, Circumstances, Command, CommandKind, Event, Namespace, Occurrence, Refusal,
};
use antimony_host::plugins::record::Trials;
use antimony_host::plugins::{LoadError, LoadProblem, PluginHost, PluginsConfig};
use antimony_host::topology::Topology;
use arbitrary::Unstructured;
use jiff::Timestamp;
use serde_json::json;

use super::guest::{BODY, MEMORY, component, spelt};
use super::{no_panic, runtime};

const NOW: Circumstances = Circumstances { now: Timestamp::UNIX_EPOCH, open_shells: 0, running_labs: 0 };
const LAB: &str = "lab-1";
/// The first byte of an input says which function it is about; this one is for `describe`.
const DESCRIBE: u8 = 9;
/// The most that a call may return. What is kept of it is a little more, for the lists and texts themselves.
const ANSWER: usize = 64 << 10;

/// How the guest answers: a header, and what lies behind it in its memory.
struct Answer(Vec<u8>);

impl Answer {
    /// `pointer`: what the function returns. `pages`: by how much the memory grows before. `traps`: when the host has read
    /// it. `describes`: for `configure`, that this is how `describe` is to answer.
    fn new(pointer: u32, pages: u8, traps: bool, describes: bool, body: &[u8]) -> Self {
        let mut bytes = pointer.to_le_bytes().to_vec();
        bytes.extend([pages, 0, 0, 0, u8::from(traps), u8::from(describes), 0, 0, 0, 0, 0, 0]);
        bytes.extend(body);
        Self(bytes)
    }

    /// As the input has it: bytes as they are, words that could be part of an answer, or an answer that is right but for
    /// some words of it.
    fn read(which: u8, u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let pages = if u.ratio(1, 4)? { u.arbitrary()? } else { 0 };
        let traps = u.ratio(1, 32)?;
        let pointer = match u.int_in_range(0..=15_u8)? {
            0 => u.arbitrary()?,
            1 => word(u)?,
            2 => BODY + u32::from(u.arbitrary::<u8>()?),
            _ => BODY,
        };
        let mut words = Vec::new();
        match u.int_in_range(0..=5_u8)? {
            0 => {}
            1 => {
                for _ in 0..u.int_in_range(0..=64_u8)? {
                    words.push(word(u)?);
                }
            }
            _ => {
                words = right(which, u)?;
                words.resize(64, 0);
                for _ in 0..u.int_in_range(0..=3_u8)? {
                    words[usize::from(u.int_in_range(0..=15_u8)?)] = word(u)?;
                }
            }
        }
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if words.len() == 64 {
            body.extend(LAB.as_bytes());
            if u.ratio(3, 4)? {
                // As much as `right` refers to.
                body.extend(" is a text like others\n".bytes().cycle().take(80));
            }
        }
        body.extend(u.bytes(u.len())?);
        if body.len() < 300 && u.ratio(1, 2)? {
            body.resize(300, b'x');
        }
        Ok(Self::new(pointer, pages, traps, which == DESCRIBE, &body))
    }

    fn text(&self) -> String {
        spelt(&self.0)
    }
}

/// An answer that is right, word by word, as the contract has it: its texts lie behind its 64 words.
fn right(which: u8, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u32>> {
    let texts = BODY + 256;
    let mut words = Vec::new();
    let text = |words: &mut Vec<u32>, u: &mut Unstructured<'_>| -> arbitrary::Result<()> {
        words.extend([texts + u.int_in_range(0..=40_u32)?, u.int_in_range(0..=40)?]);
        Ok(())
    };
    let fine = u.ratio(2, 3)?;
    match which {
        0 | 1 if fine => {
            // The case, and the kind of command; the lab that it is about; a node, a shell.
            words.extend([0, u.int_in_range(0..=7)?, texts, 5, u.int_in_range(0..=1)?]);
            text(&mut words, u)?;
            words.push(u.int_in_range(0..=1)?);
            text(&mut words, u)?;
        }
        0 | 1 => {
            words.extend([1, u.int_in_range(0..=7)?]);
            text(&mut words, u)?;
            text(&mut words, u)?;
        }
        2..=4 if fine => {
            words.extend([0, u.int_in_range(0..=1)?]);
            text(&mut words, u)?;
            let collections = u.int_in_range(0..=8_u32)?;
            words.extend([u.int_in_range(0..=1)?, BODY + 64, collections]);
            words.resize(16, 0);
            for _ in 0..collections {
                text(&mut words, u)?;
            }
        }
        7 => {
            words.push(u.int_in_range(0..=1)?);
            for _ in 0..3 {
                text(&mut words, u)?;
            }
            words.push(u.int_in_range(0..=4)?);
        }
        DESCRIBE => {
            for _ in 0..3 {
                text(&mut words, u)?;
            }
        }
        _ => {
            words.push(u32::from(!fine));
            text(&mut words, u)?;
            text(&mut words, u)?;
        }
    }
    Ok(words)
}

/// A discriminant, a length, or a pointer, as they are or as they must not be.
fn word(u: &mut Unstructured<'_>) -> arbitrary::Result<u32> {
    Ok(match u.int_in_range(0..=9_u8)? {
        0 => 0,
        1 => 1,
        2 => u.int_in_range(0..=9)?,
        3 => u.arbitrary::<u8>()?.into(),
        4 => u.arbitrary::<u16>()?.into(),
        5 => BODY + 4 * u32::from(u.arbitrary::<u8>()?),
        6 => BODY + u32::from(u.arbitrary::<u16>()?),
        7 => MEMORY - u32::from(u.arbitrary::<u8>()?),
        8 => u.arbitrary()?,
        _ => u32::MAX - u32::from(u.arbitrary::<u8>()?),
    })
}

/// The guest in all three lists, in instances of its own for each call and in warm ones.
struct Hosts {
    _dir: tempfile::TempDir,
    fresh: PluginHost,
    warm: PluginHost,
    trials: Trials,
    lab: LabSnapshot,
}

static HOSTS: LazyLock<Hosts> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let load = |instance| {
        let list = |hook: Hook| vec![Entry { instance, ..entry(dir.path(), hook) }];
        let config = PluginsConfig {
            command_validator: list(Hook::CommandValidator),
            auth_policy: list(Hook::AuthPolicy),
            status_formatter: list(Hook::StatusFormatter),
        };
        runtime().block_on(PluginHost::load(&config, dir.path(), dir.path())).expect("the guest can be loaded")
    };
    for hook in Hook::ALL {
        std::fs::write(dir.path().join(format!("{hook}.wasm")), component(hook.name())).expect("there is room");
    }
    let (fresh, warm) = (load(InstanceMode::PerCall), load(InstanceMode::Warm));
    let _inside = runtime().enter();
    let trials = Trials::start(Path::new("/dev/null/nothing-is-kept")).expect("the engine starts");
    Hosts { fresh, warm, trials, lab: lab(), _dir: dir }
});

fn entry(dir: &Path, hook: Hook) -> Entry {
    // Time enough on a machine with other things to do: it isn't what is tried here.
    let budget = Budget { time_ms: 2_000, wall_clock_ms: Some(20_000), answer_bytes: ANSWER, ..Budget::default() };
    let breaker = BreakerConfig { failures: 0, ..BreakerConfig::default() };
    let path = dir.join(format!("{hook}.wasm"));
    Entry { name: Some("crafted".into()), budget, breaker, ..Entry::new(path.to_string_lossy()) }
}

fn lab() -> LabSnapshot {
    let root = || User { id: "root".into(), name: "root".into() };
    LabSnapshot {
        lab: Lab {
            id: LAB.into(),
            name: "ospf".into(),
            start_time: Timestamp::UNIX_EPOCH,
            end_time: None,
            topology_id: "t-1".into(),
            collection_id: "c-1".into(),
            creator: root(),
            start_pending: false,
            warned_before: None,
            instance: None,
        },
        collection: Collection {
            id: "c-1".into(),
            name: "course".into(),
            public_write: true,
            public_deploy: true,
            creator: root(),
        },
        state: LabState::Inactive,
        definition: String::new(),
        topology: Arc::new(Topology { name: "ospf".into(), prefix: None, nodes: vec![], links: vec![] }),
        instance: None,
        next: None,
    }
}

/// What came of the cases so far, and how often.
static MET: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// What came of the cases so far, and how often: `authorize: allowed`, `trap`, and so on.
pub fn met() -> BTreeMap<String, u64> {
    MET.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn meet(what: &str) {
    *MET.lock().unwrap_or_else(PoisonError::into_inner).entry(what.into()).or_default() += 1;
}

/// One input: which function, in which instances, and what it answers.
pub fn lift(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let which = u.int_in_range(0..=DESCRIBE).unwrap_or_default();
    let host = if u.arbitrary().unwrap_or_default() { &HOSTS.warm } else { &HOSTS.fresh };
    let Ok(answer) = Answer::read(which, &mut u) else { return };
    no_panic(|| {
        runtime().block_on(async {
            match which {
                0 | 1 => validate(host, &answer).await,
                2..=4 => identify(host, &answer).await,
                5 | 6 => authorize(host, &answer).await,
                7 => format(host, &answer).await,
                // `configure`, and `describe`.
                _ => load(&answer).await,
            }
            // The next one is asked as if nothing had been.
            let answer = host.authorize(&user("ada".into()), Action::Connect(Namespace::LabUpdates), NOW).await;
            assert!(answer.is_ok(), "the next call: {answer:?}");
        });
    });
}

fn user(id: String) -> Identity {
    Identity { id: id.into(), admin: false, collections: vec![] }
}

async fn validate(host: &PluginHost, answer: &Answer) {
    let command = Command { kind: CommandKind::Deploy, lab_id: LAB.into(), node: None, shell_id: None };
    match host.validate(command, &user(answer.text()), &HOSTS.lab, None, NOW).await {
        Ok(command) => {
            meet("validate: valid");
            assert_eq!(command.lab_id.as_str(), LAB);
            assert!(command.node.is_none_or(|node| node.len() <= ANSWER));
        }
        Err(refusal) => judge(&refusal),
    }
}

async fn identify(host: &PluginHost, answer: &Answer) {
    let serde_json::Value::Object(claims) = json!({"id": answer.text()}) else { unreachable!("it is one") };
    match host.identify(&Claims(claims)).await {
        Ok(user) => {
            meet(if user.collections.is_empty() { "identify: known" } else { "identify: known, with collections" });
            assert!(!user.id.as_str().is_empty());
            let length = user.collections.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>();
            assert!(length + user.id.as_str().len() <= 8 * ANSWER, "{length} bytes of collections");
        }
        Err(Refusal::Unrecognised) => meet("identify: left"),
        Err(refusal) => judge(&refusal),
    }
}

async fn authorize(host: &PluginHost, answer: &Answer) {
    match host.authorize(&user(answer.text()), Action::ViewLab(&HOSTS.lab), NOW).await {
        Ok(()) => meet("authorize: allowed"),
        Err(refusal) => judge(&refusal),
    }
}

async fn format(host: &PluginHost, answer: &Answer) {
    let what = Occurrence::LabDeployed;
    let by = Some(answer.text().as_str().into());
    let event = Event { at: Timestamp::UNIX_EPOCH, lab: Arc::new(HOSTS.lab.clone()), by, what };
    let status = host.format(&event).await;
    meet(if status == PluginHost::plain_wording(&event) { "format: left or failed" } else { "format: worded" });
    is_line(&status.source, 64);
    is_line(&status.content, 4 << 10);
    assert!(status.log_content.len() <= 64 << 10);
}

async fn load(answer: &Answer) {
    let hook = Hook::ALL[answer.0.len() % 3];
    let entry = Entry { settings: answer.text().into(), ..entry(HOSTS._dir.path(), hook) };
    match HOSTS.trials.load(HOSTS._dir.path(), hook, 1, &entry).await {
        Ok(trial) => {
            meet("load: a plugin");
            is_line(&trial.info().version, 800);
            is_line(&trial.info().summary, 800);
        }
        Err(LoadError::Plugin { problem, .. }) => match *problem {
            LoadProblem::Configure(failure) | LoadProblem::Describe(failure) => named(&failure),
            LoadProblem::Settings(text) => {
                meet("load: settings refused");
                assert!(text.len() <= ANSWER);
            }
            LoadProblem::Description(_) => {}
            other => panic!("it can't be loaded: {other}"),
        },
        Err(other) => panic!("it can't be loaded: {other}"),
    }
}

fn judge(refusal: &Refusal) {
    match refusal {
        Refusal::Rejected { plugin, rule, message, .. } | Refusal::Denied { plugin, rule, message } => {
            meet("refused");
            assert_eq!(plugin, "crafted");
            is_line(rule, 64);
            is_line(message, 4 << 10);
        }
        Refusal::Failed { plugin, failure } => {
            assert_eq!(plugin, "crafted");
            named(failure);
        }
        Refusal::Unrecognised => panic!("nobody asked who it is"),
    }
}

fn is_line(text: &str, most: usize) {
    assert!(text.len() <= most && !text.contains(char::is_control), "{} bytes: {text:?}", text.len());
}

/// The ways in which an answer can fail, and no others: it takes no time, and next to nothing of the stack.
fn named(failure: &CallFailure) {
    meet(failure.name());
    match failure {
        CallFailure::Oversize(_) | CallFailure::Trapped(_) | CallFailure::InvalidAnswer(_) => {
            assert!(failure.to_string().len() < 4 << 10, "{failure}");
        }
        // Of the memory that it has grown by.
        CallFailure::OutOfMemory(_) => {}
        other => panic!("nothing of the sort was done: {other}"),
    }
}

/// Inputs to begin with: some that are about each function, in either sort of instance.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for which in 0..=DESCRIBE {
        for number in 0..8_u32 {
            let noise = (0..120_u32).map(|index| ((index + 120 * number).wrapping_mul(2_654_435_761) >> 21) as u8);
            // Neither does the memory grow nor does it trap, the pointer is right, and so is the answer.
            let head = [which, (number % 2) as u8, 3, 31, 5, 2 + (number % 4) as u8];
            seeds.push(head.into_iter().chain(noise).collect());
        }
    }
    seeds
}
