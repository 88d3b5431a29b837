//! What an earlier server has written of a history: read once, when the history is opened, and made into what it was.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::place::put_aside;
use super::segments::{Open, Segment, Segments, weight};
use crate::history::lines::Line;
use crate::history::marks::{Mark, Marks};
use crate::history::{Entry, History, Retention};

/// What was found on disk, oldest first.
#[derive(Default)]
pub(super) struct Kept(Vec<KeptSegment>);

struct KeptSegment {
    segment: Segment,
    lines: Vec<Line>,
    /// Bytes of the file up to where a line or a mark was half written.
    end: usize,
    /// The last mark in it.
    mark: Option<Mark>,
}

impl KeptSegment {
    fn parse(segment: Segment, bytes: &[u8]) -> Self {
        // What comes after the last line end was being written when the server was killed.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut kept = Self { segment, lines: Vec::new(), end, mark: None };
        for piece in bytes[..end].split_inclusive(|byte| *byte == b'\n') {
            let text = &piece[..piece.len() - 1];
            if let Some(mark) = Mark::read(text) {
                kept.mark = mark.or(kept.mark);
            } else {
                kept.lines.push(Line::from(&*String::from_utf8_lossy(text)));
            }
        }
        kept
    }
}

/// Lines that follow each other without a gap.
struct Run {
    begin: Segment,
    lines: Vec<Line>,
}

impl Kept {
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            found.extend(entry?.file_name().to_str().and_then(Segment::parse));
        }
        found.sort();
        let mut kept = Vec::new();
        for segment in found {
            let path = dir.join(segment.file_name());
            match fs::read(&path) {
                Ok(bytes) => kept.push(KeptSegment::parse(segment, &bytes)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a part of a log can't be read and is put aside");
                    put_aside(&path)?;
                }
            }
        }
        Ok(Self(kept))
    }

    /// The history, and what goes on writing it.
    pub(super) fn restore(self, dir: &Path, retention: Retention) -> (History<Line>, Segments) {
        let mark = self.0.iter().rev().find_map(|kept| kept.mark.clone());
        let mut segments = Segments {
            dir: dir.to_owned(),
            retention,
            latest: VecDeque::new(),
            open: None,
            passed: 0,
            marks: Arc::new(Marks::restored(mark.clone())),
            mark,
            held: None,
            unmarked: 0,
            failing: false,
        };
        segments.latest =
            self.0.iter().map(|kept| kept.segment).filter(|segment| !segments.is_beginning(*segment)).collect();
        let last =
            self.0.last().map(|kept| Open { segment: kept.segment, size: kept.end, has_lines: !kept.lines.is_empty() });
        let mut runs: Vec<Run> = Vec::new();
        for KeptSegment { segment, lines, .. } in self.0 {
            match runs.last_mut() {
                Some(run) if run.begin.first + run.lines.len() as u64 == segment.first => run.lines.extend(lines),
                _ => runs.push(Run { begin: segment, lines }),
            }
        }
        let latest = runs.pop().unwrap_or(Run { begin: Segment { first: 0, passed: 0 }, lines: Vec::new() });
        segments.passed = latest.begin.passed + weight(&latest.lines);
        if let Some(open) = last
            && let Err(error) = segments.resume(open)
        {
            tracing::error!(dir = %dir.display(), %error, "a log can't be gone on with; another file is begun");
        }
        let beginning =
            runs.into_iter().next().filter(|run| run.begin.first == 0).map_or_else(Vec::new, |run| run.lines);
        let beginning = within(beginning, retention.first);
        let missing = (
            latest.begin.first.saturating_sub(beginning.len() as u64),
            latest.begin.passed.saturating_sub(weight(&beginning)),
        );
        (History::restored(retention, beginning, missing, latest.lines), segments)
    }
}

/// The first lines that together weigh no more than `limit`.
fn within(mut lines: Vec<Line>, limit: usize) -> Vec<Line> {
    let mut sum = 0;
    let fit = lines.iter().take_while(|line| {
        sum += line.weight();
        sum <= limit
    });
    let fit = fit.count();
    lines.truncate(fit);
    lines
}
