//! The people of the soak and what they do all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antimony_host::client::{AckError, Api, ConnectError, Connection};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{Client, Lines, Raw, Server, within};

/// Two nodes with a link. One prints now and then for as long as it lives, and the deploy prints a lot at once.
const TOPOLOGY: &str = "topology:
  nodes:
    r1:
      kind: linux
      cmd: sh -c 'i=0; while :; do i=$((i+1)); echo beat $i; sleep 0.05; done'
      exec:
        - sh -c 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i of the deploy; done'
    r2:
      kind: linux
  links:
    - endpoints: [\"r1:eth1\", \"r2:eth1\"]
";

/// Longer than any soak.
const LONG: i64 = 24 * 3600;

/// What was done how often, and what was answered.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    fn count(&self, what: impl Into<String>) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    /// Counts the answer to a command. Refusals are part of the game, since others act on the same labs.
    fn answer(&self, command: &str, answer: &Result<Value, AckError>) {
        self.count(match answer {
            Ok(_) => format!("{command}: done"),
            Err(AckError::Refused { code: code @ (5000 | 5001), message }) => format!("{command}: {code} {message}"),
            Err(AckError::Refused { code, .. }) => format!("{command}: {code}"),
            Err(error) => format!("{command}: {error}"),
        });
        assert!(
            !matches!(answer, Err(AckError::Refused { code: 5403 | 5422, .. } | AckError::Malformed(_))),
            "{command}: {answer:?}"
        );
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.lock().unwrap().values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in self.0.lock().unwrap().iter() {
            writeln!(f, "{count:>8} {what}")?;
        }
        Ok(())
    }
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Somebody with an access token that lasts, a topology and a lab.
pub(crate) struct Person {
    number: usize,
    url: String,
    token: String,
    api: Api,
    /// Tokens that will soon expire are made of it.
    short_token: Box<dyn Fn() -> String + Send + Sync>,
    collection: String,
    topology: Mutex<Option<String>>,
    /// The lab that they have at present.
    lab: watch::Sender<Option<String>>,
    dice: AtomicU64,
}

impl Person {
    pub(crate) fn new(server: &Server, number: usize, collection: &str) -> Self {
        let id = format!("user-{number}");
        let token = server.short_token(&id, &[collection], LONG);
        let signer = server.signer(&id, &[collection]);
        Self {
            number,
            url: server.url.clone(),
            api: server.api().with_token(&token),
            token,
            short_token: Box::new(move || signer(2)),
            collection: collection.to_owned(),
            topology: Mutex::new(None),
            lab: watch::Sender::new(None),
            dice: AtomicU64::new(number as u64 * 1000),
        }
    }

    fn dice(&self) -> Dice {
        Dice(self.dice.fetch_add(1, Ordering::Relaxed))
    }

    async fn client(&self) -> Client {
        Client::try_connect(&self.url, &self.token).await.expect("the token is good")
    }

    async fn new_lab(&self) -> String {
        let known = self.topology.lock().unwrap().clone();
        let topology = match known {
            Some(known) => known,
            None => {
                let collections = self.api.get("/collections").await.unwrap();
                let collections = collections.as_array().unwrap();
                let collection = collections.iter().find(|one| one["name"] == *self.collection).unwrap();
                let definition = format!("name: soak-{}\n{TOPOLOGY}", self.number);
                let made = self.api.create_topology(collection["id"].as_str().unwrap(), &definition).await.unwrap();
                *self.topology.lock().unwrap() = Some(made.clone());
                made
            }
        };
        self.api.create_lab(&topology, "soak").await.unwrap()
    }

    /// Does everything once, and leaves nothing.
    pub(crate) async fn try_everything_once(&self) {
        let client = self.client().await;
        let lab = self.new_lab().await;
        client.deploy(&lab).await.unwrap();
        let shell = client.open_shell(&lab, "r1").await;
        let mut terminal = Lines::of(client.join(&format!("/shells/{shell}")).await);
        terminal.namespace().emit("data", "echo $((20 + 3))\n").await.unwrap();
        terminal.until("23").await;
        client.log(&lab).await;
        client.command(&lab, 4, json!({ "node": "r1" })).await.unwrap();
        client.destroy(&lab).await.unwrap();
        client.api.request(reqwest::Method::DELETE, &format!("/labs/{lab}"), None).await.unwrap();
    }

    /// Lets all clients of this person begin.
    pub(crate) fn act(self: &Arc<Self>, actors: &mut JoinSet<()>, tally: &Arc<Tally>, stop: &CancellationToken) {
        macro_rules! on_stage {
            ($($actor:ident),+) => {$({
                let (person, tally, stop) = (Arc::clone(self), Arc::clone(tally), stop.clone());
                actors.spawn(async move {
                    while !stop.is_cancelled() {
                        person.$actor(&tally).await;
                        // Somebody with nothing to do at present shall not do that as fast as possible.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
            })+};
        }
        on_stage!(
            live,
            type_into_shells,
            read,
            read,
            read_node,
            read_slowly,
            read_nothing,
            come_and_go,
            talk_nonsense,
            expire
        );
    }

    /// The life of a lab: made, deployed, its nodes acted on, destroyed or torn down half way, and deleted.
    async fn live(&self, tally: &Tally) {
        let mut dice = self.dice();
        let client = self.client().await;
        let lab = self.new_lab().await;
        self.lab.send_replace(Some(lab.clone()));
        for _ in 0..3 {
            if dice.below(4) == 0 {
                let deploy = client.command_in_background(&lab, 0, json!({}));
                tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
                tally.answer("destroy while deploying", &client.destroy(&lab).await);
                tally.answer("deploy, destroyed", &deploy.await.unwrap());
                continue;
            }
            tally.answer("deploy", &client.deploy(&lab).await);
            for _ in 0..dice.below(6) {
                let node = ["r1", "r2"][usize::try_from(dice.below(2)).unwrap()];
                let (command, name) =
                    [(2, "stop"), (3, "start"), (4, "restart")][usize::try_from(dice.below(3)).unwrap()];
                tally.answer(name, &client.command(&lab, command, json!({ "node": node })).await);
                tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
            }
            if dice.below(3) == 0 {
                tally.answer("deploy anew", &client.deploy(&lab).await);
            }
            tally.answer("destroy", &client.destroy(&lab).await);
        }
        // A destroy that was sent right behind a deploy may have come before it.
        if client.state(&lab).await.is_some() {
            tally.answer("destroy at last", &client.destroy(&lab).await);
        }
        self.lab.send_replace(None);
        client.api.request(reqwest::Method::DELETE, &format!("/labs/{lab}"), None).await.unwrap();
        tally.count("labs deleted");
    }

    fn current_lab(&self) -> Option<String> {
        self.lab.borrow().clone()
    }

    async fn type_into_shells(&self, tally: &Tally) {
        let Some(lab) = self.current_lab() else { return };
        let mut dice = self.dice();
        let client = self.client().await;
        let answer = client.command(&lab, 6, json!({ "node": "r2" })).await;
        tally.answer("open shell", &answer);
        let Ok(Value::String(shell)) = answer else { return };
        let Ok(namespace) = client.try_join(&format!("/shells/{shell}")).await else { return };
        let mut terminal = Lines::of(namespace);
        for _ in 0..dice.below(20) {
            let number = dice.below(1_000_000);
            let _ = terminal.namespace().emit("data", format!("echo $(({number} + 1))=\n")).await;
            let wanted = format!("{}=", number + 1);
            // The lab may be destroyed any time: the shell ends then.
            let read = async {
                while !terminal.text().contains(&wanted) {
                    if !terminal.read().await {
                        return false;
                    }
                }
                true
            };
            match tokio::time::timeout(Duration::from_secs(2), read).await {
                Ok(true) => tally.count("shell: answered"),
                _ => {
                    tally.count("shell: ended under somebody's hands");
                    break;
                }
            }
        }
        if dice.below(2) == 0 {
            tally.answer("close shell", &client.command(&lab, 7, json!({ "shellId": shell })).await);
        }
        tally.answer("list shells", &client.command(&lab, 5, json!({})).await);
        // What was left open counts for the limit: all of one's own are closed before it is reached.
        if dice.below(4) == 0 {
            let Ok(Value::Array(open)) = client.command(&lab, 5, json!({})).await else { return };
            for shell in open {
                tally.answer("close shell", &client.command(&lab, 7, json!({ "shellId": shell["id"] })).await);
            }
        }
    }

    async fn read(&self, tally: &Tally) {
        self.read_log(tally, "").await;
    }

    /// Where there is such a namespace.
    async fn read_node(&self, tally: &Tally) {
        self.read_log(tally, "/r1").await;
    }

    async fn read_log(&self, tally: &Tally, node: &str) {
        let Some(lab) = self.current_lab() else { return };
        let mut dice = self.dice();
        let connection = Connection::open(&self.url).await.unwrap();
        match within("a log", connection.connect_with_token(&format!("/logs/{lab}{node}"), &self.token)).await {
            Ok(log) => {
                // Fails when the backlog isn't first, or comes twice.
                let mut log = Lines::of(log);
                let reading = async { while log.read().await {} };
                let _ = tokio::time::timeout(Duration::from_millis(100 + dice.below(1500)), reading).await;
                tally.count(if node.is_empty() { "lab log read" } else { "node log read" });
            }
            Err(ConnectError::Refused(why)) => {
                tally.count(format!("log{}: {why}", if node.is_empty() { "" } else { " of a node" }));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Whoever the machine leaves no time to join within the server's limit is cut, and comes back.
            Err(ConnectError::Closed) => tally.count("cut while joining"),
            Err(error) => panic!("{error}"),
        }
    }

    async fn read_slowly(&self, tally: &Tally) {
        let Some(lab) = self.current_lab() else { return };
        let mut raw = Raw::open(&self.url).await;
        if raw.join(&format!("/logs/{lab}"), &self.token).await {
            for _ in 0..200 {
                let next = tokio::time::timeout(Duration::from_millis(200), raw.next());
                if !matches!(next.await, Ok(Some(_))) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            tally.count("log read slowly");
        }
    }

    /// Joins what there is to join, and never reads again.
    async fn read_nothing(&self, tally: &Tally) {
        let Some(lab) = self.current_lab() else { return };
        let mut raw = Raw::open(&self.url).await;
        for path in [&format!("/logs/{lab}"), "/lab-updates", "/status-messages", "/shell-commands", "/lab-commands"] {
            raw.join(path, &self.token).await;
        }
        for id in 0..200 {
            raw.send(format!("42/lab-commands,{id}{}", json!(["data", { "labId": lab, "command": 5 }]))).await;
        }
        tokio::time::sleep(Duration::from_millis(500 + self.dice().below(7000))).await;
        tally.count("somebody who didn't read left");
    }

    async fn come_and_go(&self, tally: &Tally) {
        let mut dice = self.dice();
        let mut raw = Raw::open(&self.url).await;
        for path in ["/lab-updates", "/status-messages", "/shell-commands", "/lab-commands"] {
            assert!(raw.join(path, &self.token).await, "{path}");
        }
        match dice.below(3) {
            // Without a word.
            0 => drop(raw),
            1 => {
                raw.send("41/lab-updates,").await;
                raw.send("1").await;
            }
            _ => {
                let _ = raw.socket.close(None).await;
            }
        }
        tally.count("come and gone");
        self.api.get("/labs").await.unwrap();
        tally.count("labs listed");
    }

    async fn talk_nonsense(&self, tally: &Tally) {
        let mut raw = Raw::open(&self.url).await;
        raw.join("/lab-commands", &self.token).await;
        let frames = [
            "42/lab-commands,[\"data\"]",
            "42/lab-commands,7[\"data\",{\"labId\":1}]",
            "42/lab-commands,[\"nothing\",{}]",
            "42/status-messages,[\"data\"]",
            "40/nowhere,",
            "40/lab-updates,{\"token\":\"nonsense\"}",
            "41/shell-commands,",
            "43/lab-commands,99[]",
            "451-/lab-commands,[\"data\",{\"_placeholder\":true,\"num\":0}]",
            "42/lab-commands,",
            "9",
            "4",
        ];
        let mut dice = self.dice();
        for _ in 0..30 {
            let frame = frames[usize::try_from(dice.below(frames.len() as u64)).unwrap()];
            if !raw.send(frame).await {
                break;
            }
        }
        tally.count("nonsense talked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn expire(&self, tally: &Tally) {
        let token = (self.short_token)();
        let connection = Connection::open(&self.url).await.unwrap();
        match within("a feed", connection.connect_with_token("/lab-updates", &token)).await {
            Ok(mut updates) => {
                within("the end of a token", async { while updates.next_event().await.is_some() {} }).await;
                tally.count("tokens expired");
            }
            Err(ConnectError::Refused(why)) => assert_eq!(why, "Invalid Token"),
            Err(error) => panic!("{error}"),
        }
    }
}
