//! A real `antimony-host` on a port of its own, with a data folder of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use antimony_host::client::Api;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::client::Client;
use super::postgres::{Database, Postgres};
use super::turn::{Turn, shared};
use super::{PATIENCE, leave_out};
use super::{contract, rest};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_antimony-host");
/// Any free port, for this machine only.
const LOOPBACK: &str = "127.0.0.1:0";
/// `nobody`: an ordinary user that every machine has, and that owns nothing.
const NOBODY: u32 = 65534;

/// Who runs the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests.
    Myself,
    /// Somebody who is not root.
    Ordinary,
}

impl User {
    /// Whether a server of this user can run labs on this machine. If not, says that `test` was left out.
    pub(crate) fn can_run_labs(self, test: &str) -> bool {
        let root = geteuid().is_root();
        if self == Self::Myself && root {
            return true;
        }
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "true"]).stderr(Stdio::null());
        if root {
            unshare.uid(NOBODY).gid(NOBODY);
        }
        let allowed = unshare.status().is_ok_and(|status| status.success());
        if !allowed {
            leave_out(test, "this machine doesn't let ordinary users make user namespaces");
        }
        allowed
    }

    fn drops_root(self) -> bool {
        self == Self::Ordinary && geteuid().is_root()
    }
}

/// What is kept on disk for a server; a second server may be given the same.
#[derive(Debug)]
pub(crate) struct Place {
    root: TempDir,
    program: PathBuf,
    user: User,
    /// Where its servers keep everything, if that isn't in the data folder.
    database: OnceLock<Database>,
    /// From the first server on. Labs may go on between two servers, where a test that wants to be alone would see them.
    turn: OnceCell<Turn>,
}

