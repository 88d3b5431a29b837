//! Cases that people write, and decisions that a server recorded: both are questions with the answers that are expected.
//!
//! A file of cases is YAML: a list of cases, or an object with `cases:` and, under `given:`, what they have in common (see
//! `given`). `plugins/auth-policy/cases.yml` shows all of it.
//!
//! ```yaml
//! given:
//!   lab: { creator: ada }
//! cases:
//!   - name: only the creator deploys
//!     function: authorize
//!     input: { user: { id: bob }, action: { command: { kind: deploy } } }
//!     expect: { outcome: deny, rule: creator-only, message-contains: creator }
//! ```

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::given::Given;
use super::input::{Function, Input};
use super::outcome::Outcome;
use super::{Line, Record};

/// The longest line of a log that is read, in bytes. An input has limits well below that.
const MAX_LINE: u64 = 64 << 20;

/// Why a file of cases or records can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// It can't be read.
    #[error("{0}: can't be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// It isn't YAML, or not a list of cases.
    #[error("{0}: {1}")]
    Invalid(PathBuf, String),
    /// Something is wrong with a case or a record.
    #[error("{0}: {1}")]
    At(Place, String),
}

/// Where a case or a record was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A question with the answer that is expected.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// Where it is written.
    pub place: Place,
    /// What is asked.
    pub input: Input,
    /// What the answer should be.
    pub expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CasesFile {
    #[serde(default)]
    given: Map<String, Value>,
    cases: Vec<Spanned<CaseText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: String,
    function: Function,
    #[serde(default)]
    input: Map<String, Value>,
    expect: Value,
}

/// Reads a file of cases.
///
/// # Errors
/// [`CasesError`], which names the file, the line of the case, and the field.
pub fn read_cases(path: &Path) -> Result<Vec<Case>, CasesError> {
    let text = std::fs::read_to_string(path).map_err(|error| CasesError::Unreadable(path.to_owned(), error))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Case>, CasesError> {
    let invalid = |error: serde_saphyr::Error| CasesError::Invalid(path.to_owned(), error.to_string());
    let is_list = serde_saphyr::from_str::<Value>(text).map_err(invalid)?.is_array();
    let file = if is_list {
        CasesFile { given: Map::new(), cases: serde_saphyr::from_str(text).map_err(invalid)? }
    } else {
        serde_saphyr::from_str(text).map_err(invalid)?
    };
    let given = Given::new(file.given).map_err(|problem| CasesError::Invalid(path.to_owned(), problem.to_string()))?;
    let cases = file.cases.into_iter().map(|spanned| {
        let place = Place { file: path.to_owned(), line: spanned.referenced.line() };
        let CaseText { name, function, input, expect } = spanned.value;
        let at = |problem: String| CasesError::At(place.clone(), format!("case \"{name}\": {problem}"));
        let input = Input::complete(function, &input, &given).map_err(|problem| at(problem.to_string()))?;
        let expect = Expect::read(function, expect).map_err(at)?;
        Ok(Case { name, place, input, expect })
    });
    cases.collect()
}

/// What an answer should be: its name, and what is said of its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect(Map<String, Value>);

impl Expect {
    /// Takes what a case has under `expect:`: the name of an outcome, or an object with it and some of its fields, where
    /// `message-contains` and its like stand for a part of a text.
    fn read(function: Function, expect: Value) -> Result<Self, String> {
        let expect = match expect {
            Value::String(name) => Map::from_iter([("outcome".to_owned(), Value::String(name))]),
            Value::Object(fields) => fields,
            _ => return Err("expect: has to be the name of an outcome, or an object with one".into()),
        };
        let outcomes: &[&str] = match function {
            Function::Validate => &["accept", "reject", "failed"],
            Function::Identify => &["identity", "left", "deny", "failed"],
            Function::Authorize => &["allow", "deny", "failed"],
            Function::Format => &["status", "left", "failed"],
        };
        let outcome = expect.get("outcome").and_then(Value::as_str).unwrap_or_default();
        if !outcomes.contains(&outcome) {
            return Err(format!("expect.outcome: of {function} it can be {}", outcomes.join(", ")));
        }
        let fields: &[&str] = match outcome {
            "deny" => &["rule", "message"],
            "reject" => &["code", "rule", "message"],
            "accept" => &["rewritten", "command"],
            "identity" => &["id", "admin", "collections"],
            "status" => &["source", "content", "log-content", "severity"],
            "failed" => &["kind", "message"],
            _ => &[],
        };
        for (key, value) in expect.iter().filter(|(key, _)| *key != "outcome") {
            let part = key.strip_suffix("-contains");
            if !fields.contains(&part.unwrap_or(key)) {
                let has = if fields.is_empty() { "nothing more".into() } else { fields.join(", ") };
                return Err(format!("expect.{key}: the outcome `{outcome}` has {has}"));
            }
            if part.is_some() && !value.is_string() {
                return Err(format!("expect.{key}: has to be a text"));
            }
        }
        Ok(Self(expect))
    }

    /// How an answer differs from what is expected; `None`: it doesn't.
    pub fn differs_from(&self, actual: &Outcome) -> Option<Difference> {
        let flat = actual.flat();
        let as_expected = self.0.iter().all(|(key, expected)| match key.strip_suffix("-contains") {
            None => flat.get(key).is_some_and(|actual| covers(actual, expected, key)),
            Some(key) => {
                let actual = flat.get(key).and_then(Value::as_str).unwrap_or_default();
                expected.as_str().is_some_and(|part| actual.contains(part))
            }
        });
        (!as_expected).then(|| Difference { expected: self.0.clone(), actual: flat })
    }
}

/// Whether a value is as expected, as far as that says anything: of an object, those fields count that are named.
fn covers(actual: &Value, expected: &Value, key: &str) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(key, expected)| covers(actual.get(key).unwrap_or(&Value::Null), expected, key))
        }
        // Its order means nothing, and the actual one is sorted.
        (Value::Array(actual), Value::Array(expected)) if key == "collections" => {
            actual.len() == expected.len() && expected.iter().all(|name| actual.contains(name))
        }
        _ => actual == expected,
    }
}

