//! Which server, and who is logged in there: kept in a file of the person's own from one command to the next.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::CtlError;
use super::output::Output;
use crate::client::{Answered, Api, ApiError, ConnectError, Connection, Namespace};

/// Where a server is looked for that nobody has named.
const DEFAULT_SERVER: &str = "http://127.0.0.1:3000";
/// Names the server.
const ENV_SERVER: &str = "ANTIMONY_SERVER";
/// Holds an access token.
const ENV_TOKEN: &str = "ANTIMONY_TOKEN";
/// Names the file that logins are kept in.
const ENV_FILE: &str = "ANTIMONY_SESSION";

/// The status for an access token that is wrong or has expired.
const TOKEN_INVALID: u16 = 498;

/// What is kept of a login.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    server: String,
    access_token: String,
    refresh_token: String,
}

/// A server, and who asks it. Access tokens last half an hour, and are got anew as they are refused.
#[derive(Clone)]
pub(super) struct Session {
    server: String,
    api: Api,
    access_token: String,
    /// Only after a login.
    refresh_token: Option<String>,
}

/// Logs in by name and password, and keeps that.
pub(super) async fn log_in(
    server: Option<String>,
    user: &str,
    from_stdin: bool,
    output: &Output,
) -> Result<(), CtlError> {
    let server = server_of(server, None);
    let password = if from_stdin {
        io::read_to_string(io::stdin()).map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
    } else {
        rpassword::prompt_password(format!("Password of {user} at {server}: "))
    };
    let password = password.map_err(|error| CtlError::File("the password can't be read".to_owned(), error))?;
    let login = Api::anonymous(&server).log_in(user, &password).await?;
    let file = file()?;
    keep(
        &file,
        &Kept { server: server.clone(), access_token: login.access_token, refresh_token: login.refresh_token },
    )?;
    let answer = json!({ "server": server, "user": user, "file": file });
    output.answer(&answer, || format!("{user} is logged in at {server}"))
}

impl Session {
    /// What the command line, the environment and the last login say, in this order.
    pub(super) fn open(server: Option<String>, token: Option<String>) -> Result<Self, CtlError> {
        let token = token.or_else(|| std::env::var(ENV_TOKEN).ok()).filter(|token| !token.is_empty());
        let kept = read(&file()?)?;
        let server = server_of(server, kept.as_ref());
        let (access_token, refresh_token) = match (token, kept) {
            (Some(token), _) => (token, None),
            (None, Some(kept)) if kept.server == server => (kept.access_token, Some(kept.refresh_token)),
            _ => return Err(CtlError::LoggedOut(server)),
        };
        Ok(Self { api: Api::anonymous(&server), server, access_token, refresh_token })
    }

