//! The records and variants of `wit/`, owned: what a decision was asked, so that it can be kept, read and asked again.
//!
//! Each type has the name and the fields of its original, in kebab-case where it is written down, and four abilities, which
//! [`Mirror`] sums up: to be taken from what a guest is handed, to be lent to a guest, to be written and read as JSON
//! (by serde: complete and strict, as a log holds it), and to be put together from layers ([`Mirror::complete`]: what a
//! person wrote in a case, over what they said for all cases, over defaults).
//!
//! A variant's case without content is its name; one with content an object of one key: `{"view-lab": {…}}`.

#![expect(missing_docs, reason = "each type, field and case is the documented one of the same name in wit/")]

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::given::{Given, Problem};
use crate::plugins::bindings::antimony::plugin::types;
use crate::plugins::bindings::exports::antimony::plugin::{formatter, policy, validator};
use crate::plugins::convert::Arena;

/// What has a counterpart in `wit/`.
pub(in crate::plugins) trait Mirror: Sized + 'static {
    /// The counterpart, as the bindings have it.
    type Wit<'a>: 'a
    where
        Self: 'a;

    /// Lends it to a guest.
    fn lend<'a>(&'a self, arena: &'a Arena) -> Self::Wit<'a>;

    /// Copies what a guest is lent.
    fn take(wit: &Self::Wit<'_>) -> Self;

    /// Puts it together from layers, the weakest first. `at` says where, for whoever wrote them.
    fn complete(layers: &[&Value], given: &Given, at: &str) -> Result<Self, Problem>;
}

/// Values that are the same on both sides.
macro_rules! plain {
    ($($type:ty),+) => {$(
        impl Mirror for $type {
            type Wit<'a> = $type;

            fn lend<'a>(&'a self, _: &'a Arena) -> $type {
                *self
            }

            fn take(wit: &$type) -> Self {
                *wit
            }

            fn complete(layers: &[&Value], _: &Given, at: &str) -> Result<Self, Problem> {
                leaf(layers, at)
            }
        }
    )+};
}

plain!(bool, u32, i64);

/// A value without parts: that of the strongest layer.
fn leaf<T: serde::de::DeserializeOwned>(layers: &[&Value], at: &str) -> Result<T, Problem> {
    let value = layers.last().ok_or_else(|| Problem::missing(at))?;
    T::deserialize(*value).map_err(|error| Problem::new(at, error))
}

impl Mirror for String {
    type Wit<'a> = &'a str;

    fn lend<'a>(&'a self, _: &'a Arena) -> &'a str {
        self
    }

    fn take(wit: &&str) -> Self {
        (*wit).to_owned()
    }

    fn complete(layers: &[&Value], _: &Given, at: &str) -> Result<Self, Problem> {
        leaf(layers, at)
    }
}

impl<T: Mirror> Mirror for Option<T> {
    type Wit<'a> = Option<T::Wit<'a>>;

    fn lend<'a>(&'a self, arena: &'a Arena) -> Self::Wit<'a> {
        self.as_ref().map(|value| value.lend(arena))
    }

    fn take(wit: &Self::Wit<'_>) -> Self {
        wit.as_ref().map(T::take)
    }

    fn complete(layers: &[&Value], given: &Given, at: &str) -> Result<Self, Problem> {
        match layers.last() {
            None | Some(Value::Null) => Ok(None),
            Some(_) => T::complete(layers, given, at).map(Some),
        }
    }
}

