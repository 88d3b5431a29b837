//! Random sequences of everything that people do and that happens to nodes, held against a model of what may come of it.
//!
//! Two people, two labs, a real server. Each step is one thing that is done, or several at once, or a connection that
//! breaks in the middle of them. A thing that is done alone has to have the outcome that the model knows; of things that
//! are done at once, each has to have one of the outcomes that it may have. All the while, others look at the labs, when
//! they are told to and when they aren't, and want nothing but states in an order that the specification names.
//!
//! `ANTIMONY_WHOLE_SECONDS` says for how long (20), `ANTIMONY_WHOLE_SEED` begins with the round of a failure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use antimony_host::client::{AckError, Api, ConnectError};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Client, Lines, Server, ServerBuilder, System, User, alone, eventually, known_programs, within};

/// One node that stays, one that ends when it is told to, and one that never lives long.
const NODES: [&str; 3] = ["stays", "told", "brief"];
const LAB: &str = "name: NAME
topology:
  defaults:
    kind: linux
  nodes:
    stays: {}
    told:
      cmd: sh -c 'rm -f /tmp/end; mkfifo /tmp/end; read line < /tmp/end'
    brief:
      cmd: sleep 0.7
  links:
    - endpoints: [stays:eth1, told:eth1]
";

/// Things of a round.
const STEPS: usize = 14;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_in_whatever_order_the_server_stays_within_the_specification() {
    if !User::Myself.can_run_labs("random sequences of everything") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let time = Duration::from_secs(number("ANTIMONY_WHOLE_SECONDS").unwrap_or(20));
    let mut seed = number("ANTIMONY_WHOLE_SEED").unwrap_or_else(|| rand::rng().random());
    let turn = alone().await;
    let mut server = ServerBuilder::new(User::Myself).within(&turn).start().await;
    let programs = known_programs(server.place());
    let before = System::now(&programs);
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let mut topologies = Vec::new();
    for name in ["one", "two"] {
        topologies.push(admin.api.create_topology(&collection, &LAB.replace("NAME", name)).await.unwrap());
    }
    let student = server.member("student", &["course"]).await;
    let mut people = [Person::new(&server, admin).await, Person::new(&server, student).await];

    let began = Instant::now();
    let mut rounds = 0;
    let mut outcomes = BTreeMap::new();
    while rounds == 0 || began.elapsed() < time {
        let told = Reproduce(seed);
        round(&server, &mut people, &topologies, &mut StdRng::seed_from_u64(seed), &mut outcomes).await;
        drop(told);
        rounds += 1;
        seed = seed.wrapping_add(1);
    }
    eprintln!("{rounds} rounds in {:?}: {outcomes:#?}", began.elapsed());
    System::wait_until_as(&before, &programs).await;
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Says how a failure is brought about again.
struct Reproduce(u64);

impl Drop for Reproduce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this round again: ANTIMONY_WHOLE_SEED={} cargo test --test e2e whole", self.0);
        }
    }
}

