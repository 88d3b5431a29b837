//! The archive as a whole: what is written, cut where a server may be killed, and read again.

use std::fs::File;
use std::io::Write;

use super::segments::{BATCH, Segment, UNMARKED};
use super::*;
use crate::history::FollowEnd;

const RETENTION: Retention = Retention { first: 200, latest: 400, behind: 4000 };

fn texts(history: &Arc<History<Line>>) -> Vec<String> {
    history.follow().0.iter().map(|line| line.text().to_owned()).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:04}")).collect()
}

async fn append(dir: &Path, range: std::ops::Range<usize>) {
    let archive = Archive::new(dir.to_owned(), RETENTION);
    let log = archive.open(&["lab", "a/b"]).await;
    for line in numbers(range) {
        log.history().append(Line::from(&*line));
    }
    archive.close().await;
}

async fn backlog(dir: &Path) -> Vec<String> {
    let archive = Archive::new(dir.to_owned(), RETENTION);
    let backlog = texts(archive.open(&["lab", "a/b"]).await.history());
    archive.close().await;
    backlog
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(backlog(dir.path()).await.is_empty());
    append(dir.path(), 0..3).await;
    append(dir.path(), 3..5).await;
    assert_eq!(backlog(dir.path()).await, numbers(0..5));
    let archive = Archive::new(dir.path().to_owned(), RETENTION);
    assert!(archive.has(&["lab", "a/b"]) && !archive.has(&["lab", "c"]));
    assert_eq!(archive.names(&["lab"]), ["a/b"]);
    archive.open(&["lab", "a/b"]).await.remove().await;
    assert!(!archive.has(&["lab", "a/b"]));
}

#[tokio::test]
async fn the_first_and_the_latest_lines_are_kept_and_a_mark_says_how_many_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    // Each weighs 20: 10 of the first and 20 of the latest stay.
    for part in 0..10 {
        append(dir.path(), part * 100..(part + 1) * 100).await;
    }
    let expected = |backlog: Vec<String>| {
        let mark = backlog.iter().position(|line| line.starts_with('[')).expect("a mark");
        assert_eq!(backlog[..mark], numbers(0..mark), "{backlog:?}");
        let latest = &backlog[mark + 1..];
        assert_eq!(latest, numbers(1000 - latest.len()..1000), "{backlog:?}");
        assert_eq!(backlog[mark], format!("[{} lines are left out here: about 19 KiB]", 1000 - backlog.len() + 1));
        (mark, latest.len())
    };
    assert_eq!(expected(backlog(dir.path()).await), (10, 20));
    let on_disk: u64 = fs::read_dir(dir.path().join("lab/a%2fb"))
        .expect("is there")
        .map(|file| file.expect("is there").metadata().expect("is there").len())
        .sum();
    assert!(on_disk <= 1000, "{on_disk}");
}

#[tokio::test]
async fn a_line_that_was_half_written_is_as_if_it_had_never_come() {
    let dir = tempfile::tempdir().expect("a folder");
    append(dir.path(), 0..3).await;
    let segment = dir.path().join("lab/a%2fb").join(Segment { first: 0, passed: 0 }.file_name());
    File::options().append(true).open(&segment).and_then(|mut file| file.write_all(b"00")).expect("is there");
    append(dir.path(), 3..5).await;
    assert_eq!(backlog(dir.path()).await, numbers(0..5));
}

/// A source that writes numbers and gives out positions every third line; it is read as far as `end`.
fn read_on(log: &Archived, source: &str, end: u64) {
    let Resume { after, skip } = log.resume(source);
    let begin: u64 = after.map_or(0, |after| after.as_str().parse().expect("a number"));
    for number in begin..end {
        if number >= begin + skip {
            log.history().append(Line::from(&*format!("{source}{number:04}")));
        }
        if number % 3 == 2 && number >= begin + skip {
            log.reached(LogPosition::new(&(number + 1).to_string()));
        }
    }
}

/// The files in a folder, in the order in which they were written.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("is there").map(|entry| entry.expect("is there").path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(&path).expect("is there"))).collect();
    files.sort();
    files
}

/// Leaves the first bytes of these files of a folder, and no others.
fn cut(whole: &[(PathBuf, Vec<u8>)], mut left: usize) {
    let folder = whole[0].0.parent().expect("it is in one");
    fs::remove_dir_all(folder).and_then(|()| fs::create_dir(folder)).expect("done");
    for (path, bytes) in whole {
        match bytes.len().min(left) {
            0 => {}
            size => fs::write(path, &bytes[..size]).expect("written"),
        }
        left = left.saturating_sub(bytes.len());
    }
}

