//! Holds all traffic between the servers of the tests and this process's clients against the AsyncAPI document.
//!
//! Whatever the server says has to be in the document, to the letter. Whatever a client sends may be malformed, as tests
//! do on purpose; then nothing but an error may come back. A test in which something else was seen fails when its server
//! is dropped.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use antimony_host::client::{Direction, Kind, Traffic, watch_traffic};
use antimony_host::socket::contract::DOCUMENT;
use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::Value;

/// Name under which the document is compiled; nothing is fetched from there.
const LOCATION: &str = "memory:///asyncapi";
/// The code of what is malformed.
const INVALID: u64 = 5422;
/// Schemas that list values, each of which is to be seen by some test.
const LISTS: [&str; 4] = ["ErrorCode", "RefusalText", "Severity", "ShellCommandId"];

/// The document as the checks need it.
struct Contract {
    schemas: Schemas,
    channels: Vec<Channel>,
    error: SchemaIndex,
    join: Join,
}

/// A namespace, or a family of them.
struct Channel {
    id: String,
    address: String,
    /// What the server sends there.
    sends: Vec<Message>,
    /// What it takes there.
    receives: Vec<Operation>,
}

#[derive(Clone)]
struct Message {
    /// `channel.message`, as in the document.
    id: String,
    /// Name of the event.
    name: String,
    packet: String,
    schema: SchemaIndex,
}

#[derive(Clone)]
struct Operation {
    id: String,
    messages: Vec<Message>,
    replies: Vec<Message>,
}

struct Join {
    connect: Message,
    connected: Message,
    refused: Message,
}

impl Contract {
    fn get() -> &'static Self {
        static CONTRACT: OnceLock<Contract> = OnceLock::new();
        CONTRACT.get_or_init(|| Self::read(&document()))
    }

    fn read(document: &Value) -> Self {
        let mut reader = Reader { document, compiler: Compiler::new(), schemas: Schemas::new() };
        reader.compiler.set_default_draft(Draft::V7);
        reader.compiler.enable_format_assertions();
        reader.compiler.add_resource(LOCATION, document.clone()).expect("the document is a resource");
        let mut channels = Vec::new();
        for (id, channel) in object(&document["channels"]) {
            let operations = object(&document["operations"]).filter(|(_, operation)| {
                operation["channel"]["$ref"] == format!("#/channels/{id}") && id != "namespace"
            });
            let (mut sends, mut receives) = (Vec::new(), Vec::new());
            for (name, operation) in operations {
                let messages = reader.messages(&operation["messages"]);
                match operation["action"].as_str() {
                    Some("send") => sends.extend(messages),
                    Some("receive") => {
                        let replies = reader.messages(&operation["reply"]["messages"]);
                        receives.push(Operation { id: name.clone(), messages, replies });
                    }
                    other => panic!("{other:?} is no action"),
                }
            }
            let address = channel["address"].as_str().expect("a channel has an address").to_owned();
            channels.push(Channel { id: id.clone(), address, sends, receives });
        }
        let join = Join {
            connect: reader.message("#/channels/namespace/messages/connect"),
            connected: reader.message("#/channels/namespace/messages/connected"),
            refused: reader.message("#/channels/namespace/messages/refused"),
        };
        let error = reader.compile("/components/schemas/Error");
        Self { schemas: reader.schemas, channels, error, join }
    }

    fn channel(&self, namespace: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| is_at(&channel.address, namespace))
    }

    fn check(&self, schema: SchemaIndex, data: &Value) -> Result<(), String> {
        self.schemas.validate(data, schema).map_err(|error| format!("{error:#}"))
    }

    fn fits(&self, message: &Message, data: &Value) -> bool {
        self.schemas.validate(data, message.schema).is_ok()
    }

    /// The operation that an event of a client is; `None`: the document has no such event.
    fn operation<'a>(&self, channel: &'a Channel, kind: Kind, name: &str, data: Option<&Value>) -> Option<Sent<'a>> {
        let data = data?;
        let is = |message: &&Message, data: &Value| {
            message.name == name
                && match (kind, message.packet.as_str()) {
                    (Kind::BinaryEvent, "binary_event") => data["_placeholder"] == true && data["num"] == 0,
                    (Kind::Event, "event") => self.fits(message, data),
                    _ => false,
                }
        };
        let find = |data: &Value| {
            channel.receives.iter().find_map(|operation| {
                let message = operation.messages.iter().find(|message| is(message, data))?;
                Some(Sent { operation, message, replies: &operation.replies })
            })
        };
        let sent = find(data)?;
        if sent.operation.id != "commandAsText" {
            return Some(sent);
        }
        // JSON text stands for the command in it.
        let command: Value = serde_json::from_str(data.as_str()?).ok()?;
        find(&command).filter(|_| command.is_object()).map(|inner| Sent { replies: inner.replies, ..sent })
    }
}

