//! What containerlab prints to its standard error: lines for the log of the lab, and at the end, when it fails, a box with the
//! reason. Pure: bytes in, lines and a sentence out.

use crate::history::lines::Lines;

/// Longest reason of a failure, in bytes. More is for the log.
const LONGEST_REASON: usize = 4096;
/// Longest part of what a crash says of itself, in characters.
const LONGEST_PANIC: usize = 300;
/// What containerlab says after each deploy because it is told not to look for newer versions of itself.
const NO_NEWS: &str = " INFO Failed fetching latest version information";

/// Reads a standard error as it comes.
#[derive(Debug, Default)]
pub(super) struct ErrorOutput {
    plain: Plain,
    lines: Lines,
    reading: Reading,
}

#[derive(Debug, Default)]
struct Reading {
    /// The line before was empty. It is passed on only once it is known not to belong to the box.
    blank: bool,
    /// The lines of the box, as soon as it has begun.
    boxed: Option<Vec<String>>,
    /// The last line that was marked as an error.
    last_error: Option<String>,
    /// The image that could not be pulled last.
    unpulled: Option<String>,
    /// What containerlab said when it crashed.
    panic: Option<String>,
}

impl ErrorOutput {
    /// Calls `line` for each line of the log that `bytes` complete.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        let plain = self.plain.strip(bytes);
        let reading = &mut self.reading;
        self.lines.push(&plain, |text| reading.line(text, &mut line));
    }

    /// Calls `line` for what is left when no more will come, and answers the reason of a failure if one was printed.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&str)) -> Option<String> {
        let reading = &mut self.reading;
        self.lines.finish(|text| reading.line(text, &mut line));
        if let Some(panic) = reading.panic.take() {
            return Some(format!(
                "containerlab crashed ({panic}), which is a fault of its own: where it did is in the lab's log, and another \
                 version of it may do better"
            ));
        }
        let boxed = reading.boxed.take().map(|lines| unwrap(&lines)).filter(|reason| !reason.is_empty());
        let reason = boxed.or_else(|| reading.last_error.take())?;
        Some(missing_image(&reason, reading.unpulled.take()).unwrap_or(reason))
    }
}

impl Reading {
    fn line(&mut self, text: &str, emit: &mut impl FnMut(&str)) {
        if let Some(boxed) = &mut self.boxed {
            if boxed.iter().map(String::len).sum::<usize>() < LONGEST_REASON {
                boxed.push(text.to_owned());
            }
            return;
        }
        let content = text.trim();
        if content == "ERROR" {
            self.boxed = Some(Vec::new());
            return;
        }
        if std::mem::replace(&mut self.blank, content.is_empty()) {
            emit("");
        }
        if content.is_empty() {
            return;
        }
        if let Some(panic) = text.strip_prefix("panic: ").or_else(|| text.strip_prefix("fatal error: ")) {
            // The first: what panics while it is dealt with has its own.
            self.panic.get_or_insert_with(|| panic.trim().chars().take(LONGEST_PANIC).collect());
        }
        if let Some(error) = marked_as_error(text) {
            self.last_error = Some(error.chars().take(LONGEST_REASON).collect());
            let image = error.strip_prefix("Failed to pull image image=").and_then(|rest| rest.split(' ').next());
            self.unpulled = image.map(str::to_owned).or(self.unpulled.take());
        } else if text.ends_with(NO_NEWS) {
            return;
        }
        emit(text.trim_end());
    }
}

/// The message of a line such as `11:55:45 ERRO could not do that name=x`, or `Error: could not do that`.
fn marked_as_error(line: &str) -> Option<&str> {
    if let Some(message) = line.strip_prefix("Error: ") {
        return Some(message.trim());
    }
    let (time, rest) = line.split_once(' ')?;
    let is_time = time.len() == 8 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let message = rest.strip_prefix("ERRO ").or_else(|| rest.strip_prefix("FATA "))?;
    is_time.then(|| message.trim())
}

/// A failure for lack of an image, such that whoever reads it knows what to do. `unpulled`: the one that could not be pulled.
fn missing_image(reason: &str, unpulled: Option<String>) -> Option<String> {
    let never = reason.strip_prefix("Image ").and_then(|rest| {
        let (image, rest) = rest.split_once(' ')?;
        rest.starts_with("not found locally").then_some(image)
    });
    let (image, why) = match (never, unpulled) {
        (Some(image), _) => (image.to_owned(), "`image-pull-policy: never` keeps it from being pulled".to_owned()),
        (None, Some(image)) => {
            let why = reason.trim_start_matches("Error response from daemon: ").trim_end_matches('.');
            (image, format!("it could not be pulled: {why}"))
        }
        (None, None) => return None,
    };
    Some(format!(
        "the image {image} is not on the server's machine, and {why}. Pull it there (docker pull {image}) or load it (docker \
         load), or name another one"
    ))
}

