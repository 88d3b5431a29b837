//! Keys that other Antimony servers have and that mean nothing to this one: they are taken, and a warning says what to do
//! instead.
//!
//! Antimony's backend has had them between its first release and the `config.default.yml` of 2026. Those of its keys that
//! mean something here are in the types of the configuration, like this server's own.

const CAPTURE: &str =
    "packets are captured over HTTP, where this server listens anyway: clients show the command for it";

/// Key, or section, and what there is instead.
pub(super) const MEAN_NOTHING: &[(&str, &str)] = &[
    ("capture.sshHost", CAPTURE),
    ("capture.sshPort", CAPTURE),
    ("capture.sshKeyPath", CAPTURE),
    ("ssh", "this server has no SSH server of its own: shells in nodes are opened by clients of its API"),
    ("streaming", "how much is kept of logs is said in bytes, by `logs.firstBytes` and `logs.latestBytes`"),
    ("storage", "say `fileSystem.storage`"),
    (
        "containerlab.kindsConfig",
        "what a shell in a node of some kind runs, an SSH login among it, is said by `shell.commands`",
    ),
];

/// Sections that other Antimony servers have as well, in this or a later version: what is unknown in them is a warning, so
/// that their files are good as they are. In all other sections, which only this server has, it is an error.
pub(super) const SHARED_SECTIONS: &[&str] =
    &["general", "deployment", "server", "auth", "shell", "capture", "database", "fileSystem", "containerlab"];

/// Keys, and a section, without which more people could get in than the file means to let in, or others could read along: by
/// passwords or as the administrator whom everybody knows, by groups of another claim, over connections without encryption.
/// One that is misspelt is an error wherever it stands. That nobody knows some other key in these sections is a warning.
pub(super) const NOT_TO_BE_MISSED: &[&str] = &[
    "auth",
    "auth.enableNative",
    "auth.usersFile",
    "auth.enableOpenId",
    "auth.openIdGroupsClaim",
    "capture",
    "capture.enabled",
    "capture.excludedInterfaces",
    "server.tls",
    "database.sslMode",
    "database.sslRootCert",
];

/// Other spellings of a section that are taken, and the one that counts.
pub(super) const ALIASES: &[(&str, &str)] = &[("filesystem", "fileSystem"), ("decisionLog", "decision-log")];
