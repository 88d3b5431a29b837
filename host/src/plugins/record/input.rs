//! What a plugin was asked: all arguments of one of the four functions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::given::{Given, Problem};
use super::mirror::{
    Action, Circumstances, ClaimValue, Claims, Command, Context, Event, Identity, Lab, Mirror, Namespace, Occurrence,
};
use crate::plugins::bindings::antimony::plugin::types;
use crate::plugins::bindings::exports::antimony::plugin::{formatter, policy, validator};
use crate::plugins::config::Hook;
use crate::plugins::decision;

/// A function that decides something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// `validator.validate`
    Validate,
    /// `policy.identify`
    Identify,
    /// `policy.authorize`
    Authorize,
    /// `formatter.format`
    Format,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Validate, Self::Identify, Self::Authorize, Self::Format];

    /// Its name in `wit/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Identify => "identify",
            Self::Authorize => "authorize",
            Self::Format => "format",
        }
    }

    /// The hook whose plugins have it.
    pub fn hook(self) -> Hook {
        match self {
            Self::Validate => Hook::CommandValidator,
            Self::Identify | Self::Authorize => Hook::AuthPolicy,
            Self::Format => Hook::StatusFormatter,
        }
    }
}

impl std::fmt::Display for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// All arguments of a call. Written as an object of them, by their names in `wit/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "always handled one at a time")]
#[expect(missing_docs, reason = "each case is the function of the same name in wit/, with its arguments")]
pub enum Input {
    Validate { command: Command, context: Context },
    Identify { claims: Claims },
    Authorize { user: Identity, action: Action, circumstances: Circumstances },
    Format { event: Event },
}

impl Input {
    /// Copies the arguments of `validate`.
    pub(in crate::plugins) fn validate(
        command: &validator::CommandParam<'_>,
        context: &validator::Context<'_>,
    ) -> Self {
        Self::Validate { command: Command::take(command), context: Context::take(context) }
    }