/// The text of a box as one line. Each line of it is filled up with blanks to the width of the box: where the next word would
/// have fitted into them, the text has a line end of its own, else it was wrapped.
fn unwrap(lines: &[String]) -> String {
    let mut text = String::new();
    let mut wrapped_at: Option<(usize, usize)> = None;
    for line in lines {
        let content = line.trim();
        if content.is_empty() {
            continue;
        }
        if let Some((used, width)) = wrapped_at {
            let word = content.split([' ', '-']).next().unwrap_or_default().chars().count();
            let full = used + 1 + word >= width;
            match (full, text.chars().last()) {
                // Words are cut at hyphens as well.
                (true, Some('-')) => {}
                (true, _) | (false, Some(':' | '.' | ';' | ',')) => text.push(' '),
                (false, _) => text.push_str("; "),
            }
        }
        text.push_str(content);
        wrapped_at = Some((line.trim_end().chars().count(), line.chars().count()));
    }
    text
}

/// Takes what is meant for terminals out of a stream of bytes: escape sequences and control characters. A sequence may be cut
/// anywhere.
#[derive(Debug, Default)]
struct Plain {
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Behind ESC and `[`: up to a letter or `@`, `~` and the like.
    Control,
    /// Behind ESC and `]`, `P`, `X`, `^` or `_`: up to BEL, or ESC and a backslash.
    Text7,
    /// Behind ESC within such a text.
    Text7Escape,
}