impl<T: Mirror> Mirror for Vec<T> {
    type Wit<'a> = &'a [T::Wit<'a>];

    fn lend<'a>(&'a self, arena: &'a Arena) -> Self::Wit<'a> {
        arena.alloc_slice_fill_iter(self.iter().map(|item| item.lend(arena)))
    }

    fn take(wit: &Self::Wit<'_>) -> Self {
        wit.iter().map(T::take).collect()
    }

    fn complete(layers: &[&Value], given: &Given, at: &str) -> Result<Self, Problem> {
        match layers.last() {
            None => Err(Problem::missing(at)),
            Some(Value::Array(items)) => {
                let item = |(index, item)| T::complete(&[item], given, &format!("{at}[{index}]"));
                items.iter().enumerate().map(item).collect()
            }
            Some(_) => Err(Problem::new(at, "has to be a list")),
        }
    }
}

/// Milliseconds since 1970; in a case, a time such as `2026-03-02T08:00:00Z` as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Mirror for Time {
    type Wit<'a> = u64;

    fn lend<'a>(&'a self, _: &'a Arena) -> u64 {
        self.0
    }

    fn take(wit: &u64) -> Self {
        Self(*wit)
    }

    fn complete(layers: &[&Value], _: &Given, at: &str) -> Result<Self, Problem> {
        let Some(Value::String(text)) = layers.last() else { return leaf(layers, at) };
        let time = text.parse::<Timestamp>().map_err(|error| Problem::new(at, error))?;
        u64::try_from(time.as_millisecond()).map(Self).map_err(|_| Problem::new(at, "is before 1970"))
    }
}

macro_rules! record {
    ($(
        $(#[$meta:meta])*
        $name:ident ($kebab:literal) = $module:ident::$wit:ident $(<$lifetime:lifetime>)? { $($field:ident: $type:ty),+ $(,)? }
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct $name {
            $(pub $field: $type,)+
        }

        impl Mirror for $name {
            type Wit<'a> = $module::$wit $(<$lifetime>)?;

            fn lend<'a>(&'a self, arena: &'a Arena) -> Self::Wit<'a> {
                let _ = arena;
                $module::$wit { $($field: self.$field.lend(arena),)+ }
            }

            fn take(wit: &Self::Wit<'_>) -> Self {
                Self { $($field: Mirror::take(&wit.$field),)+ }
            }

            fn complete(layers: &[&Value], given: &Given, at: &str) -> Result<Self, Problem> {
                const FIELDS: &[&str] = &[$(stringify!($field)),+];
                let layers = given.layers($kebab, FIELDS, layers, at)?;
                Ok(Self {
                    $($field: {
                        let name = super::given::kebab(stringify!($field));
                        let parts: Vec<&Value> = layers.iter().filter_map(|layer| layer.get(&name)).collect();
                        Mirror::complete(&parts, given, &format!("{at}.{name}"))?
                    },)+
                })
            }
        }
    )+};
}

macro_rules! variant {
    ($(
        $(#[$meta:meta])*
        $name:ident = $module:ident::$wit:ident $(<$lifetime:lifetime>)? { $($case:ident $(($type:ty))?),+ $(,)? }
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($case $(($type))?,)+
        }

        impl Mirror for $name {
            type Wit<'a> = $module::$wit $(<$lifetime>)?;

            fn lend<'a>(&'a self, arena: &'a Arena) -> Self::Wit<'a> {
                let _ = arena;
                match self {
                    $(variant!(@pattern Self, $case, content $(, $type)?) => {
                        variant!(@make ($module::$wit::$case), content.lend(arena) $(, $type)?)
                    })+
                }
            }

            fn take(wit: &Self::Wit<'_>) -> Self {
                match wit {
                    $(variant!(@pattern $module::$wit, $case, content $(, $type)?) => {
                        variant!(@make (Self::$case), Mirror::take(content) $(, $type)?)
                    })+
                }
            }

            fn complete(layers: &[&Value], given: &Given, at: &str) -> Result<Self, Problem> {
                const CASES: &[&str] = &[$(stringify!($case)),+];
                let (case, content) = super::given::case(layers, CASES, at)?;
                let (parts, at) = (content.as_slice(), format!("{at}.{case}"));
                let _ = (parts, given, &at);
                $(if case == super::given::kebab(stringify!($case)) {
                    return Ok(variant!(@make (Self::$case), Mirror::complete(parts, given, &at)? $(, $type)?));
                })+
                Err(Problem::new(&at, "is no case of it"))
            }
        }
    )+};
    (@pattern Self, $case:ident, $content:ident) => { Self::$case };
    (@pattern Self, $case:ident, $content:ident, $type:ty) => { Self::$case($content) };
    (@pattern $module:ident::$wit:ident, $case:ident, $content:ident) => { $module::$wit::$case };
    (@pattern $module:ident::$wit:ident, $case:ident, $content:ident, $type:ty) => { $module::$wit::$case($content) };
    (@make ($($path:tt)+), $content:expr) => { $($path)+ };
    (@make ($($path:tt)+), $content:expr, $type:ty) => { $($path)+($content) };
}

// types.wit
record! {
    Identity("identity") = types::IdentityParam<'a> { id: String, admin: bool, collections: Vec<String> }
    Collection("collection") = types::Collection<'a> {
        id: String, name: String, public_write: bool, public_deploy: bool, creator: String,
    }
    Topology("topology") = types::Topology<'a> {
        id: String, name: String, collection: Collection, creator: String, nodes: Vec<Node>,
    }
    Lab("lab") = types::Lab<'a> {
        id: String,
        name: String,
        topology_id: String,
        collection: Collection,
        creator: String,
        start_time: Time,
        end_time: Option<Time>,
        state: LabState,
        nodes: Vec<Node>,
    }
    Node("node") = types::Node<'a> {
        name: String, kind: String, image: Option<String>, state: NodeState, demands: Vec<HostDemand>,
    }
    Shell("shell") = types::Shell<'a> { id: String, lab_id: String, node: String, owner: String }
    #[derive(Copy)]
    Circumstances("circumstances") = types::Circumstances { now: Time, open_shells: u32, running_labs: u32 }
}

