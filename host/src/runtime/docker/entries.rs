//! How the engine writes a log down: entries with a timestamp each, in one stream (a node with a terminal) or multiplexed.
//!
//! An entry is a line, or a piece of a long one: the engine cuts lines after 16 KiB, gives all pieces the timestamp of
//! the first and ends none but the last with a line end. What a program leaves without a line end when it ends is an
//! entry too. In the raw stream of a terminal nothing but the next timestamp says that an entry ended there; it is looked
//! for only where the engine began to write anew, and not in the middle of what a node printed.

use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;

use super::DockerError;

/// Bytes of a line after which the engine begins another entry.
const CUT: usize = 16 << 10;
/// Most bytes that are held back of an entry whose end is not in sight.
const HELD: usize = 64 << 10;
/// Longest timestamp with the space behind it: nanoseconds and a time zone.
const STAMP: usize = 36;
/// Most bytes of a multiplexed entry. The engine's own limit is far less; this is about nonsense.
const LARGEST: usize = 16 << 20;

/// Which of a node's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Standard output, or the terminal.
    Out,
    /// Standard error.
    Err,
}

/// An entry, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) output: Output,
    /// Nanoseconds since 1970.
    pub(super) time: i64,
    /// As it was printed.
    pub(super) data: Bytes,
    /// Whether it begins here: the first part of it.
    pub(super) begins: bool,
    /// Whether it ends here.
    pub(super) ends: bool,
}

/// What a log consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Entry(Entry),
    /// Something that the engine says in place of the log, for instance that it can't read on.
    Complaint(String),
}

/// Takes a stream apart.
#[derive(Debug)]
pub(super) enum Decoder {
    Terminal(Terminal),
    Multiplexed(BytesMut),
}

impl Decoder {
    /// For a log of a node that has a terminal, or has none.
    pub(super) fn new(tty: bool) -> Self {
        if tty { Self::Terminal(Terminal::default()) } else { Self::Multiplexed(BytesMut::new()) }
    }

    /// Takes what came next, in pieces no larger than the engine wrote them.
    pub(super) fn piece(&mut self, piece: &[u8], items: &mut Vec<Item>) -> Result<(), DockerError> {
        match self {
            Self::Terminal(terminal) => {
                terminal.piece(piece, items);
                Ok(())
            }
            Self::Multiplexed(buffer) => {
                buffer.extend_from_slice(piece);
                multiplexed(buffer, items)
            }
        }
    }

    /// Takes the end of the stream.
    pub(super) fn end(&mut self, items: &mut Vec<Item>) {
        if let Self::Terminal(terminal) = self {
            terminal.end(items);
        }
    }
}

fn multiplexed(buffer: &mut BytesMut, items: &mut Vec<Item>) -> Result<(), DockerError> {
    const HEADER: usize = 8;
    while buffer.len() >= HEADER {
        let (kind, length) = (buffer[0], (&buffer[4..HEADER]).get_u32() as usize);
        if kind > 3 || length > LARGEST {
            return Err(DockerError::Broken(format!("a log with an entry of kind {kind} and {length} bytes")));
        }
        if buffer.len() < HEADER + length {
            return Ok(());
        }
        buffer.advance(HEADER);
        let mut data = buffer.split_to(length).freeze();
        let output = if kind == 2 { Output::Err } else { Output::Out };
        items.push(match stamp(&data) {
            Stamp::Found(time, length) if kind != 3 => {
                data.advance(length);
                Item::Entry(Entry { output, time, data, begins: true, ends: true })
            }
            _ => complaint(&data),
        });
    }
    Ok(())
}

fn complaint(text: &[u8]) -> Item {
    Item::Complaint(String::from_utf8_lossy(text).trim().to_owned())
}

/// The raw stream of a node with a terminal.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    /// What may be the beginning of a timestamp that was cut by the connection.
    cut: Vec<u8>,
    open: Option<Open>,
    /// Time of the last entry, if that ended where the engine cuts lines: only then may something follow that has no
    /// timestamp, from an engine that cuts elsewhere.
    unsure: Option<i64>,
}

/// An entry whose end is not there yet.
#[derive(Debug)]
struct Open {
    time: i64,
    data: BytesMut,
    begins: bool,
}