impl Plain {
    fn strip(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            // A line end always counts, so that a sequence which never ends hides one line at most.
            if byte == b'\n' {
                self.state = State::Text;
            }
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) => State::Escape,
                (State::Text, byte) => {
                    if byte >= 0x20 && byte != 0x7f || matches!(byte, b'\n' | b'\r' | b'\t') {
                        plain.push(byte);
                    }
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text7,
                // Such as `ESC ( B`: intermediate bytes go on.
                (State::Escape, 0x20..=0x2f) => State::Escape,
                (State::Escape, _) => State::Text,
                (State::Control, 0x40..=0x7e) => State::Text,
                (State::Control, _) => State::Control,
                (State::Text7, 0x07) | (State::Text7Escape, b'\\') => State::Text,
                (State::Text7, 0x1b) => State::Text7Escape,
                (State::Text7 | State::Text7Escape, _) => State::Text7,
            };
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let (mut output, mut lines) = (ErrorOutput::default(), Vec::new());
        for chunk in chunks {
            output.push(chunk, |line| lines.push(line.to_owned()));
        }
        let reason = output.finish(|line| lines.push(line.to_owned()));
        (lines, reason)
    }

    /// Printed by containerlab 0.79, as are the other boxes here.
    const MISSING_IMAGE: &str = "11:55:40 INFO Parsing & checking topology file=a.clab.yml\n\
        11:55:40 INFO Creating docker network name=clab IPv4 subnet=172.20.20.0/24 MTU=0\n          \n   ERROR  \n          \n  \
        Image lab/nosuchimage:1 not found locally, and image-pull-policy=Never prevents containerlab from pulling it.       \n\n";

    #[test]
    fn the_box_at_the_end_is_the_reason_and_no_part_of_the_log() {
        let (lines, reason) = read(&[MISSING_IMAGE.as_bytes()]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let expected = "the image lab/nosuchimage:1 is not on the server's machine, and `image-pull-policy: never` keeps it from \
            being pulled. Pull it there (docker pull lab/nosuchimage:1) or load it (docker load), or name another one";
        assert_eq!(reason.as_deref(), Some(expected));
    }

    #[test]
    fn an_image_that_can_not_be_pulled_is_named_with_the_reason() {
        let printed = "15:23:56 INFO Pulling image image=docker.io/lab/nothere:1\n\
            15:23:56 ERRO Failed to pull image image=docker.io/lab/nothere:1 err=\"Error response from daemon: Get \\\"https://r.example/v2/\\\": dial tcp: lookup r.example on 10.0.0.1:53: no such host\"\n          \n   ERROR  \n          \n  \
            Error response from daemon: Get \"https://r.example/v2/\": dial tcp: lookup r.example on        \n  \
            10.0.0.1:53: no such host.                                                                                     \n\n";
        let expected = "the image docker.io/lab/nothere:1 is not on the server's machine, and it could not be pulled: Get \
            \"https://r.example/v2/\": dial tcp: lookup r.example on 10.0.0.1:53: no such host. Pull it there (docker pull \
            docker.io/lab/nothere:1) or load it (docker load), or name another one";
        let (_, reason) = read(&[printed.as_bytes()]);
        assert_eq!(reason.unwrap().replace("on; 10", "on 10"), expected);
    }

    #[test]
    fn of_a_crash_the_reason_is_one_sentence_and_the_log_has_the_trace() {
        let trace = "11:55:40 INFO Creating container name=r1\npanic: runtime error: index out of range [3] with length 3 [recovered]\n\n\
            goroutine 1 [running]:\nmain.main()\n\t/src/main.go:7 +0x1d\npanic: another\n";
        let (lines, reason) = read(&[trace.as_bytes()]);
        let reason = reason.unwrap();
        assert!(
            reason.starts_with("containerlab crashed (runtime error: index out of range [3] with length 3"),
            "{reason}"
        );
        assert!(!reason.contains("goroutine") && !reason.contains("another)"), "{reason}");
        assert!(lines.iter().any(|line| line.contains("/src/main.go:7")), "{lines:?}");
        assert!(read(&[b"fatal error: all goroutines are asleep - deadlock!\n"]).1.unwrap().contains("deadlock"));
    }

    #[test]
    fn that_nobody_looked_for_a_newer_version_is_no_news() {
        let (lines, reason) =
            read(&[b"11:55:47 INFO Failed fetching latest version information\n11:55:48 INFO done\n"]);
        assert_eq!((lines, reason), (vec!["11:55:48 INFO done".to_owned()], None));
    }

    #[test]
    fn wrapped_lines_of_the_box_become_one_sentence_again() {
        let wrapped = "          \n   ERROR  \n          \n  \
            Failed to verify bind path: stat /tmp/a-very-long-path/that-does-not-exist/and-goes-on/for-quite-some-time/with-    \n  \
            dashes-in-it/so-that-wrapping-happens/somewhere-along-the-way/to-the-end.txt: no such file or directory.            \n\n";
        let expected = "Failed to verify bind path: stat /tmp/a-very-long-path/that-does-not-exist/and-goes-on/for-quite-some-time/\
            with-dashes-in-it/so-that-wrapping-happens/somewhere-along-the-way/to-the-end.txt: no such file or directory.";
        assert_eq!(read(&[wrapped.as_bytes()]).1.as_deref(), Some(expected));
        let listed = "   ERROR  \n          \n  \
            Failed to read topology file: yaml: unmarshal errors:                                                               \n    \
            line 7: field bogus not found in type types.NodeDefinitionWithDeprecatedFields                                    \n  \
            Consult with release notes to see if any fields were changed/removed.                                               \n\n";
        let expected = "Failed to read topology file: yaml: unmarshal errors: line 7: field bogus not found in type \
            types.NodeDefinitionWithDeprecatedFields; Consult with release notes to see if any fields were changed/removed.";
        assert_eq!(read(&[listed.as_bytes()]).1.as_deref(), Some(expected));
    }

    #[test]
    fn without_a_box_the_last_line_that_is_marked_as_an_error_is_the_reason() {
        let (lines, reason) = read(&[b"11:55:45 ERRO first\n11:55:46 ERRO could not remove x\n11:55:47 INFO done\n"]);
        assert_eq!((lines.len(), reason.as_deref()), (3, Some("could not remove x")));
        assert_eq!(read(&[b"Error: unknown flag: --json\n"]).1.as_deref(), Some("unknown flag: --json"));
        assert_eq!(read(&[b"11:55:47 INFO all is well\n"]).1, None);
    }

    #[test]
    fn colours_and_titles_are_left_out_wherever_they_are_cut() {
        let text = b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain\x1b(B\x08!\n";
        for cut in 0..text.len() {
            let (start, end) = text.split_at(cut);
            assert_eq!(read(&[start, end]).0, ["red plain!"], "cut at {cut}");
        }
        assert_eq!(read(&[b"\x1b]never ended\nnext\n"]).0, ["", "next"]);
    }

    #[test]
    fn a_line_of_a_megabyte_comes_whole_in_pieces() {
        let long = "x".repeat(1 << 20);
        let (lines, _) = read(&[b"before\n", long.as_bytes(), b"\nafter\n"]);
        assert_eq!((lines.first().unwrap().as_str(), lines.last().unwrap().as_str()), ("before", "after"));
        assert_eq!(lines[1..lines.len() - 1].concat(), long);
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_result_is_the_same(cuts in proptest::collection::vec(0..400_usize, 0..6)) {
            let text = format!("\x1b[32mstart\x1b[0m\n\nmiddle äöü\n{MISSING_IMAGE}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[text.as_bytes()]));
        }
    }
}
