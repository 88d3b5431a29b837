//! A terminal in a node: the person's own terminal in raw mode, or whatever is piped in.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use terminal_size::{Height, Width, terminal_size};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::CtlError;
use super::labs::{self, text};
use super::output::Output;
use super::session::Session;
use crate::client::{Event, Namespace};

/// What leaves a shell open and goes: Ctrl-], as in telnet.
const LEAVE: u8 = 0x1d;
/// What a terminal takes for the end of its input: Ctrl-D.
const END_OF_INPUT: &str = "\x04";
/// How often that is sent until the shell has ended.
const END_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for the last output of a shell that has been announced as closed.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Bytes of input that are sent at a time.
const PIECE: usize = 4096;

/// Opens a shell in a node, or goes back to one, and is its terminal until it ends.
pub(super) async fn open(
    session: &mut Session,
    lab: &str,
    node: &str,
    attach: Option<&str>,
    output: &Output,
) -> Result<(), CtlError> {
    let lab = labs::find(session, lab).await?;
    let id = text(&lab, "id").to_owned();
    let connection = session.connect().await?;
    let commands = session.join(&connection, "/lab-commands").await?;
    // Joined first, so that no end is missed.
    let mut announced = session.join(&connection, "/shell-commands").await?;
    let shell = match attach {
        Some(shell) => shell.to_owned(),
        None => {
            let answer = labs::command(&commands, &id, labs::OPEN_SHELL, json!({ "node": node })).await?;
            answer.as_str().unwrap_or_default().to_owned()
        }
    };
    let mut terminal = session.join(&connection, &format!("/shells/{shell}")).await?;
    let interactive = io::stdin().is_terminal();
    if interactive {
        output.note(&format!("a shell in {node}; Ctrl-] leaves it open and goes"));
    }
    let raw = if interactive { Some(Raw::begin()?) } else { None };
    let mut resized = signal(SignalKind::window_change())
        .map_err(|error| CtlError::File("changes of the window can't be noticed".to_owned(), error))?;
    resize(&terminal).await?;
    let mut input = Some(read_input());
    let (mut left, mut ended) = (false, false);
    let mut end_again = tokio::time::interval(END_AGAIN);
    end_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = terminal.next_event() => match event {
                Some(event) => write(&event)?,
                None => break,
            },
            event = announced.next_event() => match event {
                Some(event) if has_closed(&event, &shell) => {
                    while let Ok(Some(event)) = tokio::time::timeout(LAST_WORDS, terminal.next_event()).await {
                        write(&event)?;
                    }
                    break;
                }
                Some(_) => {}
                None => break,
            },
            piece = next_of(&mut input) => match piece {
                Some(piece) => {
                    let (typed, leaves) = typed(&piece, interactive);
                    if !typed.is_empty() {
                        terminal.emit("data", typed).await?;
                    }
                    if leaves {
                        left = true;
                        break;
                    }
                }
                None => {
                    input = None;
                    ended = true;
                }
            },
            // Again and again: a shell that is still starting, or a program that it runs, may take it for itself.
            _ = end_again.tick(), if ended => terminal.emit("data", END_OF_INPUT).await?,
            _ = resized.recv() => resize(&terminal).await?,
        }
    }
    drop(raw);
    if left {
        let name = text(&lab, "name");
        output.note(&format!("\nthe shell stays open: `ctl shell {name} {node} --attach {shell}` goes back to it"));
    } else if connection.is_closed() {
        return Err(CtlError::Ended);
    } else if !io::stdout().is_terminal() {
        // Nothing more to say: what is piped on is the shell's output alone.
    } else {
        output.note("the shell has ended");
    }
    Ok(())
}

async fn next_of(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// What is sent of a piece of input, and whether the person wants to go. What is no UTF-8 can't be typed.
fn typed(piece: &[u8], interactive: bool) -> (String, bool) {
    let end = if interactive { piece.iter().position(|byte| *byte == LEAVE) } else { None };
    let text = String::from_utf8_lossy(&piece[..end.unwrap_or(piece.len())]).into_owned();
    // A terminal sends the Enter key as a carriage return; a file has line feeds, which a terminal takes as well.
    (text, end.is_some())
}

fn has_closed(event: &Event, shell: &str) -> bool {
    event.data()["payload"]["shellId"] == shell
}

fn write(event: &Event) -> Result<(), CtlError> {
    let pieces: Vec<&str> = match event.data() {
        Value::Array(pieces) => pieces.iter().filter_map(Value::as_str).collect(),
        piece => piece.as_str().into_iter().collect(),
    };
    let mut stdout = io::stdout().lock();
    let written = pieces.iter().try_for_each(|piece| stdout.write_all(piece.as_bytes()));
    let written = written.and_then(|()| stdout.flush());
    written.map_err(|error| CtlError::File("standard output".to_owned(), error))
}

/// Says how large the person's terminal is, if they have one.
async fn resize(terminal: &Namespace) -> Result<(), CtlError> {
    let Some((Width(columns), Height(rows))) = terminal_size() else { return Ok(()) };
    Ok(terminal.emit("resize", json!({ "cols": columns, "rows": rows })).await?)
}

/// Reads standard input as it comes. Pieces end between characters.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, receiver) = mpsc::channel(16);
    // A thread of its own, since a read of a terminal can't be given up; the process ends without it.
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut kept = Vec::new();
        let mut buffer = [0; PIECE];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => kept.extend_from_slice(&buffer[..count]),
            }
            let whole = whole_characters(&kept);
            let rest = kept.split_off(whole);
            if !kept.is_empty() && pieces.blocking_send(std::mem::replace(&mut kept, rest)).is_err() {
                return;
            }
        }
        if !kept.is_empty() {
            let _ = pieces.blocking_send(kept);
        }
    });
    receiver
}

/// How many of the bytes are before a character that has begun and not ended.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        // All of it, or something that no further byte makes right.
        _ => bytes.len(),
    }
}

/// The person's terminal, which hands on each key as it is for as long as this is held.
struct Raw {
    before: Termios,
}

impl Raw {
    fn begin() -> Result<Self, CtlError> {
        let fail = |error: nix::Error| CtlError::File("the terminal".to_owned(), error.into());
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd()).map_err(fail)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).map_err(fail)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_to_leave_is_one_only_at_a_terminal() {
        assert_eq!(typed(b"ls\r\x1dmore", true), ("ls\r".to_owned(), true));
        assert_eq!(typed(b"ls\r\x1dmore", false), ("ls\r\x1dmore".to_owned(), false));
    }

    #[test]
    fn a_character_that_came_in_two_pieces_is_sent_in_one() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(&"aé".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(b"a\xff"), 2);
    }
}
