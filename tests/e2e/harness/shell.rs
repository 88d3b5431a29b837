//! A shell in a node, as somebody has it who types one line after the other.

use super::{Client, Lines};

/// A terminal that is typed into line by line.
pub(crate) struct Shell {
    pub(crate) id: String,
    pub(crate) terminal: Lines,
    lines: u32,
}

impl Shell {
    /// Opens one in a node.
    pub(crate) async fn open(client: &Client, lab: &str, node: &str) -> Self {
        let id = client.open_shell(lab, node).await;
        let terminal = Lines::of(client.join(&format!("/shells/{id}")).await);
        Self { id, terminal, lines: 0 }
    }

    /// Runs a command line; answers its exit status and what it printed.
    pub(crate) async fn run(&mut self, line: &str) -> (i32, String) {
        self.lines += 1;
        let number = self.lines;
        // The quotes keep the echo of what is typed from looking like what it prints.
        let typed = format!("echo \"begin\"-{number}-; {line}; echo \"end\"-{number}-$?-\r");
        self.terminal.namespace().emit("data", typed).await.unwrap();
        let (begin, end) = (format!("begin-{number}-\r\n"), format!("end-{number}-"));
        self.terminal.until(&end).await;
        loop {
            let text = self.terminal.text();
            let (printed, rest) = text.split_once(&begin).and_then(|(_, text)| text.split_once(&end)).unwrap();
            if let Some((status, _)) = rest.split_once('-') {
                return (status.parse().unwrap(), printed.trim().replace("\r\n", "\n"));
            }
            assert!(self.terminal.read().await, "the terminal ended in the middle of a line");
        }
    }

    /// Runs a command line that has to succeed; answers what it printed.
    pub(crate) async fn succeeds(&mut self, line: &str) -> String {
        let (status, printed) = self.run(line).await;
        assert_eq!(status, 0, "`{line}` failed: {printed}");
        printed
    }

    /// Runs a command line that has to fail; answers what it printed.
    pub(crate) async fn fails(&mut self, line: &str) -> String {
        let (status, printed) = self.run(line).await;
        assert_ne!(status, 0, "`{line}` worked: {printed}");
        printed
    }
}