/// An event of a client that the document has.
struct Sent<'a> {
    operation: &'a Operation,
    message: &'a Message,
    replies: &'a [Message],
}

/// The document.
pub(crate) fn document() -> Value {
    serde_saphyr::from_str(DOCUMENT).expect("the document is YAML")
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Whether a namespace is one of those at `address`, whose `{parameters}` stand for one part of the path each.
fn is_at(address: &str, namespace: &str) -> bool {
    let (expected, parts): (Vec<_>, Vec<_>) = (address.split('/').collect(), namespace.split('/').collect());
    address.starts_with('/')
        && expected.len() == parts.len()
        && expected.iter().zip(parts).all(|(expected, part)| *expected == part || expected.starts_with('{'))
}

struct Reader<'a> {
    document: &'a Value,
    compiler: Compiler,
    schemas: Schemas,
}

impl Reader<'_> {
    fn messages(&mut self, references: &Value) -> Vec<Message> {
        let references = references.as_array().into_iter().flatten();
        references.map(|reference| self.message(reference["$ref"].as_str().expect("a reference"))).collect()
    }

    /// The message that a reference to a channel's message leads to.
    fn message(&mut self, reference: &str) -> Message {
        let of_channel = self.at(reference).clone();
        let id = reference.trim_start_matches("#/channels/").replace("/messages/", ".");
        let place = of_channel["$ref"].as_str().expect("messages are components");
        let message = self.at(place).clone();
        let schema = self.compile(&format!("{}/payload", place.trim_start_matches('#')));
        let text = |key: &str| message[key].as_str().unwrap_or_else(|| panic!("{place} has a {key}")).to_owned();
        Message { id, name: text("name"), packet: text("x-socketio-packet"), schema }
    }

    fn at(&self, reference: &str) -> &Value {
        let pointer = reference.trim_start_matches('#');
        self.document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    fn compile(&mut self, pointer: &str) -> SchemaIndex {
        let location = format!("{LOCATION}#{pointer}");
        self.compiler.compile(&location, &mut self.schemas).unwrap_or_else(|error| panic!("{location}: {error:#}"))
    }
}

/// What was seen of one server.
#[derive(Default)]
struct Record {
    connections: HashMap<u64, Connection>,
    /// Messages as `channel.message`, values as `Schema value`.
    seen: BTreeSet<String>,
    violations: Vec<String>,
}

#[derive(Default)]
struct Connection {
    namespaces: HashMap<String, Stage>,
    /// Events that wait for their acknowledgement; the replies that may come, or none but an error.
    waiting: HashMap<u64, (String, Option<Vec<Message>>)>,
}

/// Where a client is with a namespace.
#[derive(Clone, Copy)]
enum Stage {
    Joining { with_token: bool },
    In { had_backlog: bool },
}

type Records = RwLock<HashMap<String, Arc<Mutex<Record>>>>;

fn records() -> &'static Records {
    static RECORDS: OnceLock<Records> = OnceLock::new();
    RECORDS.get_or_init(Records::default)
}

fn record(url: &str) -> Option<Arc<Mutex<Record>>> {
    records().read().unwrap_or_else(PoisonError::into_inner).get(url).cloned()
}

/// Checks all traffic with the server at `url` from now on.
pub(super) fn watch(url: &str) {
    Contract::get();
    records().write().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned(), Arc::default());
    watch_traffic(take);
}

