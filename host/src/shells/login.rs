//! What a shell runs in a node: the command line of the node's kind where it has one of its own, or else a Unix shell.

use std::collections::{BTreeMap, HashMap};

/// Commands to try, in order; each is a program and its arguments.
pub type Commands = Vec<Vec<String>>;

/// What is run in a node of which kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginCommands {
    by_kind: HashMap<String, Commands>,
    /// For all other kinds.
    others: Commands,
}

/// Kinds whose images have a command line of their own, under all names that containerlab has for them.
const OWN_COMMAND_LINE: [(&[&str], &str); 5] = [
    (&["nokia_srlinux", "srl"], "sr_cli"),
    (&["arista_ceos", "ceos"], "Cli"),
    (&["juniper_crpd", "crpd"], "cli"),
    (&["juniper_csrx"], "cli"),
    (&["cisco_xrd", "xrd", "cisco_xrd_vrouter"], "/pkg/bin/xr_cli.sh"),
];

impl Default for LoginCommands {
    fn default() -> Self {
        let one = |program: &str| vec![program.to_owned()];
        let others = vec![one("bash"), one("sh")];
        let own = |program: &str| [vec![one(program)], others.clone()].concat();
        let by_kind = OWN_COMMAND_LINE
            .iter()
            .flat_map(|(kinds, program)| kinds.iter().map(|kind| ((*kind).to_owned(), own(program))))
            .collect();
        Self { by_kind, others }
    }
}

impl LoginCommands {
    /// The defaults, but what `configured` says for the kinds that it names. A key `default` stands for all kinds that
    /// are named nowhere.
    pub fn with(configured: &HashMap<String, Commands>) -> Self {
        let mut commands = Self::default();
        for (kind, those) in configured {
            if kind == "default" {
                commands.others.clone_from(those);
            } else {
                commands.by_kind.insert(kind.clone(), those.clone());
            }
        }
        commands
    }

    /// All of them as command lines, by kind, and what all other kinds have under `default`: as an operator would write them.
    pub fn lines(&self) -> BTreeMap<&str, Vec<String>> {
        let lines = |commands: &Commands| commands.iter().map(shell_words::join).collect();
        let of_kinds = self.by_kind.iter().map(|(kind, commands)| (kind.as_str(), lines(commands)));
        of_kinds.chain([("default", lines(&self.others))]).collect()
    }

    /// What is tried in a node of this kind.
    pub fn of(&self, kind: &str) -> &Commands {
        self.by_kind.get(kind).unwrap_or(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_with_its_own_command_line_gets_that_and_a_shell_where_it_is_missing() {
        let commands = LoginCommands::default();
        assert_eq!(commands.of("srl").concat(), ["sr_cli", "bash", "sh"]);
        assert_eq!(commands.of("linux").concat(), ["bash", "sh"]);
    }

    #[test]
    fn what_is_configured_counts_for_the_kinds_that_it_names() {
        let sh = |words: &[&str]| vec![words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()];
        let configured = [("linux".to_owned(), sh(&["sh", "-l"])), ("default".to_owned(), sh(&["ash"]))].into();
        let commands = LoginCommands::with(&configured);
        assert_eq!(commands.of("linux"), &sh(&["sh", "-l"]));
        assert_eq!(commands.of("bridge"), &sh(&["ash"]));
        assert_eq!(commands.of("ceos").concat(), ["Cli", "bash", "sh"]);
    }
}