variant! {
    #[derive(Copy)]
    LabState = types::LabState { Scheduled, Inactive, Deploying, Running, Stopping, Failed }
    #[derive(Copy)]
    NodeState = types::NodeState { Absent, Starting, Running, Exited }
    HostDemand = types::HostDemand<'a> {
        Bind(String), Privileged, Capability(String), Device(String), NetworkMode(String), Port(String),
    }
    #[derive(Copy)]
    CommandKind = types::CommandKind {
        Deploy, Destroy, StopNode, StartNode, RestartNode, ListShells, OpenShell, CloseShell,
    }
}

// command-validator.wit
record! {
    Command("command") = validator::CommandParam<'a> {
        kind: CommandKind, lab_id: String, node: Option<String>, shell_id: Option<String>,
    }
    Context("context") = validator::Context<'a> {
        user: Identity, lab: Lab, shell: Option<Shell>, circumstances: Circumstances,
    }
}

variant! {
    #[derive(Copy)]
    RejectionCode = validator::RejectionCode {
        Generic, LabDeploying, LabNotRunning, NodeNotRunning, NodeNotFound, ShellNotFound, ShellLimit, InvalidRequest,
    }
}

// auth-policy.wit
record! {
    Claim("claim") = policy::Claim<'a> { name: String, value: ClaimValue }
    NodeLog("node-log") = policy::NodeLog<'a> { lab: Lab, node: String }
    ShellInLab("shell-in-lab") = policy::ShellInLab<'a> { shell: Shell, lab: Lab }
    CommandRequest("command-request") = policy::CommandRequest<'a> {
        kind: CommandKind, lab: Lab, node: Option<String>, shell: Option<Shell>,
    }
    LabChange("lab-change") = policy::LabChange<'a> { before: Lab, after: Lab }
    TopologyChange("topology-change") = policy::TopologyChange<'a> { before: Topology, after: Topology }
    CollectionChange("collection-change") = policy::CollectionChange<'a> { before: Collection, after: Collection }
}