    /// Copies the arguments of `identify`.
    pub(in crate::plugins) fn identify(claims: &[policy::Claim<'_>]) -> Self {
        Self::Identify { claims: Claims::take(&claims) }
    }

    /// Copies the arguments of `authorize`.
    pub(in crate::plugins) fn authorize(
        user: &types::IdentityParam<'_>,
        action: &policy::Action<'_>,
        circumstances: types::Circumstances,
    ) -> Self {
        Self::Authorize {
            user: Identity::take(user),
            action: Action::take(action),
            circumstances: Circumstances::take(&circumstances),
        }
    }

    /// Copies the argument of `format`.
    pub(in crate::plugins) fn format(event: &formatter::Event<'_>) -> Self {
        Self::Format { event: Event::take(event) }
    }

    /// Which function's arguments these are.
    pub fn function(&self) -> Function {
        match self {
            Self::Validate { .. } => Function::Validate,
            Self::Identify { .. } => Function::Identify,
            Self::Authorize { .. } => Function::Authorize,
            Self::Format { .. } => Function::Format,
        }
    }

    /// Reads the arguments of `function` as a log holds them: all of them, exactly.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(function: Function, json: Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Validate {
            command: Command,
            context: Context,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Identify {
            claims: Claims,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Authorize {
            user: Identity,
            action: Action,
            circumstances: Circumstances,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Format {
            event: Event,
        }
        fn of<T: serde::de::DeserializeOwned>(json: Value) -> Result<T, String> {
            serde_path_to_error::deserialize(json).map_err(|error| format!("input.{}: {}", error.path(), error.inner()))
        }
        Ok(match function {
            Function::Validate => {
                let Validate { command, context } = of(json)?;
                Self::Validate { command, context }
            }
            Function::Identify => {
                let Identify { claims } = of(json)?;
                Self::Identify { claims }
            }
            Function::Authorize => {
                let Authorize { user, action, circumstances } = of(json)?;
                Self::Authorize { user, action, circumstances }
            }
            Function::Format => {
                let Format { event } = of(json)?;
                Self::Format { event }
            }
        })
    }

    /// Puts the arguments of `function` together from what a case says and what is given for all cases; see `given`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn complete(function: Function, input: &Map<String, Value>, given: &Given) -> Result<Self, Problem> {
        let names: &[&str] = match function {
            Function::Validate => &["command", "context"],
            Function::Identify => &["claims"],
            Function::Authorize => &["user", "action", "circumstances"],
            Function::Format => &["event"],
        };
        if let Some(name) = input.keys().find(|name| !names.contains(&name.as_str())) {
            let problem = format!("{function} has no argument `{name}`, but {}", names.join(", "));
            return Err(Problem::new("input", problem));
        }
        fn argument<T: Mirror>(input: &Map<String, Value>, name: &str, given: &Given) -> Result<T, Problem> {
            let layers: Vec<&Value> = input.get(name).into_iter().collect();
            T::complete(&layers, given, &format!("input.{name}"))
        }
        Ok(match function {
            Function::Validate => Self::Validate {
                command: argument(input, "command", given)?,
                context: argument(input, "context", given)?,
            },
            Function::Identify => Self::Identify { claims: argument(input, "claims", given)? },
            Function::Authorize => Self::Authorize {
                user: argument(input, "user", given)?,
                action: argument(input, "action", given)?,
                circumstances: argument(input, "circumstances", given)?,
            },
            Function::Format => Self::Format { event: argument(input, "event", given)? },
        })
    }

    /// What sort of question it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Validate { .. } => Kind::Command,
            Self::Identify { .. } => Kind::Identify,
            Self::Format { .. } => Kind::Format,
            Self::Authorize { action, .. } => match action {
                Action::Connect(_) => Kind::Connect,
                Action::Command(_) => Kind::Command,
                Action::ViewLab(_) | Action::ViewTopology(_) | Action::ViewCollection(_) => Kind::View,
                _ => Kind::Write,
            },
        }
    }

    /// What it is, in a few words for a list: `authorize command deploy, lab-1, by bob`.
    pub fn headline(&self) -> String {
        let what = match self {
            Self::Validate { command, .. } => name_of(&command.kind),
            Self::Identify { .. } => String::new(),
            Self::Authorize { action: Action::Command(request), .. } => format!("command {}", name_of(&request.kind)),
            Self::Authorize { action: Action::Connect(namespace), .. } => format!("connect {}", name_of(namespace)),
            Self::Authorize { action, .. } => name_of(action),
            Self::Format { event } => name_of(&event.what),
        };
        let (_, object) = self.subject();
        let asker = self.asker();
        let mut line = format!("{} {what}", self.function()).trim_end().to_owned();
        if !object.is_empty() {
            line.push_str(&format!(", {object}"));
        }
        if !asker.is_empty() {
            line.push_str(&format!(", by {asker}"));
        }
        line
    }

    /// Who asks: an id, as far as that is known.
    pub(in crate::plugins) fn asker(&self) -> &str {
        match self {
            Self::Validate { context, .. } => &context.user.id,
            Self::Identify { claims } => {
                let id = |name| claims.0.iter().find(|claim| claim.name == name);
                match ["id", "sub"].into_iter().find_map(id).map(|claim| &claim.value) {
                    Some(ClaimValue::Text(id)) => id,
                    _ => "",
                }
            }
            Self::Authorize { user, .. } => &user.id,
            Self::Format { event } => event.what.by().unwrap_or_default(),
        }
    }

    /// What it is about, and what is to be done to it or was.
    pub(in crate::plugins) fn subject(&self) -> (String, &str) {
        match self {
            Self::Validate { command, .. } => (format!("{:?}", command.kind), &command.lab_id),
            Self::Identify { .. } => (String::new(), ""),
            Self::Authorize { action, .. } => {
                let kind = match action {
                    Action::Command(request) => format!("{:?}", request.kind),
                    other => format!("{:?}", std::mem::discriminant(other)),
                };
                (kind, action.object())
            }
            Self::Format { event } => (format!("{:?}", std::mem::discriminant(&event.what)), &event.what.lab().id),
        }
    }
}