impl Terminal {
    fn piece(&mut self, piece: &[u8], items: &mut Vec<Item>) {
        let joined;
        let mut rest = piece;
        if !self.cut.is_empty() {
            self.cut.extend_from_slice(piece);
            joined = std::mem::take(&mut self.cut);
            rest = &joined;
        }
        let mut begins_here = true;
        while !rest.is_empty() {
            if begins_here || self.open.is_none() {
                begins_here = false;
                match stamp(rest) {
                    Stamp::Found(time, length) if self.open.as_ref().is_none_or(|open| open.time <= time) => {
                        self.close(items);
                        self.open = Some(Open { time, data: BytesMut::new(), begins: true });
                        self.unsure = None;
                        rest = &rest[length..];
                        continue;
                    }
                    Stamp::Cut => {
                        self.cut = rest.to_vec();
                        return;
                    }
                    Stamp::Found(..) | Stamp::None if self.open.is_some() => {}
                    Stamp::Found(..) | Stamp::None => {
                        let Some(time) = self.unsure.take() else {
                            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
                            items.push(complaint(&rest[..end]));
                            rest = &rest[end..];
                            continue;
                        };
                        self.open = Some(Open { time, data: BytesMut::new(), begins: false });
                    }
                }
            }
            let open = self.open.as_mut().expect("was just opened");
            let room = CUT - open.data.len() % CUT;
            let end = rest.iter().take(room).position(|byte| *byte == b'\n').map(|end| end + 1);
            let taken = end.unwrap_or_else(|| room.min(rest.len()));
            open.data.extend_from_slice(&rest[..taken]);
            // Just as long as a piece of a line: it ends here, unless a line end is all that follows.
            let whole = open.data.len() == CUT && rest.get(taken) != Some(&b'\n');
            rest = &rest[taken..];
            if end.is_some() {
                self.close(items);
            } else if whole {
                self.unsure = Some(open.time);
                self.close(items);
            } else if open.data.len() >= HELD {
                let data = open.data.split().freeze();
                let begins = std::mem::replace(&mut open.begins, false);
                items.push(Item::Entry(Entry { output: Output::Out, time: open.time, data, begins, ends: false }));
            }
        }
    }

    fn close(&mut self, items: &mut Vec<Item>) {
        if let Some(Open { time, data, begins }) = self.open.take() {
            items.push(Item::Entry(Entry { output: Output::Out, time, data: data.freeze(), begins, ends: true }));
        }
    }

    fn end(&mut self, items: &mut Vec<Item>) {
        let cut = std::mem::take(&mut self.cut);
        if let Some(open) = &mut self.open {
            open.data.extend_from_slice(&cut);
        }
        self.close(items);
    }
}

enum Stamp {
    /// Nanoseconds, and the length with the space.
    Found(i64, usize),
    /// It may be one, but not all of it is there.
    Cut,
    None,
}