/// Ends that, and answers what there was that the document doesn't allow.
pub(super) fn violations(url: &str) -> Vec<String> {
    let record = records().write().unwrap_or_else(PoisonError::into_inner).remove(url);
    record.map_or_else(Vec::new, |record| {
        std::mem::take(&mut record.lock().unwrap_or_else(PoisonError::into_inner).violations)
    })
}

/// What of the document was seen with the server at `url` so far.
pub(crate) fn seen(url: &str) -> BTreeSet<String> {
    record(url).map_or_else(BTreeSet::new, |record| record.lock().unwrap_or_else(PoisonError::into_inner).seen.clone())
}

/// Everything that there is to see: each message of each channel, and each value that the document lists.
pub(crate) fn all_there_is() -> BTreeSet<String> {
    let document = document();
    let mut all = BTreeSet::new();
    for (id, channel) in object(&document["channels"]) {
        all.extend(object(&channel["messages"]).map(|(message, _)| format!("{id}.{message}")));
    }
    for list in LISTS {
        let values = document["components"]["schemas"][list]["oneOf"].as_array().expect("it lists values");
        all.extend(values.iter().map(|value| listed(list, &value["const"])));
    }
    all
}

/// A value of one of [`LISTS`].
fn listed(list: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{list} {text}"),
        other => format!("{list} {other}"),
    }
}

fn take(traffic: &Traffic<'_>) {
    let Some(record) = record(traffic.base_url) else { return };
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    let Record { connections, seen, violations } = &mut *record;
    let connection = connections.entry(traffic.connection).or_default();
    if let Err(violation) = connection.take(Contract::get(), traffic, seen) {
        let Traffic { direction, kind, namespace, id, data, .. } = traffic;
        let data = data.map_or_else(|| "nothing".to_owned(), Value::to_string);
        let shown: String = data.chars().take(2_000).collect();
        violations.push(format!("{direction:?} {kind:?} in {namespace}, id {id:?}: {shown}\n{violation}"));
    }
}

impl Connection {
    fn take(&mut self, contract: &Contract, traffic: &Traffic<'_>, seen: &mut BTreeSet<String>) -> Result<(), String> {
        let nothing = Value::Null;
        let data = traffic.data.unwrap_or(&nothing);
        let namespace = traffic.namespace;
        let channel = contract.channel(namespace);
        match (traffic.direction, traffic.kind) {
            (Direction::Sent, Kind::Connect) => {
                let with_token = contract.fits(&contract.join.connect, data);
                if with_token {
                    seen.insert(contract.join.connect.id.clone());
                }
                self.namespaces.insert(namespace.to_owned(), Stage::Joining { with_token });
            }
            (Direction::Received, Kind::Connect) => {
                contract.check(contract.join.connected.schema, data)?;
                seen.insert(contract.join.connected.id.clone());
                channel.ok_or("the document has no such namespace")?;
                let stage = self.namespaces.insert(namespace.to_owned(), Stage::In { had_backlog: false });
                if !matches!(stage, Some(Stage::Joining { with_token: true })) {
                    return Err("let in without having asked as the document says".into());
                }
            }
            (Direction::Received, Kind::ConnectError) => {
                contract.check(contract.join.refused.schema, data)?;
                seen.insert(contract.join.refused.id.clone());
                seen.insert(listed("RefusalText", &data["message"]));
                self.namespaces.remove(namespace);
                if channel.is_none() && data["message"] != "Invalid namespace" {
                    return Err("the document has no such namespace".into());
                }
            }
            (_, Kind::Disconnect) => {
                self.namespaces.remove(namespace);
            }
            (Direction::Sent, Kind::Event | Kind::BinaryEvent) => {
                let (name, argument) = (data[0].as_str().unwrap_or_default(), data.get(1));
                let sent = channel.and_then(|channel| contract.operation(channel, traffic.kind, name, argument));
                if let Some(sent) = &sent {
                    seen.insert(sent.message.id.clone());
                }
                if let Some(id) = traffic.id {
                    let id_of_channel = channel.map_or_else(String::new, |channel| channel.id.clone());
                    self.waiting.insert(id, (id_of_channel, sent.map(|sent| sent.replies.to_vec())));
                }
            }
            (Direction::Received, Kind::Ack) => {
                let id = traffic.id.ok_or("an acknowledgement of nothing")?;
                let (channel, replies) = self.waiting.remove(&id).ok_or("nobody waits for this acknowledgement")?;
                let [answer] = data.as_array().map(Vec::as_slice).unwrap_or_default() else {
                    return Err("an acknowledgement is one argument".into());
                };
                acknowledged(contract, &channel, replies.as_deref(), answer, seen)?;
            }
            (Direction::Received, Kind::Event) => {
                let [Value::String(name), argument] = data.as_array().map(Vec::as_slice).unwrap_or_default() else {
                    return Err("an event is a name and one argument".into());
                };
                let channel = channel.ok_or("the document has no such namespace")?;
                let message =
                    channel.sends.iter().find(|message| message.name == *name).ok_or("no such event is sent here")?;
                contract.check(message.schema, argument)?;
                seen.insert(message.id.clone());
                if channel.id == "statusMessages" {
                    seen.insert(listed("Severity", &argument["payload"]["severity"]));
                }
                if channel.id == "shellCommands" {
                    seen.insert(listed("ShellCommandId", &argument["payload"]["command"]));
                }
                if channel.sends.iter().any(|message| message.name == "backlog") {
                    self.in_order(namespace, name)?;
                }
            }
            (_, kind) => return Err(format!("{kind:?} is nothing that the document has")),
        }
        Ok(())
    }

