//! A real PostgreSQL from the machine's package, in a temporary folder, reached through a socket in it. Needs nothing else of
//! the suites: the tests of the package's own modules include this file, too.
//!
//! One is shared by all tests of a process, each with a database of its own; a test that wants to end or disturb it starts
//! another. A small shell script stands between: it ends PostgreSQL and removes the folder when its input ends, which it
//! does with this process, whatever becomes of it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

/// PostgreSQL refuses to be run by root: `nobody` runs it then.
const NOBODY: u32 = 65534;
/// What the file of a socket is named after, and nothing else unless it listens for others, too: each has a folder of its own.
const PORT: u16 = 5432;

/// Keeps PostgreSQL: a line says what to do, and is answered when that is done.
const KEEPER: &str = r#"
# The kernel sends it to those whose parent has died while one of them is frozen.
trap '' HUP
folder=$1 bin=$2 port=$3; shift 3
pid=
run() {
    "$bin/postgres" -D "$folder/data" -k "$folder" -p "$port" "$@" >>"$folder/log" 2>&1 </dev/null &
    pid=$!
    for _ in $(seq 1200); do
        "$bin/pg_isready" -q -h "$folder" -p "$port" -U antimony -d postgres && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
}
end() { [ -z "$pid" ] || { kill -"$1" "$pid"; wait "$pid"; pid=; } 2>/dev/null; }
each() { for one in $(cat "/proc/$pid/task/$pid/children") "$pid"; do kill -"$1" "$one"; done 2>/dev/null; }
if [ ! -e "$folder/data" ]; then
    "$bin/initdb" -D "$folder/data" -U antimony -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1
fi
while read -r word; do
    case $word in
        run) run "$@" ;;
        end) end QUIT ;;
        freeze) each STOP ;;
        thaw) each CONT ;;
    esac
    if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then echo up; else echo down; fi
done
[ -z "$pid" ] || each CONT
end QUIT
rm -rf "$folder"
"#;

/// The newest PostgreSQL that is installed here, as Debian and its kin install it.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = versions.flatten().map(|version| version.path()).filter(|path| path.join("bin/initdb").exists());
    installed.max_by_key(|path| version(path)).map(|path| path.join("bin"))
}

/// Why a test that needs one can't be run, where there is none.
pub(crate) const MISSING: &str = "PostgreSQL is not installed (Debian: postgresql)";

/// A database of its own in some PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Folder of the socket.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Its name.
    pub(crate) name: String,
}

impl Database {
    /// What stands under `database:` in the configuration of a server, on one line.
    pub(crate) fn flow(&self) -> String {
        let Self { host, port, name } = self;
        format!("{{ host: '{host}', port: {port}, database: {name}, user: antimony }}")
    }
}

/// A PostgreSQL. Ends when it is dropped, or this process does.
pub(crate) struct Postgres {
    folder: PathBuf,
    port: u16,
    bin: PathBuf,
    keeper: Child,
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    databases: AtomicU32,
}

impl Postgres {
    /// The one of this process; `None` if it isn't installed here.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Postgres>> = LazyLock::new(Postgres::start);
        SHARED.as_ref()
    }

    /// Another one; `None` if it isn't installed here.
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(PORT, "")
    }

    /// Another one that listens on a port of this machine, too; `None` if it isn't installed here.
    pub(crate) fn start_listening() -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        Self::start_at(free.port(), "127.0.0.1")
    }

    fn start_at(port: u16, listen: &str) -> Option<Self> {
        let bin = programs()?;
        // Its keeper removes it.
        let folder = tempfile::Builder::new().prefix("antimony-pg-").tempdir().expect("a temporary folder").keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "postgres-keeper"]).arg(&folder).arg(&bin).arg(port.to_string());
        command.arg("-c").arg(format!("listen_addresses={listen}"));
        command.args(["-c", "fsync=off", "-c", "max_connections=300"]);
        // A signal from the terminal is for the tests; this ends after them.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
        if nix::unistd::geteuid().is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).expect("chown");
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut keeper = command.spawn().expect("start a shell");
        let pipes = (keeper.stdin.take().expect("piped"), BufReader::new(keeper.stdout.take().expect("piped")));
        let postgres = Self { folder, port, bin, keeper, pipes: Mutex::new(Some(pipes)), databases: AtomicU32::new(0) };
        postgres.run();
        Some(postgres)
    }

    /// Has its keeper do something, and waits until it is done. Answers whether PostgreSQL is there.
    fn tell(&self, word: &str) -> bool {
        let mut pipes = self.pipes.lock().expect("nobody panics with it");
        let (input, output) = pipes.as_mut().expect("it is taken in drop alone");
        writeln!(input, "{word}").expect("its keeper is there");
        let mut answer = String::new();
        output.read_line(&mut answer).expect("its keeper answers");
        answer.trim() == "up"
    }

    /// Starts it again.
    pub(crate) fn run(&self) {
        assert!(self.tell("run"), "PostgreSQL doesn't start:\n{}", self.log());
    }

    /// Ends it as a crash would: connections break, and what wasn't committed is gone.
    pub(crate) fn crash(&self) {
        assert!(!self.tell("end"), "PostgreSQL doesn't end:\n{}", self.log());
    }

    /// Has it stop answering, with all connections in place.
    pub(crate) fn freeze(&self) {
        self.tell("freeze");
    }

    /// Lets it go on after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.tell("thaw");
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Gives it a file of its own, such as `pg_hba.conf`, which nobody else may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder.join("data").join(name);
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        if nix::unistd::geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database.
    pub(crate) fn database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let host = self.folder.display().to_string();
        let database = Database { host, port: self.port, name: format!("test{number}") };
        self.sql("postgres", &format!("CREATE DATABASE {}", database.name));
        database
    }

    /// Has SQL run in one of its databases, and answers what came of it, a line for each row.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "antimony", "-p", &self.port.to_string()]);
        command.arg("-h").arg(&self.folder).args(["-d", database, "-c", sql]).stdin(Stdio::null());
        let output = command.output().expect("run psql");
        assert!(output.status.success(), "{sql}: {}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.pipes.lock().map(|mut pipes| pipes.take()));
        let _ = self.keeper.wait();
    }
}