variant! {
    ClaimValue = policy::ClaimValue<'a> {
        Text(String), Texts(Vec<String>), Boolean(bool), Integer(i64), Json(String),
    }
    Namespace = policy::Namespace<'a> {
        LabCommands, LabUpdates, StatusMessages, ShellCommands, LabLog(Lab), NodeLog(NodeLog), Shell(ShellInLab),
    }
    #[expect(clippy::large_enum_variant, reason = "one per recorded decision, and most are of the large kind")]
    Action = policy::Action<'a> {
        Connect(Namespace),
        Command(CommandRequest),
        ViewLab(Lab),
        CreateLab(Lab),
        UpdateLab(LabChange),
        DeleteLab(Lab),
        ViewTopology(Topology),
        CreateTopology(Topology),
        UpdateTopology(TopologyChange),
        DeleteTopology(Topology),
        ViewCollection(Collection),
        CreateCollection(Collection),
        UpdateCollection(CollectionChange),
        DeleteCollection(Collection),
    }
}

/// The claims of a token. In a case they may also be an object, as a token has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(pub Vec<Claim>);

impl Mirror for Claims {
    type Wit<'a> = &'a [policy::Claim<'a>];

    fn lend<'a>(&'a self, arena: &'a Arena) -> Self::Wit<'a> {
        self.0.lend(arena)
    }

    fn take(wit: &Self::Wit<'_>) -> Self {
        Self(Vec::take(wit))
    }

    fn complete(layers: &[&Value], given: &Given, at: &str) -> Result<Self, Problem> {
        let layers: Vec<&Value> = given.of("claims").into_iter().chain(layers.iter().copied()).collect();
        match layers.last() {
            Some(Value::Object(_)) => {
                // Those of the weaker layers that are objects too go along.
                let claims = layers.iter().filter_map(|layer| layer.as_object()).flatten();
                let claims = crate::auth::Claims(claims.map(|(name, value)| (name.clone(), value.clone())).collect());
                let arena = Arena::new();
                Ok(Self::take(&crate::plugins::convert::claims(&arena, &claims)))
            }
            _ => Vec::complete(&layers, given, at).map(Self),
        }
    }
}

// status-formatter.wit
record! {
    Event("event") = formatter::Event<'a> { at: Time, what: Occurrence }
    LabEvent("lab-event") = formatter::LabEvent<'a> { lab: Lab, by: Option<String> }
    LabFailure("lab-failure") = formatter::LabFailure<'a> {
        lab: Lab, by: Option<String>, reason: String, detail: String,
    }
    NodeEvent("node-event") = formatter::NodeEvent<'a> { lab: Lab, node: Node, by: Option<String> }
    NodeFailure("node-failure") = formatter::NodeFailure<'a> {
        lab: Lab, node: Node, by: Option<String>, reason: String,
    }
    ShellEvent("shell-event") = formatter::ShellEvent<'a> { shell: Shell, lab: Lab }
    ShellFailure("shell-failure") = formatter::ShellFailure<'a> { shell: Shell, lab: Lab, reason: String }
}

variant! {
    #[expect(clippy::large_enum_variant, reason = "one per recorded decision, and all are of a similar kind")]
    Occurrence = formatter::Occurrence<'a> {
        LabDeploying(LabEvent),
        LabDeployed(LabEvent),
        LabDeployFailed(LabFailure),
        LabDeployCancelled(LabEvent),
        LabDestroying(LabEvent),
        LabDestroyed(LabEvent),
        LabDestroyFailed(LabFailure),
        LabMissed(LabEvent),
        LabRecovered(LabEvent),
        LabLost(LabFailure),
        NodeStarted(NodeEvent),
        NodeStopped(NodeEvent),
        NodeRestarted(NodeEvent),
        NodeExited(NodeEvent),
        NodeFailed(NodeFailure),
        ShellOpened(ShellEvent),
        ShellClosed(ShellEvent),
        ShellFailed(ShellFailure),
    }
    #[derive(Copy)]
    Severity = formatter::Severity { Success, Info, Warning, Error, Fatal }
}