/// Reads `2026-11-22T11:50:14.123456789Z ` at the beginning.
fn stamp(bytes: &[u8]) -> Stamp {
    let pattern = b"0000-00-00T00:00:00.";
    let fits = |(byte, pattern): (&u8, &u8)| if *pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern };
    if !bytes.iter().zip(pattern).all(fits) {
        return Stamp::None;
    }
    let head = &bytes[..bytes.len().min(STAMP)];
    let Some(end) = head.iter().position(|byte| *byte == b' ') else {
        let fits = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'Z' | b'+' | b'-' | b':');
        let may_go_on = head.len() < STAMP && head.iter().skip(pattern.len()).all(fits);
        return if may_go_on { Stamp::Cut } else { Stamp::None };
    };
    let time = std::str::from_utf8(&head[..end]).ok().and_then(|text| text.parse::<Timestamp>().ok());
    match time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()) {
        Some(time) => Stamp::Found(time, end + 1),
        None => Stamp::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: &str = "2026-11-22T11:50:14.000000001Z ";
    const T2: &str = "2026-11-22T11:50:14.000000002Z ";
    const T3: &str = "2026-11-22T11:50:14.000000003Z ";

    fn nanos(stamp: &str) -> i64 {
        i64::try_from(stamp.trim().parse::<Timestamp>().expect("is one").as_nanosecond()).expect("fits")
    }

    /// Time, length and whether it begins, of each part; and everything together.
    fn read(decoder: &mut Decoder, pieces: &[&[u8]]) -> (Vec<(i64, usize, bool)>, Vec<u8>) {
        let mut items = Vec::new();
        for piece in pieces {
            decoder.piece(piece, &mut items).expect("is well formed");
        }
        decoder.end(&mut items);
        let entries = items.into_iter().map(|item| match item {
            Item::Entry(entry) => entry,
            Item::Complaint(text) => panic!("{text}"),
        });
        let entries: Vec<_> = entries.collect();
        let all = entries.iter().flat_map(|entry| entry.data.clone()).collect();
        (entries.iter().map(|entry| (entry.time, entry.data.len(), entry.begins)).collect(), all)
    }

    #[test]
    fn what_a_program_left_without_a_line_end_is_an_entry_of_its_own() {
        let pieces = [format!("{T1}a\r\n"), format!("{T2}prompt $ "), format!("{T3}b\r\n")];
        let pieces: Vec<_> = pieces.iter().map(String::as_bytes).collect();
        let (entries, all) = read(&mut Decoder::new(true), &pieces);
        assert_eq!(entries, [(nanos(T1), 3, true), (nanos(T2), 9, true), (nanos(T3), 3, true)]);
        assert_eq!(all, b"a\r\nprompt $ b\r\n");
    }

    #[test]
    fn a_timestamp_that_a_node_prints_stays_where_it_is() {
        let line = format!("{T2}said {T3}myself\r\n");
        let (entries, all) = read(&mut Decoder::new(true), &[format!("{T1}{line}").as_bytes()]);
        assert_eq!(entries, [(nanos(T1), line.len(), true)]);
        assert_eq!(all, line.as_bytes());
    }

    #[test]
    fn entries_may_be_cut_anywhere_by_the_connection() {
        let text = format!("{T1}first\n{T2}\n{T3}third\n");
        for cut in 0..text.len() {
            let (one, other) = text.as_bytes().split_at(cut);
            let (entries, all) = read(&mut Decoder::new(true), &[one, other]);
            assert_eq!(entries, [(nanos(T1), 6, true), (nanos(T2), 1, true), (nanos(T3), 6, true)], "cut at {cut}");
            assert_eq!(all, b"first\n\nthird\n");
        }
    }

    #[test]
    fn pieces_of_a_long_line_are_entries_of_one_time() {
        let long = "x".repeat(CUT);
        let pieces = [format!("{T1}{long}"), format!("{T1}{long}"), format!("{T1}end\n"), format!("{T2}y\n")];
        let text = pieces.concat();
        for size in [1, 7, 4096, CUT, CUT + STAMP - 5, text.len()] {
            let cut: Vec<&[u8]> = pieces.iter().flat_map(|piece| piece.as_bytes().chunks(size)).collect();
            let (entries, all) = read(&mut Decoder::new(true), &cut);
            let expected = [(nanos(T1), CUT, true), (nanos(T1), CUT, true), (nanos(T1), 4, true), (nanos(T2), 2, true)];
            assert_eq!(entries, expected, "in pieces of {size}");
            assert_eq!(all.len(), 2 * CUT + 6);
        }
    }

    #[test]
    fn a_line_that_an_engine_does_not_cut_is_one_entry_however_long() {
        let line = "x".repeat(200_000) + "\n";
        let (entries, all) = read(&mut Decoder::new(true), &[format!("{T1}{line}{T2}y\n").as_bytes()]);
        assert_eq!(all.len(), line.len() + 2);
        assert_eq!(entries.iter().filter(|(_, _, begins)| *begins).count(), 2);
        assert!(entries.iter().all(|(_, length, _)| *length <= HELD + CUT));
    }

    #[test]
    fn multiplexed_entries_know_their_output() {
        let entry = |kind: u8, text: String| {
            let length = u32::try_from(text.len()).expect("is short").to_be_bytes();
            [&[kind, 0, 0, 0], &length[..], text.as_bytes()].concat()
        };
        let text = [entry(1, format!("{T1}out\n")), entry(2, format!("{T2}err\n")), entry(3, "broke".into())].concat();
        for size in [1, 5, text.len()] {
            let mut items = Vec::new();
            let mut decoder = Decoder::new(false);
            text.chunks(size).for_each(|piece| decoder.piece(piece, &mut items).expect("is well formed"));
            let part = |output, time, data: &'static str| {
                Item::Entry(Entry { output, time, data: data.into(), begins: true, ends: true })
            };
            let expected = [part(Output::Out, nanos(T1), "out\n"), part(Output::Err, nanos(T2), "err\n")];
            assert_eq!(items[..2], expected);
            assert_eq!(items[2], Item::Complaint("broke".into()));
        }
        assert!(Decoder::new(false).piece(b"GET / HTTP", &mut Vec::new()).is_err());
    }

    #[test]
    fn what_the_engine_complains_of_is_no_part_of_the_log() {
        let mut items = Vec::new();
        Decoder::new(true).piece(b"error from daemon in stream\n", &mut items).expect("is well formed");
        assert_eq!(items, [Item::Complaint("error from daemon in stream".into())]);
    }
}
