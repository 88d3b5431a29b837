//! Packets at an interface of a node, into a file or a pipe such as Wireshark's.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use clap::Args;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::labs::{self, text};
use super::output::{Output, printable};
use super::session::Session;
use super::{CtlError, Node};
use crate::client::{Answered, in_path};

/// Bytes of the header of a pcap file, and of that of a packet in it, at whose place 8 stands how many follow.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Longest packet that is believed in.
const LONGEST: usize = 1 << 20;
/// What the server says when the token was what ended it. There is another one for whoever has logged in.
const EXPIRED: &str = "the access token has expired";
/// How long whoever reads may take to take what is left when Ctrl-C was pressed.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// What is to be captured.
#[derive(Debug, Args)]
pub(super) struct Capture {
    #[command(flatten)]
    node: Node,
    /// Name of the interface in the node
    #[arg(value_name = "INTERFACE")]
    interface: String,
    /// Write to this file [default: to standard output, which must be no terminal]
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Keep no more than so many bytes of each packet
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
    /// Have the interface take packets that are not for it, too
    #[arg(long)]
    promiscuous: bool,
}

impl Capture {
    /// What is asked for, of which some may have come already.
    fn path(&self, lab: &str, until: Option<Instant>, so_far: &Whole) -> String {
        let [lab, node, interface] = [lab, &self.node.node, &self.interface].map(in_path);
        let packets = self.packets.map(|packets| packets.saturating_sub(so_far.packets).max(1));
        let seconds = until.map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64().ceil().max(1.0));
        let mut query = Vec::new();
        query.extend(packets.map(|packets| format!("packets={packets}")));
        query.extend(seconds.map(|seconds| format!("seconds={seconds}")));
        query.extend(self.snaplen.map(|bytes| format!("snaplen={bytes}")));
        query.extend(self.promiscuous.then(|| "promiscuous=true".to_owned()));
        format!("/labs/{lab}/nodes/{node}/interfaces/{interface}/capture?{}", query.join("&"))
    }
}

/// Captures until something ends it. What was written then is a whole file.
pub(super) async fn run(session: &mut Session, capture: &Capture, output: &Output) -> Result<(), CtlError> {
    if capture.write.is_none() && io::stdout().is_terminal() {
        return Err(CtlError::Other(
            "packets are nothing for a terminal: write them to a file with -w, or pipe them, as into `wireshark -k -i -`"
                .to_owned(),
        ));
    }
    let lab = labs::find(session, &capture.node.lab.lab).await?;
    let until = capture.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let (mut whole, mut dropped) = (Whole::default(), 0);
    let mut answer = session.fetch(&capture.path(text(&lab, "id"), until, &whole)).await?;
    let writer = Writer::open(capture.write.as_deref())?;
    output.note(&format!("capturing at {} of {}; Ctrl-C ends it", capture.interface, capture.node.node));
    let ended = loop {
        whole.another_file();
        let ended = tokio::select! {
            ended = copy(&mut answer, &mut whole, &writer) => ended?,
            _ = &mut interrupted => End::Interrupted,
            () = writer.gone() => End::Unread,
        };
        dropped += header(&answer, "x-capture-dropped").parse().unwrap_or(0);
        match ended {
            End::Told if header(&answer, "x-capture-ended") == EXPIRED && session.can_renew() => {
                answer = session.fetch(&capture.path(text(&lab, "id"), until, &whole)).await?;
            }
            End::Told => break header(&answer, "x-capture-ended").to_owned(),
            End::Interrupted => break "Ctrl-C was pressed".to_owned(),
            // As any program in a pipe.
            End::Unread => return writer.close().await,
        }
    };
    writer.close().await?;
    let packets = whole.packets;
    let said = || format!("{packets} packets, and {dropped} dropped; {}", printable(&ended));
    match &capture.write {
        Some(file) => {
            let answer = json!({ "file": file, "packets": packets, "dropped": dropped, "ended": ended });
            output.answer(&answer, || format!("{}: {}", file.display(), said()))
        }
        None => {
            output.note(&said());
            Ok(())
        }
    }
}

/// Why an answer was read no further.
enum End {
    /// The server has ended it.
    Told,
    Interrupted,
    /// Nobody takes what is written.
    Unread,
}

fn header<'a>(answer: &'a Answered, name: &str) -> &'a str {
    answer.trailers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn copy(answer: &mut Answered, whole: &mut Whole, writer: &Writer) -> Result<End, CtlError> {
    while let Some(bytes) = answer.next().await? {
        let ready = whole.push(&bytes)?;
        if !ready.is_empty() && !writer.write(ready).await {
            return Ok(End::Unread);
        }
    }
    Ok(End::Told)
}