impl Action {
    /// Id of what it is about, or its name where it has none yet.
    fn object(&self) -> &str {
        let named = |id: &'_ String, name: &'_ String| -> bool { id.is_empty() && !name.is_empty() };
        let (id, name) = match self {
            Self::Connect(namespace) => match namespace {
                Namespace::LabLog(lab) => (&lab.id, &lab.name),
                Namespace::NodeLog(log) => (&log.lab.id, &log.node),
                Namespace::Shell(at) => (&at.shell.id, &at.shell.node),
                Namespace::LabCommands => return "lab-commands",
                Namespace::LabUpdates => return "lab-updates",
                Namespace::StatusMessages => return "status-messages",
                Namespace::ShellCommands => return "shell-commands",
            },
            Self::Command(request) => (&request.lab.id, &request.lab.name),
            Self::ViewLab(lab) | Self::CreateLab(lab) | Self::DeleteLab(lab) => (&lab.id, &lab.name),
            Self::UpdateLab(change) => (&change.before.id, &change.before.name),
            Self::ViewTopology(topology) | Self::CreateTopology(topology) | Self::DeleteTopology(topology) => {
                (&topology.id, &topology.name)
            }
            Self::UpdateTopology(change) => (&change.before.id, &change.before.name),
            Self::ViewCollection(collection)
            | Self::CreateCollection(collection)
            | Self::DeleteCollection(collection) => (&collection.id, &collection.name),
            Self::UpdateCollection(change) => (&change.before.id, &change.before.name),
        };
        if named(id, name) { name } else { id }
    }
}

impl Occurrence {
    fn parts(&self) -> (&Lab, Option<&String>) {
        match self {
            Self::LabDeploying(of)
            | Self::LabDeployed(of)
            | Self::LabDeployCancelled(of)
            | Self::LabDestroying(of)
            | Self::LabDestroyed(of)
            | Self::LabMissed(of)
            | Self::LabRecovered(of) => (&of.lab, of.by.as_ref()),
            Self::LabDeployFailed(of) | Self::LabDestroyFailed(of) | Self::LabLost(of) => (&of.lab, of.by.as_ref()),
            Self::NodeStarted(of) | Self::NodeStopped(of) | Self::NodeRestarted(of) | Self::NodeExited(of) => {
                (&of.lab, of.by.as_ref())
            }
            Self::NodeFailed(of) => (&of.lab, of.by.as_ref()),
            Self::ShellOpened(of) | Self::ShellClosed(of) => (&of.lab, None),
            Self::ShellFailed(of) => (&of.lab, None),
        }
    }

    fn lab(&self) -> &Lab {
        self.parts().0
    }

    fn by(&self) -> Option<&str> {
        self.parts().1.map(String::as_str)
    }
}

/// The name of a variant's case.
fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(object)) => object.into_iter().next().map(|(name, _)| name).unwrap_or_default(),
        _ => String::new(),
    }
}

/// The sorts of questions that a decision log tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Commands: whether they are valid, and who may have them carried out.
    Command,
    /// Who may connect to which namespace.
    Connect,
    /// Who may create, change or delete something over REST.
    Write,
    /// Who is who.
    Identify,
    /// Who may see what. Asked of all that is listed or sent, and so by far the most often.
    View,
    /// How events are worded.
    Format,
}

impl Kind {
    /// The sort of an action.
    pub(in crate::plugins) fn of(action: &decision::Action<'_>) -> Self {
        match action {
            decision::Action::Connect(_) => Self::Connect,
            decision::Action::Command(..) => Self::Command,
            decision::Action::ViewLab(_) | decision::Action::ViewTopology(_) | decision::Action::ViewCollection(_) => {
                Self::View
            }
            _ => Self::Write,
        }
    }
}
