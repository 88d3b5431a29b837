//! What a plugin was asked: all arguments of one of the four functions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::given::{Given, Problem};
use super::mirror::{Action, Circumstances, Claims, Command, Context, Event, Identity, Mirror};
use crate::plugins::bindings::antimony::plugin::types;
use crate::plugins::bindings::exports::antimony::plugin::{formatter, policy, validator};
use crate::plugins::config::Hook;

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

    /// Whether this only asks what somebody may see: asked of all that is listed or sent, and so by far the most often.
    pub fn is_view(&self) -> bool {
        let Self::Authorize { action, .. } = self else { return false };
        matches!(action, Action::ViewLab(_) | Action::ViewTopology(_) | Action::ViewCollection(_))
    }
}
