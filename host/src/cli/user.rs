//! `user`: adds, shows and removes the users who log in by a password of their own.
//!
//! It writes the file of users and nothing else; a server that runs reads it anew by itself.

use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::{DEFAULT_DATA, print_line, read_config};
use crate::auth::users::file::{check_name, edit};
use crate::auth::users::password::{MAX_BYTES, PasswordHash};
use crate::auth::users::{Entry, Users, UsersError, UsersSource};

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a user; asks for their password
    Add {
        /// Name to log in by
        name: String,
        /// Make the user an administrator
        #[arg(long)]
        admin: bool,
        /// Name of a collection that the user belongs to; may be given several times
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Give a user another password, which ends their sessions
    SetPassword {
        /// Name of the user
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Show the users
    List {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove a user
    Remove {
        /// Name of the user
        name: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Where the password comes from.
#[derive(Debug, Args)]
pub(super) struct PasswordArgs {
    /// Read the password from the first line of standard input, instead of asking for it at the terminal
    #[arg(long)]
    password_stdin: bool,
}

/// Where the users are.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The server's data folder
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,
    /// The server's configuration file, which may name another file of users
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl PlaceArgs {
    fn source(&self) -> anyhow::Result<UsersSource> {
        let (config, config_dir) = read_config(self.config.as_deref())?;
        Ok(config.auth.users(&config_dir, &self.data))
    }
}

/// Does what the command line says.
pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Add { name, admin, collections, password, place } => {
            let path = place.source()?.path;
            check_name(&name).map_err(anyhow::Error::msg)?;
            // Before anybody types a password in vain.
            let taken =
                format!("{}: there is a user {name} already; `user set-password` changes the password", path.display());
            ensure!(read(&path)?.is_none_or(|users| users.get(&name).is_none()), "{taken}");
            let password = hash(&password.read(&name)?)?;
            make_folder(&path)?;
            edit(&path, |users| {
                ensure!(users.get(&name).is_none(), "{taken}");
                users.insert(&name, Entry { password, admin, collections });
                Ok(())
            })?;
            print_line(&format!("{}: added {name}", path.display()));
        }
        Command::SetPassword { name, password, place } => {
            let path = place.source()?.path;
            existing(&path, &name)?;
            let password = hash(&password.read(&name)?)?;
            edit(&path, |users| {
                let entry = users.get(&name).cloned().with_context(|| unknown(&path, &name))?;
                users.insert(&name, Entry { password, ..entry });
                Ok::<_, anyhow::Error>(())
            })?;
            print_line(&format!("{}: {name} has another password", path.display()));
        }
        Command::List { place } => {
            let path = place.source()?.path;
            let Some(users) = read(&path)? else { bail!("there are no users: there is no {}", path.display()) };
            for (name, entry) in users.iter() {
                let admin = if entry.admin { ", administrator" } else { "" };
                let collections = entry.collections.join(", ");
                let of = if collections.is_empty() { "" } else { ": " };
                print_line(&format!("{name}{admin}{of}{collections}"));
            }
        }
        Command::Remove { name, place } => {
            let path = place.source()?.path;
            existing(&path, &name)?;
            edit(&path, |users| {
                ensure!(users.remove(&name), unknown(&path, &name));
                Ok(())
            })?;
            print_line(&format!("{}: removed {name}", path.display()));
        }
    }
    Ok(())
}

impl PasswordArgs {
    fn read(&self, name: &str) -> anyhow::Result<String> {
        if self.password_stdin {
            let mut line = String::new();
            // Whatever is longer is refused anyway.
            let mut input = std::io::stdin().lock().take(4 * MAX_BYTES as u64);
            input.read_line(&mut line).context("no password could be read from standard input")?;
            return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
        }
        let ask = |prompt: String| {
            rpassword::prompt_password(prompt)
                .context("there is no terminal to ask for the password: use --password-stdin")
        };
        let password = ask(format!("Password of {name}: "))?;
        ensure!(password == ask("The same again: ".to_owned())?, "these were two different passwords");
        Ok(password)
    }
}

fn hash(password: &str) -> anyhow::Result<PasswordHash> {
    Ok(PasswordHash::of(password)?)
}

fn read(path: &Path) -> Result<Option<Users>, UsersError> {
    Users::read(path)
}

fn existing(path: &Path, name: &str) -> anyhow::Result<()> {
    ensure!(read(path)?.is_some_and(|users| users.get(name).is_some()), unknown(path, name));
    Ok(())
}

fn unknown(path: &Path, name: &str) -> String {
    format!("{}: there is no user {name}; `user list` shows those that there are", path.display())
}

/// The data folder may not be there before the first start of the server.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("{}: the folder can't be made", folder.display()))
}