impl Place {
    pub(crate) fn new(user: User) -> Arc<Self> {
        let root = tempfile::Builder::new().prefix("antimony-e2e-").tempdir().expect("a temporary folder");
        fs::create_dir(root.path().join("data")).expect("a data folder");
        let mut program = PathBuf::from(PROGRAM);
        if user.drops_root() {
            open_to_all(root.path());
            chown(root.path().join("data"), Some(NOBODY), Some(NOBODY)).expect("chown of the data folder");
            // The build directory may lie where an ordinary user has no way in.
            program = root.path().join("antimony-host");
            fs::copy(PROGRAM, &program).expect("a copy of the program");
            open_to_all(&program);
        }
        Arc::new(Self { root, program, user, database: OnceLock::new(), turn: OnceCell::new() })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// `antimony-host user …` for the users of this place, with this on its standard input.
    pub(crate) fn user_command(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("user").args(arguments).arg("--data").arg(self.data());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        // One that doesn't read it has ended before.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("wait for the program")
    }

    /// Adds somebody who logs in by name and password. Then nobody does as `admin` with password `admin`.
    pub(crate) fn add_user(&self, name: &str, password: &str, more: &[&str]) {
        let output = self.user_command(&[&["add", name, "--password-stdin"], more].concat(), &format!("{password}\n"));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// With `ANTIMONY_TEST_PLUGINS=FOLDER`: a configuration with the bundled plugins as they are in that folder, which CI
    /// has just built from source, instead of those within the program.
    fn fresh_plugins(&self) -> Option<String> {
        let folder = PathBuf::from(std::env::var_os("ANTIMONY_TEST_PLUGINS")?);
        let mut config = "plugins:\n".to_owned();
        for hook in ["command-validator", "auth-policy", "status-formatter"] {
            let file = format!("{hook}.wasm");
            let copy = self.root.path().join(&file);
            fs::copy(folder.join(&file), &copy).expect("a plugin in ANTIMONY_TEST_PLUGINS");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).expect("chmod");
            config.push_str(&format!("  {hook}:\n    - path: {file}\n"));
        }
        Some(config)
    }

    /// With `ANTIMONY_TEST_DATABASE=postgres`: everything is kept in a PostgreSQL database of this place's own, unless the
    /// configuration of a test says something about databases itself.
    fn database(&self, config: Option<String>) -> Option<String> {
        if std::env::var_os("ANTIMONY_TEST_DATABASE").is_none_or(|wanted| wanted != "postgres") {
            return config;
        }
        let of_its_own = |text: &String| text.lines().any(|line| line.starts_with("database:"));
        if config.as_ref().is_some_and(of_its_own) {
            return config;
        }
        // Whoever asked for it wants it, or nothing.
        let database = self.database.get_or_init(|| Postgres::shared().expect(super::postgres::MISSING).database());
        let config = config.unwrap_or_default();
        // What is written as JSON is one value.
        Some(match config.trim().strip_prefix('{') {
            Some(rest) => format!("{{ database: {}, {rest}\n", database.flow()),
            None => format!("{}\ndatabase: {}\n", config.trim_end(), database.flow()),
        })
    }

    /// A command of the program, run by the user of this place, knowing nothing of the environment but `PATH`.
    pub(crate) fn command(&self) -> Command {
        self.command_through(&[])
    }

    /// The same, started by another command: its program, and its arguments up to those of ours.
    fn command_through(&self, starter: &[String]) -> Command {
        let mut command = match starter {
            [] => Command::new(&self.program),
            [starter, arguments @ ..] => {
                let mut command = Command::new(starter);
                command.args(arguments).arg(&self.program);
                command
            }
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TMPDIR", std::env::temp_dir()).current_dir(self.root.path()).stdin(Stdio::null());
        if self.user.drops_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// How a server is started.
pub(crate) struct ServerBuilder {
    place: Arc<Place>,
    listen: String,
    config: Option<String>,
    environment: Vec<(String, String)>,
    starter: Vec<String>,
    runtime: Option<String>,
    /// Whether the configuration says where it listens and keeps its data.
    by_its_configuration: bool,
    turn: Option<Turn>,
}

/// A server that ended instead of listening.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) status: ExitStatus,
    /// All that it wrote.
    pub(crate) output: String,
}

impl ServerBuilder {
    /// Runs it as `user`; labs need [`User::can_run_labs`].
    pub(crate) fn new(user: User) -> Self {
        Self::at(&Place::new(user))
    }

    /// Goes on with the data folder of an earlier server.
    pub(crate) fn at(place: &Arc<Place>) -> Self {
        Self {
            place: Arc::clone(place),
            listen: LOOPBACK.to_owned(),
            config: None,
            environment: Vec::new(),
            starter: Vec::new(),
            runtime: Some("embedded".to_owned()),
            by_its_configuration: false,
            turn: None,
        }
    }

    /// Starts it within the turn of a test that is alone.
    pub(crate) fn within(mut self, turn: &Turn) -> Self {
        self.turn = Some(turn.clone());
        self
    }

    pub(crate) fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Gives it this text as its configuration file.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// Leaves it to the configuration where it listens and keeps its data.
    pub(crate) fn by_its_configuration(mut self) -> Self {
        self.by_its_configuration = true;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has labs run on this runtime; `None`: on whichever it takes by itself. The embedded one unless this is called, wherever
    /// the tests run.
    pub(crate) fn runtime(mut self, name: Option<&str>) -> Self {
        self.runtime = name.map(str::to_owned);
        self
    }

    /// Has it started by this command, which goes on with its last arguments as a command line.
    pub(crate) fn through(mut self, starter: &[&str]) -> Self {
        self.starter = starter.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.place.data()
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(self) -> Server {
        self.try_start().await.unwrap_or_else(|failed| panic!("the server ended: {}\n{}", failed.status, failed.output))
    }

    /// Starts it, and waits until it listens or has ended.
    pub(crate) async fn try_start(self) -> Result<Server, NotStarted> {
        let turn = match self.turn {
            Some(turn) => turn,
            None => self.place.turn.get_or_init(shared).await.clone(),
        };
        let place = self.place;
        let mut command = place.command_through(&self.starter);
        command.arg("serve");
        if !self.by_its_configuration {
            command.args(["--listen", &self.listen, "--data"]).arg(place.data());
        }
        if let Some(runtime) = &self.runtime {
            command.args(["--runtime", runtime]);
        }
        if let Some(config) = place.database(self.config.or_else(|| place.fresh_plugins())) {
            let path = place.root.path().join("config.yml");
            fs::write(&path, config).expect("write the configuration");
            command.arg("--config").arg(path);
        }
        command.envs(self.environment).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the server");
        let (lines, output) = mpsc::channel();
        for stream in [
            Box::new(child.stdout.take().expect("piped")) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().expect("piped")),
        ] {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    // Read to the end even when nobody keeps the lines, so that the server never waits for its reader.
                    let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        }
        drop(lines);
        let ready = tokio::task::spawn_blocking(move || wait_until_listening(output)).await.expect("no panic");
        let Some((url, log)) = ready.url else {
            let status = child.wait().expect("wait for the server");
            return Err(NotStarted { status, output: ready.log });
        };
        contract::watch(&url);
        rest::watch(&url);
        Ok(Server { url, child, log, place, _turn: turn })
    }
}

struct Ready {
    url: Option<(String, Log)>,
    log: String,
}

/// Collects what the server goes on writing.
struct Log {
    so_far: String,
    more: mpsc::Receiver<String>,
}

fn wait_until_listening(output: mpsc::Receiver<String>) -> Ready {
    let mut log = String::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match output.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())) {
            Ok(line) => {
                log.push_str(&line);
                log.push('\n');
                if let Some(url) = line.strip_prefix("listening on ") {
                    let url = url.trim().to_owned();
                    return Ready { url: Some((url, Log { so_far: log.clone(), more: output })), log };
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ready { url: None, log },
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the server neither listens nor ends:\n{log}"),
        }
    }
}

/// A running server. Dropping it kills it; when the test fails, its log is shown.
pub(crate) struct Server {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    child: Child,
    log: Log,
    place: Arc<Place>,
    _turn: Turn,
}

impl Server {
    /// A server of whoever runs the tests, as it is without any configuration.
    pub(crate) async fn start() -> Self {
        ServerBuilder::new(User::Myself).start().await
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// The API without a token.
    pub(crate) fn api(&self) -> Api {
        Api::anonymous(&self.url)
    }

    /// The administrator, logged in with the default login and connected.
    pub(crate) async fn admin(&self) -> Client {
        let login = self.api().log_in("admin", "admin").await.expect("log in as admin");
        Client::connect(self, &login.access_token).await
    }

    /// A user who is no administrator, connected.
    pub(crate) async fn member(&self, id: &str, collections: &[&str]) -> Client {
        Client::connect(self, &self.token(id, collections)).await
    }

    /// An access token for a user who is no administrator, from the server's own command line.
    pub(crate) fn token(&self, id: &str, collections: &[&str]) -> String {
        let mut command = self.place.command();
        command.args(["token", "--user", id]);
        for collection in collections {
            command.args(["--collection", collection]);
        }
        let output = command.arg("--data").arg(self.place.data()).output().expect("run the token command");
        assert!(output.status.success(), "token: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// An access token for a user who is no administrator, which is valid for so many seconds.
    pub(crate) fn short_token(&self, id: &str, collections: &[&str], seconds: i64) -> String {
        self.signer(id, collections)(seconds)
    }

    /// Makes such tokens with the server's own key, each for so many seconds from then on.
    pub(crate) fn signer(&self, id: &str, collections: &[&str]) -> impl Fn(i64) -> String + Send + Sync + use<> {
        let claims = claims(&self.token(id, collections));
        let key = fs::read(self.place.data().join("signing.key")).expect("the server's key");
        let key = jsonwebtoken::EncodingKey::from_secret(&key);
        move |seconds| {
            let mut claims = claims.clone();
            claims.insert("exp".to_owned(), (jiff::Timestamp::now().as_second() + seconds).into());
            jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("sign")
        }
    }

    /// An access token for a user who is no administrator, with more claims, signed with the server's own key: as what
    /// stands between an institution's login and this server would make it.
    pub(crate) fn token_with(&self, id: &str, more: &[(&str, serde_json::Value)]) -> String {
        let mut claims = claims(&self.token(id, &[]));
        claims.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let key = fs::read(self.place.data().join("signing.key")).expect("the server's key");
        let key = jsonwebtoken::EncodingKey::from_secret(&key);
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("sign")
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("ask for the server").is_none()
    }

    /// SIGKILL: it gets no chance to clean up.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("wait for the server");
    }

    /// SIGTERM, and its answer to it.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for the server") {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "the server ignores SIGTERM:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id is an i32");
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(id), signal);
    }

    /// What it has written so far.
    pub(crate) fn log(&mut self) -> &str {
        for line in self.log.more.try_iter() {
            self.log.so_far.push_str(&line);
            self.log.so_far.push('\n');
        }
        &self.log.so_far
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_alive() {
            self.kill();
        }
        if std::thread::panicking() {
            let url = self.url.clone();
            eprintln!("--- log of the server at {url} ---\n{}---", self.log());
        }
        for (document, violations) in [
            ("host/src/socket/asyncapi.yaml", contract::violations(&self.url)),
            ("what `antimony-host openapi` prints", rest::violations(&self.url)),
        ] {
            if violations.is_empty() {
                continue;
            }
            let all = format!("not as in {document}:\n\n{}", violations.join("\n\n"));
            // A panic while another is under way would end all tests.
            if std::thread::panicking() {
                eprintln!("{all}");
            } else {
                panic!("{all}");
            }
        }
    }
}

/// The claims of a token, read as a browser reads them: without checking anything.
fn claims(token: &str) -> serde_json::Map<String, serde_json::Value> {
    use base64::Engine as _;
    let middle = token.split('.').nth(1).expect("a token has three parts");
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).expect("base64");
    serde_json::from_slice(&json).expect("an object")
}

/// The files whose processes are those of servers at `place`.
pub(crate) fn known_programs(place: &Place) -> Vec<PathBuf> {
    vec![place.program.clone()]
}

/// Runs a command of the program that ends by itself.
pub(crate) async fn run_program(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null());
    output_of(command).await
}

/// Runs a command of the program to its end, at a time when nobody wants to be alone.
pub(crate) async fn output_of(mut command: Command) -> std::process::Output {
    let _turn = shared().await;
    let run = tokio::task::spawn_blocking(move || command.output().expect("run the program"));
    run.await.expect("no panic")
}