/// Puts packets together from bytes as they come, so that what is written never ends within one.
#[derive(Debug, Default)]
struct Whole {
    bytes: BytesMut,
    /// How much of what comes is the header of a file, of which the first is written.
    header_left: usize,
    has_header: bool,
    packets: u64,
}

impl Whole {
    /// A file begins, with a header.
    fn another_file(&mut self) {
        self.bytes.clear();
        self.header_left = FILE_HEADER;
    }

    /// Takes bytes; answers what is whole.
    fn push(&mut self, bytes: &[u8]) -> Result<Bytes, CtlError> {
        self.bytes.extend_from_slice(bytes);
        let mut end = 0;
        if self.header_left > 0 {
            if self.bytes.len() < FILE_HEADER {
                return Ok(Bytes::new());
            }
            self.header_left = 0;
            if self.has_header {
                self.bytes.advance(FILE_HEADER);
            } else {
                self.has_header = true;
                end = FILE_HEADER;
            }
        }
        while let Some(length) = self.bytes.get(end + 8..end + 12) {
            let length = u32::from_le_bytes(length.try_into().expect("they are four")) as usize;
            if length > LONGEST {
                return Err(CtlError::Other(format!("the server sends what is no packet: {length} bytes")));
            }
            if self.bytes.len() < end + PACKET_HEADER + length {
                break;
            }
            end += PACKET_HEADER + length;
            self.packets += 1;
        }
        Ok(self.bytes.split_to(end).freeze())
    }
}

/// Writes in a thread of its own, so that whoever reads too slowly keeps nobody from ending it.
struct Writer {
    name: String,
    bytes: mpsc::Sender<Bytes>,
    written: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    fn open(file: Option<&Path>) -> Result<Self, CtlError> {
        let (name, to): (String, Box<dyn Write + Send>) = match file {
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|error| CtlError::File(name.clone(), error))?;
                (name, Box::new(file))
            }
            None => ("standard output".to_owned(), Box::new(io::stdout())),
        };
        let (bytes, due) = mpsc::channel(64);
        let (done, written) = oneshot::channel();
        std::thread::spawn(move || {
            // Nobody waits for it when whoever asked has gone.
            let _ = done.send(write(to, due));
        });
        Ok(Self { name, bytes, written })
    }

    /// False: nobody takes it.
    async fn write(&self, bytes: Bytes) -> bool {
        self.bytes.send(bytes).await.is_ok()
    }

    /// Ready when nobody takes what is written any more.
    async fn gone(&self) {
        self.bytes.closed().await;
    }

    /// Ready when everything is written.
    async fn close(self) -> Result<(), CtlError> {
        drop(self.bytes);
        match tokio::time::timeout(LAST_WRITES, self.written).await {
            Ok(Ok(written)) => written.map_err(|error| CtlError::File(self.name, error)),
            Ok(Err(_)) | Err(_) => Err(CtlError::Other(format!("{} takes nothing any more", self.name))),
        }
    }
}

fn write(mut to: Box<dyn Write + Send>, mut due: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(bytes) = due.blocking_recv() {
        to.write_all(&bytes)?;
        // Whoever looks wants to see packets when they come.
        to.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(length: u8) -> Vec<u8> {
        let mut packet = vec![0; PACKET_HEADER];
        packet[8] = length;
        packet.extend(vec![7; usize::from(length)]);
        packet
    }

    #[test]
    fn what_is_written_ends_with_a_packet_wherever_it_is_cut() {
        let file = [vec![1; FILE_HEADER], packet(3), packet(0), packet(5)].concat();
        for size in 1..file.len() {
            let mut whole = Whole::default();
            whole.another_file();
            let mut written = Vec::new();
            let ends = [0, 24, 24 + 19, 24 + 19 + 16, file.len()];
            for chunk in file.chunks(size) {
                written.extend(whole.push(chunk).expect("it is a file"));
                assert!(ends.contains(&written.len()), "{} of chunks of {size}", written.len());
            }
            assert_eq!((&written, whole.packets), (&file, 3));
            // A second one goes on behind it, without its header.
            whole.another_file();
            assert_eq!(whole.push(&[vec![1; FILE_HEADER], packet(1)].concat()).expect("it is one"), packet(1));
        }
    }

    #[test]
    fn what_is_no_file_of_packets_is_not_waited_for() {
        let mut whole = Whole::default();
        assert!(whole.push(&[0xff; 100]).is_err());
    }
}