/// An answer that is not what was expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    expected: Map<String, Value>,
    actual: Map<String, Value>,
}

impl Difference {
    /// Between two answers, of which the first is as it should be.
    pub fn between(expected: &Outcome, actual: &Outcome) -> Option<Self> {
        (!expected.same(actual)).then(|| Self { expected: expected.flat(), actual: actual.flat() })
    }
}

impl fmt::Display for Difference {
    /// Line by line: `-` what was expected, `+` what came, and what both have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = ["outcome", "code", "rule", "kind", "message", "message-contains"];
        let all = self.expected.keys().chain(self.actual.keys()).map(String::as_str);
        let mut shown = Vec::new();
        for key in keys.into_iter().chain(all) {
            if shown.contains(&key) {
                continue;
            }
            shown.push(key);
            let (expected, actual) = (self.expected.get(key), self.actual.get(key));
            if let (Some(expected), Some(actual)) = (expected, actual)
                && covers(actual, expected, key)
            {
                writeln!(f, "    {key}: {}", text(actual))?;
                continue;
            }
            if let Some(expected) = expected {
                writeln!(f, "  - {key}: {}", text(expected))?;
            }
            if let Some(actual) = actual {
                writeln!(f, "  + {key}: {}", text(actual))?;
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// A recorded decision, and where it was found.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Where.
    pub place: Place,
    /// The decision.
    pub record: Record,
}

/// Reads a decision log, decision by decision. Ends at the first that is no decision; a last line that a crash has cut
/// short is left out.
///
/// # Errors
/// [`CasesError::Unreadable`], at once or with a line.
pub fn read_records(path: &Path) -> Result<ReadRecords, CasesError> {
    let file = File::open(path).map_err(|error| CasesError::Unreadable(path.to_owned(), error))?;
    Ok(ReadRecords {
        place: Place { file: path.to_owned(), line: 0 },
        file: BufReader::new(file),
        dropped: 0,
        done: false,
    })
}

/// The decisions of a log, one after the other.
#[derive(Debug)]
pub struct ReadRecords {
    place: Place,
    file: BufReader<File>,
    dropped: u64,
    done: bool,
}

impl ReadRecords {
    /// How many decisions the log says are missing, in what was read so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn read(&mut self) -> Result<Option<Recorded>, CasesError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut self.file, MAX_LINE);
            let read = limited.read_until(b'\n', &mut line);
            let length = read.map_err(|error| CasesError::Unreadable(self.place.file.clone(), error))?;
            if length == 0 {
                return Ok(None);
            }
            self.place.line += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            match read_line(&line) {
                Ok(Line::Decision(record)) => return Ok(Some(Recorded { place: self.place.clone(), record })),
                Ok(Line::Dropped { dropped, .. }) => self.dropped += dropped,
                // Written in part when the server or the machine died.
                Err(_) if line.last() != Some(&b'\n') => return Ok(None),
                Err(problem) => return Err(CasesError::At(self.place.clone(), problem)),
            }
        }
    }
}

/// Reads one line. Not through the untagged [`Line`], whose errors say nothing.
fn read_line(line: &[u8]) -> Result<Line, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("is not JSON: {error}"))?;
    let is_note = value.get("dropped").is_some();
    let error = |error: serde_json::Error| format!("is not a recorded decision: {error}");
    if is_note {
        serde_json::from_value(value).map_err(error)
    } else {
        serde_json::from_value(value).map(Line::Decision).map_err(error)
    }
}

impl Iterator for ReadRecords {
    type Item = Result<Recorded, CasesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