    /// Forgets the login.
    pub(super) async fn log_out(&self, output: &Output) -> Result<(), CtlError> {
        self.api.log_out(self.refresh_token.as_deref()).await?;
        let file = file()?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CtlError::File(file.display().to_string(), error));
            }
            _ => {}
        }
        output.answer(&json!({ "server": self.server }), || format!("logged out at {}", self.server))
    }

    /// Sends one request; answers the payload.
    pub(super) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CtlError> {
        let answer = self.api.with_token(&self.access_token).request(method.clone(), path, body).await;
        match answer {
            Err(error) if is_status(&error, TOKEN_INVALID) && self.refresh().await? => {
                Ok(self.api.with_token(&self.access_token).request(method, path, body).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// `GET path`.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value, CtlError> {
        self.request(Method::GET, path, None).await
    }

    /// `GET path`, where the answer is read as it comes.
    pub(super) async fn fetch(&mut self, path: &str) -> Result<Answered, CtlError> {
        match self.api.with_token(&self.access_token).open(path).await {
            Err(error) if is_status(&error, TOKEN_INVALID) && self.refresh().await? => {
                Ok(self.api.with_token(&self.access_token).open(path).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Whether another access token can be got when this one has expired.
    pub(super) fn can_renew(&self) -> bool {
        self.refresh_token.is_some()
    }

    /// How the server is, which it tells everybody.
    pub(super) async fn readiness(&self) -> Result<Value, CtlError> {
        Ok(self.api.get_bare("/readyz").await?)
    }

    /// A connection for namespaces.
    pub(super) async fn connect(&self) -> Result<Connection, CtlError> {
        Ok(Connection::open(&self.server).await?)
    }

    /// Joins a namespace.
    pub(super) async fn join(&mut self, connection: &Connection, path: &str) -> Result<Namespace, CtlError> {
        self.try_join(connection, path)
            .await?
            .ok_or_else(|| CtlError::Join(path.to_owned(), ConnectError::Refused("Invalid namespace".to_owned())))
    }

    /// The same; `None` where there is no such namespace, or not yet.
    pub(super) async fn try_join(
        &mut self,
        connection: &Connection,
        path: &str,
    ) -> Result<Option<Namespace>, CtlError> {
        let mut answer = connection.connect_with_token(path, &self.access_token).await;
        if refused_by(&answer, "Invalid Token") && self.refresh().await? {
            answer = connection.connect_with_token(path, &self.access_token).await;
        }
        if refused_by(&answer, "Invalid namespace") {
            return Ok(None);
        }
        answer.map(Some).map_err(|error| CtlError::Join(path.to_owned(), error))
    }

    /// Gets another access token; answers whether there is one.
    async fn refresh(&mut self) -> Result<bool, CtlError> {
        let Some(refresh_token) = &self.refresh_token else { return Ok(false) };
        match self.api.refresh(refresh_token).await {
            Ok(token) => self.access_token = token,
            Err(error) if is_status(&error, 401) => return Err(CtlError::LoggedOut(self.server.clone())),
            Err(error) => return Err(error.into()),
        }
        let (access_token, refresh_token) = (self.access_token.clone(), refresh_token.clone());
        keep(&file()?, &Kept { server: self.server.clone(), access_token, refresh_token })?;
        Ok(true)
    }
}

fn is_status(error: &ApiError, wanted: u16) -> bool {
    error.refusal().is_some_and(|(status, _)| status == wanted)
}

fn refused_by(answer: &Result<Namespace, ConnectError>, words: &str) -> bool {
    matches!(answer, Err(ConnectError::Refused(said)) if said == words)
}

fn server_of(said: Option<String>, kept: Option<&Kept>) -> String {
    let server = said
        .or_else(|| std::env::var(ENV_SERVER).ok().filter(|server| !server.is_empty()))
        .or_else(|| kept.map(|kept| kept.server.clone()))
        .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    server.trim_end_matches('/').to_owned()
}

/// Where logins are kept: what `ANTIMONY_SESSION` says, or a file among the person's own state.
fn file() -> Result<PathBuf, CtlError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(ENV_FILE)
        .or_else(|| {
            let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
            Some(state.join("antimony-host/session.json"))
        })
        .ok_or_else(|| CtlError::Other(format!("there is no place for logins: set {ENV_FILE} or HOME")))
}

fn read(file: &Path) -> Result<Option<Kept>, CtlError> {
    let fail = |error| CtlError::File(file.display().to_string(), error);
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| fail(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Writes the file whole or not at all, for nobody else to read.
fn keep(file: &Path, kept: &Kept) -> Result<(), CtlError> {
    let written = || {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // A new file of a name that nobody can have taken, which its owner alone may read.
        let mut new = tempfile::Builder::new().prefix(".session-").tempfile_in(folder)?;
        new.write_all(serde_json::to_string(kept)?.as_bytes())?;
        new.persist(file).map_err(|failed| failed.error)?;
        Ok(())
    };
    written().map_err(|error: io::Error| CtlError::File(file.display().to_string(), error))
}