    /// One backlog after each join, and before anything else.
    fn in_order(&mut self, namespace: &str, name: &str) -> Result<(), String> {
        // What comes otherwise was for the socket that has just left.
        if let Some(Stage::In { had_backlog }) = self.namespaces.get_mut(namespace) {
            match (name, *had_backlog) {
                ("backlog", true) => return Err("a second backlog".into()),
                (_, false) if name != "backlog" => return Err("it came before the backlog".into()),
                _ => *had_backlog = true,
            }
        }
        Ok(())
    }
}

/// Checks the answer to an event of a client; without `replies`, the event was malformed.
fn acknowledged(
    contract: &Contract,
    channel: &str,
    replies: Option<&[Message]>,
    answer: &Value,
    seen: &mut BTreeSet<String>,
) -> Result<(), String> {
    let is_error = contract.check(contract.error, answer);
    if is_error.is_ok() {
        seen.insert(listed("ErrorCode", &answer["code"]));
    }
    let Some(replies) = replies else {
        return is_error.map_err(|error| format!("the event was malformed, so this should be an error: {error}"));
    };
    if answer["code"] == INVALID {
        return Err("the event was as the document says".into());
    }
    if let Some(reply) = replies.iter().find(|reply| contract.fits(reply, answer)) {
        seen.insert(reply.id.clone());
        return Ok(());
    }
    let whys = replies.iter().filter_map(|reply| {
        let error = contract.check(reply.schema, answer).err()?;
        Some(format!("no {channel} {}: {error}", reply.id))
    });
    Err(whys.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Shows a connection these packets; answers what was said of the last.
    fn show(packets: &[(Direction, Kind, &str, Option<u64>, Value)]) -> Result<(), String> {
        let mut connection = Connection::default();
        let mut seen = BTreeSet::new();
        let mut result = Ok(());
        for (direction, kind, namespace, id, data) in packets {
            assert_eq!(result, Ok(()), "only the last may be wrong");
            let traffic = Traffic {
                base_url: "",
                connection: 0,
                direction: *direction,
                kind: *kind,
                namespace,
                id: *id,
                data: Some(data),
            };
            result = connection.take(Contract::get(), &traffic, &mut seen);
        }
        result
    }

    use Direction::{Received, Sent};

    #[test]
    fn a_packet_of_the_server_that_the_document_does_not_have_is_a_violation() {
        let payload = |payload: Value| json!(["data", { "payload": payload }]);
        let status = |severity: Value, timestamp: &str| {
            payload(json!({
                "id": "i", "timestamp": timestamp, "source": "s", "content": "c", "logContent": "l",
                "severity": severity,
            }))
        };
        let time = "2026-01-02T03:04:05Z";
        let right = [("/status-messages", status(json!(4), time)), ("/lab-updates", payload(json!({ "labId": null })))];
        for (namespace, data) in right {
            assert_eq!(show(&[(Received, Kind::Event, namespace, None, data)]), Ok(()));
        }
        for (namespace, data) in [
            ("/status-messages", status(json!(5), time)),
            ("/status-messages", status(json!("1"), time)),
            ("/status-messages", status(json!(1), "yesterday")),
            ("/lab-updates", payload(json!({ "labId": 7 }))),
            ("/lab-updates", payload(json!({ "labId": "l", "more": 1 }))),
            ("/lab-updates", json!(["data", { "labId": "l" }])),
            ("/lab-updates", json!(["other", { "payload": { "labId": "l" } }])),
            ("/lab-updates", json!(["data"])),
            ("/lab-commands", payload(json!(null))),
            ("/nowhere", payload(json!({ "labId": "l" }))),
        ] {
            assert!(show(&[(Received, Kind::Event, namespace, None, data.clone())]).is_err(), "{namespace} {data}");
        }
        let refused = |text: &str| (Received, Kind::ConnectError, "/lab-updates", None, json!({ "message": text }));
        assert_eq!(show(&[refused("Unauthorized")]), Ok(()));
        assert!(show(&[refused("unauthorized")]).is_err());
    }

    #[test]
    fn an_acknowledgement_is_that_of_the_command_and_an_error_if_that_was_malformed() {
        let after = |command: Value, answer: Value| {
            show(&[
                (Sent, Kind::Event, "/lab-commands", Some(3), json!(["data", command])),
                (Received, Kind::Ack, "/lab-commands", Some(3), json!([answer])),
            ])
        };
        let command = |number: u8| json!({ "labId": "l", "command": number, "node": "r1" });
        let done = json!({ "payload": null });
        let error = |code: u16| json!({ "code": code, "message": "why" });
        assert_eq!(after(command(0), done.clone()), Ok(()));
        assert_eq!(after(command(0), error(5001)), Ok(()));
        assert_eq!(after(json!(command(5).to_string()), json!({ "payload": [] })), Ok(()));
        assert_eq!(after(command(6), json!({ "payload": "id" })), Ok(()));
        assert_eq!(after(command(9), error(5422)), Ok(()));
        assert_eq!(after(json!(null), error(5422)), Ok(()));
        for (command, answer) in [
            (command(0), json!({ "payload": "id" })),
            (command(0), json!({ "payload": null, "code": 5000, "message": "why" })),
            (command(0), error(5009)),
            (command(0), error(5422)),
            (command(0), json!({ "code": 5000 })),
            (command(5), done.clone()),
            (json!(command(5).to_string()), done.clone()),
            (command(6), done.clone()),
            (command(9), done.clone()),
            (json!(null), done.clone()),
            (json!("[]"), done.clone()),
        ] {
            assert!(after(command.clone(), answer.clone()).is_err(), "{command} {answer}");
        }
        assert!(show(&[(Received, Kind::Ack, "/lab-commands", Some(3), json!([done]))]).is_err());
    }

    #[test]
    fn one_backlog_comes_first_after_each_join() {
        let join = (Sent, Kind::Connect, "/logs/l", None, json!({ "token": "t" }));
        let joined = (Received, Kind::Connect, "/logs/l", None, json!({ "sid": "s" }));
        let backlog = (Received, Kind::Event, "/logs/l", None, json!(["backlog", []]));
        let line = (Received, Kind::Event, "/logs/l", None, json!(["data", "line"]));
        let left = (Sent, Kind::Disconnect, "/logs/l", None, json!(null));
        let good = [&join, &joined, &backlog, &line, &left, &line, &join, &line, &joined, &backlog, &line];
        assert_eq!(show(&good.map(Clone::clone)), Ok(()));
        assert!(show(&[&join, &joined, &line].map(Clone::clone)).is_err());
        assert!(show(&[&join, &joined, &backlog, &backlog].map(Clone::clone)).is_err());
        let without_token = (Sent, Kind::Connect, "/logs/l", None, json!({}));
        assert!(show(&[without_token, joined]).is_err());
    }
}
