//! A person at the terminal of a shell, who types line by line and reads what comes.

use super::{Client, Lines};

/// A terminal that is typed into line by line.
pub(crate) struct Screen {
    pub(crate) terminal: Lines,
    pub(crate) id: String,
    lines: u32,
}

impl Screen {
    /// Opens a shell.
    pub(crate) async fn open(client: &Client, lab: &str, node: &str) -> Self {
        let id = client.open_shell(lab, node).await;
        Self { terminal: Lines::of(client.join(&format!("/shells/{id}")).await), id, lines: 0 }
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

    /// Runs one that has to work; answers what it printed.
    pub(crate) async fn succeeds(&mut self, line: &str) -> String {
        let (status, printed) = self.run(line).await;
        assert_eq!(status, 0, "`{line}` failed: {printed}");
        printed
    }

    /// Runs one that has to fail; answers what it printed.
    pub(crate) async fn fails(&mut self, line: &str) -> String {
        let (status, printed) = self.run(line).await;
        assert_ne!(status, 0, "`{line}` worked: {printed}");
        printed
    }
}