#[test]
fn what_comes_line_by_line_costs_few_marks_and_can_be_gone_on_with_wherever_it_was_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let retention = Retention { first: 200, latest: 100_000, behind: 100_000 };
    let (_, mut segments) = Kept::default().restore(dir.path(), retention);
    let marks = Arc::clone(&segments.marks);
    marks.resume("a", 0);
    for number in 0..100 {
        segments.write(number, &[Line::from("tick")]);
        marks.reached(number + 1, LogPosition::new(&(number + 1).to_string()));
    }
    let marked =
        |files: &[(PathBuf, Vec<u8>)]| files.iter().flat_map(|(_, bytes)| bytes).filter(|byte| **byte == 0xff).count();
    let whole = files(dir.path());
    assert!(marked(&whole) <= 100 * 5 / UNMARKED + whole.len(), "{} marks", marked(&whole));
    let resume = |count: u64| {
        let Resume { after, skip } = marks_of(dir.path(), retention).resume("a", count);
        after.map_or(0, |after| after.as_str().parse::<u64>().expect("a number")) + skip
    };
    for killed in 0..=whole.iter().map(|(_, bytes)| bytes.len()).sum() {
        cut(&whole, killed);
        let count = Kept::read(dir.path()).expect("is there").restore(dir.path(), retention).0.count();
        assert_eq!(resume(count), count, "killed after {killed} bytes");
    }
    // What was held back is written in the end.
    cut(&whole, usize::MAX);
    segments.finish(100);
    let last = marks_of(dir.path(), retention).resume("a", 100);
    assert_eq!(last, Resume { after: Some(LogPosition::new("100")), skip: 0 });
}

fn marks_of(dir: &Path, retention: Retention) -> Arc<Marks> {
    Kept::read(dir).expect("is there").restore(dir, retention).1.marks
}

#[test]
fn a_source_that_begins_while_nothing_can_be_written_is_known_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = dir.path().join("log");
    let (_, mut segments) = Kept::default().restore(&place, RETENTION);
    let marks = Arc::clone(&segments.marks);
    marks.resume("a", 0);
    segments.write(0, &[Line::from("a0")]);
    let aside = dir.path().join("aside");
    fs::rename(&place, &aside).and_then(|()| fs::write(&place, "in the way")).expect("done");
    marks.resume("b", 1);
    marks.reached(2, LogPosition::new("p"));
    segments.write(1, &[Line::from("b0"), Line::from("b1")]);
    assert!(segments.failing);
    fs::remove_file(&place).and_then(|()| fs::rename(&aside, &place)).expect("done");
    segments.write(3, &[Line::from("b2")]);
    assert!(!segments.failing);
    let last = marks_of(&place, RETENTION).resume("b", 4);
    assert_eq!(last, Resume { after: Some(LogPosition::new("p")), skip: 2 });
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_is_no_history() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("lab")).expect("made");
    fs::write(dir.path().join("lab/a%2fb"), "no folder").expect("written");
    append(dir.path(), 0..3).await;
    let aside = |folder: &str| fs::read_dir(dir.path().join(folder)).expect("is there").next().expect("one");
    let kept = aside("lab/.unreadable").expect("is there").path();
    assert_eq!(fs::read_to_string(kept).expect("is there"), "no folder");
    assert_eq!(Archive::new(dir.path().to_owned(), RETENTION).names(&["lab"]), ["a/b"]);
    // A part of one, where the next lines would go.
    let segment = dir.path().join("lab/a%2fb").join(Segment { first: 3, passed: 60 }.file_name());
    fs::create_dir(&segment).and_then(|()| fs::write(segment.join("there"), "")).expect("made");
    append(dir.path(), 3..50).await;
    assert_eq!(backlog(dir.path()).await[..5], numbers(0..5));
    assert!(aside("lab/a%2fb/.unreadable").expect("is there").path().join("there").exists());
}

