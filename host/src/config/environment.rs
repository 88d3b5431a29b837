//! The variables of the environment that the server reads, and what is to be said about those of other Antimony servers.
//!
//! Whoever uses a variable reads it; this is the list of them for `config check` and for warnings.

use std::path::Path;

use super::Finding;
use super::{ENV_PASSWORD, ENV_USERNAME};

/// Where other Antimony servers find variables besides their environment.
pub const ENV_FILE: &str = ".env";
/// What the names of variables of Antimony servers begin with.
const PREFIX: &str = "SB_";

/// A variable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// The key of the file that it counts more than.
    pub(super) key: Option<&'static str>,
    /// Whether its value is not for everybody's eyes.
    pub(super) secret: bool,
}

const fn variable(name: &'static str, key: Option<&'static str>, secret: bool) -> Variable {
    Variable { name, key, secret }
}

/// All that the server reads.
pub(super) const VARIABLES: &[Variable] = &[
    variable(ENV_USERNAME, None, false),
    variable(ENV_PASSWORD, None, true),
    variable("SB_OIDC_SECRET", Some("auth.openIdClientSecret"), true),
    variable("SB_DATABASE_PASSWORD", Some("database.password"), true),
    variable(crate::telemetry::ENV_FILTER, None, false),
    variable(crate::telemetry::ENV_LEVEL, None, false),
    variable("DOCKER_HOST", None, false),
];

/// Variables of other Antimony servers that mean nothing here, and what there is instead.
const MEAN_NOTHING: &[(&str, &str)] = &[
    (
        "SB_JWT_SECRET",
        "tokens are signed with a key that this server makes for itself and keeps in the data folder over restarts",
    ),
    ("SB_MODE", "there is no mode for development; how much is logged is said by ANTIMONY_LOG"),
];

/// What is to be said about the environment: variables of other servers that mean nothing here, those that nobody knows, and
/// a file of variables that other servers read by themselves. `names` are those of all variables that are set, and `dir` is
/// the folder that the server is started in.
pub fn environment_findings(names: impl Iterator<Item = String>, dir: &Path) -> Vec<Finding> {
    let names: Vec<String> = names.filter(|name| name.starts_with(PREFIX)).collect();
    let mut findings: Vec<Finding> = names.iter().filter_map(|name| finding(name)).collect();
    let text = std::fs::read_to_string(dir.join(ENV_FILE)).unwrap_or_default();
    let assigned = text.lines().filter_map(|line| line.trim().trim_start_matches("export ").split_once('='));
    let missing: Vec<&str> = assigned
        .map(|(name, _)| name.trim())
        .filter(|name| VARIABLES.iter().any(|known| known.name == *name && name.starts_with(PREFIX)))
        .filter(|name| !names.iter().any(|set| set == name))
        .collect();
    if !missing.is_empty() {
        let problem = format!(
            "it sets {} and isn't read by this server: start it after `set -a; . ./{ENV_FILE}; set +a`, or say so to \
             whatever starts it",
            missing.join(", ")
        );
        findings.push(Finding::new(None, ENV_FILE, problem));
    }
    findings
}

fn finding(name: &str) -> Option<Finding> {
    if VARIABLES.iter().any(|known| known.name == name) {
        return None;
    }
    let problem = match MEAN_NOTHING.iter().find(|(known, _)| *known == name) {
        Some((_, instead)) => format!("it means nothing here: {instead}"),
        None => {
            let known = VARIABLES.iter().map(|known| known.name).filter(|known| known.starts_with(PREFIX));
            let nearest = known.max_by(|a, b| {
                let resemblance = |known| strsim::normalized_damerau_levenshtein(name, known);
                resemblance(a).total_cmp(&resemblance(b))
            });
            format!("nobody knows this variable, so it has no effect; is {} meant?", nearest.unwrap_or_default())
        }
    };
    Some(Finding::new(None, name, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_have_no_effect_are_named_with_what_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let said = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned());
            environment_findings(names, dir.path()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(said(&["SB_NATIVE_USERNAME", "SB_OIDC_SECRET", "SB_LOG_LEVEL", "PATH", "HOME"]).is_empty());
        let findings = said(&["SB_NATIVE_PASWORD", "SB_JWT_SECRET"]);
        assert!(
            findings[0].starts_with("SB_NATIVE_PASWORD") && findings[0].contains("SB_NATIVE_PASSWORD"),
            "{findings:?}"
        );
        assert!(findings[1].contains("data folder"), "{findings:?}");

        let text = "# secrets\nexport SB_NATIVE_USERNAME=ada\nSB_OIDC_SECRET = x\nPOSTGRES_PASSWORD=y\n";
        std::fs::write(dir.path().join(ENV_FILE), text).expect("written");
        let findings = said(&["SB_NATIVE_USERNAME"]);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("sets SB_OIDC_SECRET and"), "{findings:?}");
        assert!(!findings[0].contains("POSTGRES"), "{findings:?}");
    }
}