/// What somebody does to a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Deploy,
    Destroy,
    /// Command 2, 3 or 4.
    Node(u8, &'static str),
    List,
    Open(&'static str),
    Close(String),
    /// A command that makes no sense.
    Nonsense,
}

/// What came of it: a payload or a code; `None`: the connection was gone before an answer came.
type Outcome = Option<Result<Value, i64>>;

/// Somebody, over a connection that may break and one that doesn't.
struct Person {
    client: Client,
    watcher: Watcher,
}

impl Person {
    async fn new(server: &Server, client: Client) -> Self {
        let watcher = Watcher::start(server, &client.token).await;
        Self { client, watcher }
    }

    /// Sends what does `deed`; the outcome comes later.
    fn begin(&self, lab: &str, deed: &Deed) -> JoinHandle<Outcome> {
        let (command, more) = match deed {
            Deed::Deploy => (0, json!({})),
            Deed::Destroy => (1, json!({})),
            Deed::Node(command, node) => (*command, json!({ "node": node })),
            Deed::List => (5, json!({})),
            Deed::Open(node) => (6, json!({ "node": node })),
            Deed::Close(shell) => (7, json!({ "shellId": shell })),
            Deed::Nonsense => (9, json!({})),
        };
        let mut message = json!({ "labId": lab, "command": command });
        message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let commands = self.client.commands.emitter();
        tokio::spawn(async move {
            match within(&format!("an answer to {message}"), commands.call("data", message.clone())).await {
                Ok(payload) => Some(Ok(payload)),
                Err(AckError::Refused { code, .. }) => Some(Err(code)),
                Err(AckError::Closed) => None,
                Err(other) => panic!("{other}"),
            }
        })
    }
}

/// A lab as the model has it.
struct Lab {
    id: String,
    /// Whether the administrator created it, and not the student.
    of_admin: bool,
    running: bool,
    /// Nodes of which it is known whether they run.
    nodes: BTreeMap<&'static str, bool>,
    /// Whether somebody's connection broke with a command under way, which may yet be carried out.
    vague: bool,
    /// Whose shells were opened in it: by person, id and node.
    opened: Vec<(usize, String, &'static str)>,
}

/// How often each command had which outcome, and which states were seen: so that one sees that it does something.
type Outcomes = BTreeMap<String, u32>;

async fn round(
    server: &Server,
    people: &mut [Person; 2],
    topologies: &[String],
    rng: &mut StdRng,
    outcomes: &mut Outcomes,
) {
    let mut labs = Vec::new();
    for (which, topology) in topologies.iter().enumerate() {
        let id = people[which].client.api.create_lab(topology, "lab").await.unwrap();
        let (nodes, opened) = (BTreeMap::new(), Vec::new());
        labs.push(Lab { id, of_admin: which == 0, running: false, nodes, vague: false, opened });
    }
    let poller = Poller::start(&people[0].client.api, labs.iter().map(|lab| lab.id.clone()).collect());
    let mut done: Vec<String> = Vec::new();
    for _ in 0..STEPS {
        let what = format!("a step after {done:#?}");
        let exact = within(&what, step(server, people, &mut labs, rng, &mut done)).await;
        for lab in &mut labs {
            settle(people, lab, exact, &done).await;
        }
    }
    for lab in &mut labs {
        remove(people, lab).await;
    }
    for line in &done {
        let outcome = line.trim_start().split_once(": ").filter(|_| line.starts_with(' '));
        let Some((deed, code)) = outcome else { continue };
        let deed = deed.split(['(', '"']).next().unwrap_or_default();
        *outcomes.entry(format!("{deed} {code}")).or_default() += 1;
    }
    for state in poller.finish(&done).await {
        *outcomes.entry(format!("state {state}")).or_default() += 1;
    }
    for (who, person) in people.iter().enumerate() {
        person.watcher.check(&done);
        let of_them = labs.iter().flat_map(|lab| &lab.opened).filter(|(owner, ..)| *owner == who);
        for (_, shell, _) in of_them {
            eventually(async || match person.watcher.ends_of(shell) {
                1 => Ok(()),
                ends => Err(format!("the end of shell {shell} was announced {ends} times, after {done:#?}")),
            })
            .await;
        }
    }
}

/// Does something, or several things at once. Whether the model knows what has come of it.
async fn step(
    server: &Server,
    people: &mut [Person; 2],
    labs: &mut [Lab],
    rng: &mut StdRng,
    done: &mut Vec<String>,
) -> bool {
    match rng.random_range(0..10) {
        0 => {
            if let Some(lab) = labs.iter_mut().find(|lab| lab.running && !lab.vague) {
                end_from_within(people, lab, done).await;
                return true;
            }
        }
        1 => {
            // With what was asked for still under way.
            let who = rng.random_range(0..2);
            let deeds = deeds(labs, rng, 2, Some(who));
            let lost: Vec<_> = deeds.iter().map(|(who, lab, deed)| people[*who].begin(&labs[*lab].id, deed)).collect();
            for _ in 0..rng.random_range(1..200) {
                tokio::task::yield_now().await;
            }
            done.push(format!("{deeds:?}, and the connection of {who} breaks"));
            let token = people[who].client.token.clone();
            // The tasks that wait hold the connection open as well.
            lost.iter().for_each(JoinHandle::abort);
            people[who].client = Client::connect(server, &token).await;
            for (_, lab, _) in deeds {
                labs[lab].vague = true;
            }
            return false;
        }
        2 => {
            let who = rng.random_range(0..2);
            done.push(format!("{who} comes back"));
            people[who].client = Client::connect(server, &people[who].client.token.clone()).await;
            return true;
        }
        _ => {}
    }
    let count = if rng.random() { 1 } else { rng.random_range(2..5) };
    let deeds = deeds(labs, rng, count, None);
    done.push(format!("{deeds:?}"));
    let begun: Vec<_> = deeds.iter().map(|(who, lab, deed)| people[*who].begin(&labs[*lab].id, deed)).collect();
    let alone = deeds.len() == 1;
    for ((who, lab, deed), outcome) in deeds.into_iter().zip(begun) {
        let outcome = outcome.await.unwrap().expect("nobody's connection breaks here");
        let lab = &mut labs[lab];
        let legal = legal(who, lab, &deed, alone && !lab.vague);
        let code = outcome.as_ref().map_or_else(|code| *code, |_| OK);
        assert!(legal.contains(&code), "{outcome:?} and not one of {legal:?} for {deed:?}; so far: {done:#?}");
        done.push(format!("  {deed:?}: {code}"));
        take_down(who, lab, &deed, outcome.ok(), alone);
    }
    alone
}

fn deeds(labs: &[Lab], rng: &mut StdRng, count: usize, by: Option<usize>) -> Vec<(usize, usize, Deed)> {
    let mut all = Vec::new();
    for _ in 0..count {
        let who = by.unwrap_or_else(|| rng.random_range(0..2));
        let which = rng.random_range(0..labs.len());
        let node = NODES[rng.random_range(0..NODES.len())];
        let lab = &labs[which];
        let deed = match rng.random_range(0..16) {
            // Where nothing runs, little can happen.
            0..3 => Deed::Deploy,
            _ if !lab.running && rng.random_range(0..2) == 0 => Deed::Deploy,
            3 | 4 => Deed::Destroy,
            5..9 => Deed::Node(rng.random_range(2..5), node),
            9 => Deed::List,
            10..13 => Deed::Open(node),
            13 | 14 if !lab.opened.is_empty() => {
                // Mostly the latest, which is likely to be open still.
                let latest = lab.opened.len() - 1;
                let which = if rng.random() { latest } else { rng.random_range(0..=latest) };
                Deed::Close(lab.opened[which].1.clone())
            }
            13 => Deed::Open("nowhere"),
            14 => Deed::Close("nothing".into()),
            _ => Deed::Nonsense,
        };
        all.push((who, which, deed));
    }
    all
}

/// Stands for a success among the codes.
const OK: i64 = 0;

/// What may come of something; if it is `exact`, nothing else happens to the lab meanwhile.
fn legal(who: usize, lab: &Lab, deed: &Deed, exact: bool) -> Vec<i64> {
    let admin = who == 0;
    let may = admin || !lab.of_admin;
    let knows = |node: &str| lab.nodes.get(node).copied();
    match (deed, exact) {
        (Deed::Nonsense, _) => vec![5422],
        (Deed::List, _) => vec![OK],
        (Deed::Deploy | Deed::Destroy, _) if !may => vec![5403],
        (Deed::Deploy, true) => vec![OK],
        // By another deploy, by a destroy that is under way or cancels it.
        (Deed::Deploy, false) => vec![OK, 5002, 5000],
        (Deed::Destroy, true) => vec![if lab.running { OK } else { 5003 }],
        (Deed::Destroy, false) => vec![OK, 5003],
        (Deed::Node(..), true) if !lab.running => vec![5003],
        // What has stopped is not stopped again, which whoever may see the lab is told first.
        (Deed::Node(2, node), true) if knows(node) == Some(false) => vec![5004],
        (Deed::Node(2, node), true) if !may && knows(node).is_none() => vec![5403, 5004],
        (Deed::Node(..), true) if !may => vec![5403],
        // It may end by itself while it is started or stopped.
        (Deed::Node(_, "brief"), true) => vec![OK, 5001, 5004],
        (Deed::Node(..), true) => vec![OK],
        (Deed::Node(..), false) if !may => vec![5403, 5002, 5003, 5004],
        (Deed::Node(..), false) => vec![OK, 5001, 5002, 5003, 5004],
        (Deed::Open("nowhere"), _) => vec![5006],
        (Deed::Open(_), true) if !lab.running => vec![5003],
        (Deed::Open(node), true) => match knows(node) {
            Some(true) => vec![OK],
            Some(false) => vec![5004],
            None => vec![OK, 5004, 5000, 5001],
        },
        (Deed::Open(_), false) => vec![OK, 5000, 5001, 5002, 5003, 5004],
        (Deed::Close(shell), exact) => match lab.opened.iter().find(|(_, id, _)| id == shell) {
            // It may have ended with its node, and be forgotten.
            Some((owner, ..)) if *owner == who || admin => vec![OK, 5007],
            Some(_) => vec![5403, 5007],
            None if exact => vec![5007],
            None => vec![OK, 5403, 5007],
        },
    }
}

/// Has the model follow what was done.
fn take_down(who: usize, lab: &mut Lab, deed: &Deed, payload: Option<Value>, alone: bool) {
    let Some(payload) = payload else { return };
    match deed {
        Deed::Open(node) => {
            lab.opened.push((who, payload.as_str().expect("an id").to_owned(), node));
        }
        Deed::List => {
            let listed: Vec<_> = payload.as_array().expect("a list").iter().map(|shell| shell["id"].clone()).collect();
            for id in &listed {
                let own = lab.opened.iter().any(|(owner, opened, _)| *owner == who && id == opened);
                assert!(own || !alone || lab.vague, "shell {id} of nobody knows whom");
            }
        }
        Deed::Deploy if alone => {
            lab.running = true;
            lab.nodes = BTreeMap::from([("stays", true), ("told", true)]);
        }
        Deed::Destroy if alone => lab.running = false,
        Deed::Node(command, node) if alone && *node != "brief" => {
            lab.nodes.insert(node, *command != 2);
        }
        _ => {}
    }
}

/// Ends the node that can be told to, from a shell in it.
async fn end_from_within(people: &mut [Person; 2], lab: &mut Lab, done: &mut Vec<String>) {
    done.push("a node is told to end".into());
    let person = &people[0];
    // Whatever it did before: it runs now.
    person.client.command(&lab.id, 3, json!({ "node": "told" })).await.unwrap();
    let shell = person.client.open_shell(&lab.id, "told").await;
    lab.opened.push((0, shell.clone(), "told"));
    let terminal = Lines::of(person.client.join(&format!("/shells/{shell}")).await);
    terminal
        .namespace()
        .emit("data", "until [ -p /tmp/end ]; do sleep 0.02; done; echo now > /tmp/end\r")
        .await
        .unwrap();
    eventually(async || match person.watcher.ends_of(&shell) {
        0 => Err("the shell goes on".to_owned()),
        _ => Ok(()),
    })
    .await;
    eventually(async || {
        let shown = person.client.api.lab(&lab.id).await.unwrap();
        let node =
            shown["instance"]["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["name"] == "told"));
        match node {
            Some(node) if node["state"] == "exited" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    lab.nodes.insert("told", false);
}

/// Waits until everybody has been told how it is, and takes over what the model can't know: of things done at once, it
/// doesn't know which came last.
async fn settle(people: &[Person; 2], lab: &mut Lab, exact: bool, done: &[String]) {
    let mut settled = Value::Null;
    for person in people {
        eventually(async || {
            let shown = shown(&person.client.api, &lab.id).await;
            let told = person.watcher.last(&lab.id);
            // Brief nodes end when they like.
            if told.as_ref() != Some(&shown) {
                return Err(format!("{shown} is there, and who does as updates say has {told:?}; after {done:#?}"));
            }
            // What was asked for over a connection that broke may still be under way.
            match shown["state"].as_i64() {
                None | Some(1) => {}
                other => return Err(format!("the lab is in state {other:?} after {done:#?}")),
            }
            settled = shown;
            Ok(())
        })
        .await;
    }
    let running = settled["state"] == 1;
    let nodes = ["stays", "told"].iter().enumerate().map(|(at, name)| (*name, settled["nodes"][at] == "running"));
    let nodes: BTreeMap<_, _> = if running { nodes.collect() } else { BTreeMap::new() };
    if exact && !lab.vague {
        assert_eq!(running, lab.running, "{settled} after {done:#?}");
        assert!(!running || nodes == lab.nodes, "{settled}, and not {:?} after {done:#?}", lab.nodes);
    }
    (lab.running, lab.nodes) = (running, nodes);
}

/// The part of a lab that the model is about.
async fn shown(api: &Api, lab: &str) -> Value {
    part_of(&api.lab(lab).await.expect("the lab is there"))
}

fn part_of(lab: &Value) -> Value {
    let instance = &lab["instance"];
    let nodes: Vec<_> = instance["nodes"].as_array().into_iter().flatten().map(|node| node["state"].clone()).collect();
    json!({ "state": instance["state"], "name": instance["name"], "nodes": nodes })
}

/// Destroys what there is of a lab and deletes it: from then on nothing can come back.
async fn remove(people: &[Person; 2], lab: &Lab) {
    let admin = &people[0].client;
    let path = format!("/labs/{}", lab.id);
    eventually(async || {
        match admin.destroy(&lab.id).await {
            Ok(Value::Null) | Err(AckError::Refused { code: 5003, .. }) => {}
            other => return Err(format!("{other:?}")),
        }
        // What was asked for over a connection that broke may have begun meanwhile.
        admin.api.request(Method::DELETE, &path, None).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    for person in people {
        let gone = person.client.try_join(&format!("/logs/{}", lab.id)).await.err();
        assert_eq!(gone, Some(ConnectError::Refused("Invalid namespace".to_owned())));
    }
}

/// Looks at labs, and wants to see their states in an order that the specification names. It may miss some.
#[derive(Default)]
struct Order {
    /// The instance of each lab, and whether it has been on its way down.
    now: HashMap<String, (String, bool, Option<i64>)>,
    gone: HashSet<String>,
}

impl Order {
    fn observe(&mut self, lab: &str, shown: &Value) -> Result<(), String> {
        let state = shown["state"].as_i64();
        let name = shown["name"].as_str().unwrap_or_default();
        let before = self.now.get(lab);
        let complain = |what: &str| Err(format!("{what}: {shown} after {before:?}"));
        if state.is_none() != name.is_empty() || !matches!(state, None | Some(0..=3)) {
            return complain("a state that the specification doesn't name");
        }
        for node in shown["nodes"].as_array().into_iter().flatten() {
            if !["starting", "running", "exited"].contains(&node.as_str().unwrap_or_default()) {
                return complain("a state of a node that the specification doesn't name");
            }
        }
        if state == Some(1) && shown["nodes"].as_array().map(Vec::len) != Some(NODES.len()) {
            return complain("it runs without its nodes");
        }
        let (mut going, mut last) = (false, None);
        match before {
            Some((instance, was_going, state)) if instance == name => (going, last) = (*was_going, *state),
            Some((instance, ..)) if !instance.is_empty() => drop(self.gone.insert(instance.clone())),
            _ => {}
        }
        if self.gone.contains(name) {
            return Err(format!("an instance came back: {shown}"));
        }
        // Up once, down once: what has begun to go, also to be replaced, runs never again.
        going |= matches!(state, Some(2 | 3)) || (state == Some(0) && last == Some(1));
        if going && state == Some(1) {
            return Err(format!("an instance that was on its way down runs: {shown}"));
        }
        self.now.insert(lab.to_owned(), (name.to_owned(), going, state));
        Ok(())
    }
}

/// Does as updates say: fetches the lab that each is about. And counts the ends of shells.
struct Watcher {
    seen: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    last: HashMap<String, Value>,
    order: Order,
    ends: HashMap<String, u32>,
    wrong: Vec<String>,
}

impl Watcher {
    async fn start(server: &Server, token: &str) -> Self {
        let client = Client::connect(server, token).await;
        let mut updates = client.join("/lab-updates").await;
        let mut shells = client.join("/shell-commands").await;
        let mut statuses = client.join("/status-messages").await;
        let seen = Arc::new(Mutex::new(Watched::default()));
        let watched = Arc::clone(&seen);
        // Ends with its runtime, at the end of the test.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    update = updates.next_event() => {
                        let Some(update) = update else { return };
                        let id = update.data()["payload"]["labId"].as_str().expect("it can be judged").to_owned();
                        let lab = client.api.lab(&id).await;
                        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                        match lab {
                            Ok(lab) => {
                                let shown = part_of(&lab);
                                if let Err(wrong) = watched.order.observe(&id, &shown) {
                                    watched.wrong.push(wrong);
                                }
                                watched.last.insert(id, shown);
                            }
                            Err(error) if error.refusal().is_some_and(|(status, _)| status == 404) => {
                                watched.last.remove(&id);
                            }
                            Err(error) => watched.wrong.push(error.to_string()),
                        }
                    }
                    end = shells.next_event() => {
                        let Some(end) = end else { return };
                        let id = end.data()["payload"]["shellId"].as_str().expect("an id").to_owned();
                        *watched.lock().unwrap_or_else(PoisonError::into_inner).ends.entry(id).or_default() += 1;
                    }
                    status = statuses.next_event() => if status.is_none() { return },
                }
            }
        });
        Self { seen }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lab as it was after the last update about it.
    fn last(&self, lab: &str) -> Option<Value> {
        self.seen().last.get(lab).cloned()
    }

    /// How often the end of a shell was announced.
    fn ends_of(&self, shell: &str) -> u32 {
        self.seen().ends.get(shell).copied().unwrap_or(0)
    }

    fn check(&self, done: &[String]) {
        let seen = self.seen();
        assert!(seen.wrong.is_empty(), "{:#?} after {done:#?}", seen.wrong);
    }
}

/// Looks at labs all the time, told or not.
struct Poller {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<BTreeSet<i64>, String>>,
}

impl Poller {
    fn start(api: &Api, labs: Vec<String>) -> Self {
        let (api, stop) = (api.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut order, mut states) = (Order::default(), BTreeSet::new());
            while !stopped.load(Ordering::Relaxed) {
                for id in &labs {
                    match api.lab(id).await {
                        Ok(lab) => {
                            let shown = part_of(&lab);
                            states.extend(shown["state"].as_i64());
                            order.observe(id, &shown)?;
                        }
                        Err(error) if error.refusal().is_some_and(|(status, _)| status == 404) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            Ok(states)
        });
        Self { stop, task }
    }

    /// The states that were seen.
    async fn finish(self, done: &[String]) -> BTreeSet<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic").unwrap_or_else(|wrong| panic!("{wrong}; after {done:#?}"))
    }
}