#[tokio::test]
async fn wherever_a_server_was_killed_no_line_is_missing_and_none_comes_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = async || {
        // Two files, and all of it in memory.
        let retention = Retention { first: 60, latest: 100_000, behind: 100_000 };
        let archive = Archive::new(dir.path().to_owned(), retention);
        let log = archive.open(&["lab", "a/b"]).await;
        (archive, log)
    };
    let (archive, log) = open().await;
    read_on(&log, "a", 10);
    log.insert(Line::from("[a note]"));
    // Far enough for it to be marked again, all in one.
    read_on(&log, "a", 14);
    read_on(&log, "b", 8);
    archive.close().await;
    let expected: Vec<String> = (0..10)
        .map(|number| format!("a{number:04}"))
        .chain(["[a note]".into()])
        .chain((10..14).map(|number| format!("a{number:04}")))
        .chain((0..8).map(|number| format!("b{number:04}")))
        .collect();
    let whole = files(&dir.path().join("lab/a%2fb"));
    let length: usize = whole.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(whole.len() > 1 && length > 200, "{} files, {length} bytes", whole.len());
    // As if the server had been killed after each byte that it wrote.
    for killed in 0..=length {
        cut(&whole, killed);
        let (archive, log) = open().await;
        let before = texts(log.history());
        assert_eq!(before, expected[..before.len()], "killed after {killed} bytes");
        // What the source wrote in the meantime comes too, and the note doesn't come again.
        let on_with = if before.len() >= 15 { "b" } else { "a" };
        read_on(&log, on_with, 16);
        let all: Vec<String> = texts(log.history()).into_iter().filter(|line| line.starts_with(on_with)).collect();
        let wanted: Vec<String> = (0..16).map(|number| format!("{on_with}{number:04}")).collect();
        assert_eq!(all, wanted, "killed after {killed} bytes");
        archive.close().await;
    }
}

#[tokio::test]
async fn the_last_mark_outlives_the_file_that_it_was_written_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let archive = Archive::new(dir.path().to_owned(), RETENTION);
    let log = archive.open(&["lab", "a/b"]).await;
    assert_eq!(log.resume("a"), Resume { after: None, skip: 0 });
    log.reached(LogPosition::new("p"));
    for line in numbers(0..1000) {
        log.history().append(Line::from(&*line));
    }
    archive.close().await;
    let archive = Archive::new(dir.path().to_owned(), RETENTION);
    let log = archive.open(&["lab", "a/b"]).await;
    assert_eq!(log.resume("a"), Resume { after: Some(LogPosition::new("p")), skip: 1000 });
    archive.close().await;
}

#[tokio::test]
async fn how_much_was_missed_is_counted_from_what_was_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (history, mut segments) = Kept::default().restore(dir.path(), RETENTION);
    let history = Arc::new(history);
    let mut follower = history.follow_aside();
    let append = |range| {
        for line in numbers(range) {
            history.append(Line::from(&*line));
        }
    };
    append(0..50);
    let lines = follower.next(BATCH).await.expect("they are there");
    segments.write(follower.position(), &lines);
    // All of them, and some more, are dropped before the writer can say that they are written.
    append(50..500);
    follower.advance(lines.len());
    assert!(matches!(follower.next(BATCH).await, Err(FollowEnd::FellBehind)));
    follower.skip_dropped();
    segments.missed_until(follower.passed());
    assert_eq!(segments.passed, follower.position() * 20, "each line weighs 20");
}

/// Killed when the note of a stranger was marked and not yet written, and once more when the source had written a line in its
/// place.
#[tokio::test]
async fn a_server_that_is_killed_twice_in_a_row_writes_no_line_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = async || {
        let archive =
            Archive::new(dir.path().to_owned(), Retention { first: 100_000, latest: 100_000, behind: 100_000 });
        let log = archive.open(&["lab", "a/b"]).await;
        (archive, log)
    };
    let (archive, log) = open().await;
    read_on(&log, "a", 10);
    log.insert(Line::from("[a note]"));
    archive.close().await;
    let folder = dir.path().join("lab/a%2fb");
    let first = files(&folder);
    let note = first[0].1.windows(8).position(|bytes| bytes == b"[a note]").expect("it was written");
    cut(&first, note);
    let (archive, log) = open().await;
    assert_eq!(log.history().count(), 10);
    read_on(&log, "a", 16);
    archive.close().await;
    let second = files(&folder);
    let length: usize = second.iter().map(|(_, bytes)| bytes.len()).sum();
    for killed in note..=length {
        cut(&second, killed);
        let (archive, log) = open().await;
        read_on(&log, "a", 20);
        let expected: Vec<String> = (0..20).map(|number| format!("a{number:04}")).collect();
        assert_eq!(texts(log.history()), expected, "killed after {killed} bytes");
        archive.close().await;
    }
}
