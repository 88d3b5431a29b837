//! Holds every answer of the tests' servers to this process's requests against the OpenAPI document: the status has to be
//! there for that path and method, and the body as its schema says, to the code of a failure. A test in which something
//! else was seen fails when its server is dropped.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use antimony_host::client::{Exchange, watch_exchanges};
use antimony_host::http::openapi::DOCUMENT;
use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::Value;

/// Name under which the document is compiled; nothing is fetched from there.
const LOCATION: &str = "memory:///openapi";
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// A path and a method.
pub(crate) struct Operation {
    /// `GET /labs/{id}`
    pub(crate) name: String,
    /// In lower case.
    pub(crate) method: String,
    pub(crate) path: String,
    /// As in the document.
    pub(crate) json: Value,
    answers: HashMap<u16, Answer>,
}

/// What comes with a status.
struct Answer {
    content_type: Option<String>,
    schema: Option<SchemaIndex>,
    /// Of failures.
    codes: Vec<u64>,
}

struct Contract {
    schemas: Schemas,
    operations: Vec<Operation>,
    /// What any failure looks like.
    failure: SchemaIndex,
}

/// What was seen of one server.
#[derive(Default)]
struct Record {
    seen: BTreeSet<String>,
    violations: Vec<String>,
}

impl Contract {
    fn get() -> &'static Self {
        static CONTRACT: OnceLock<Contract> = OnceLock::new();
        CONTRACT.get_or_init(Self::read)
    }

    fn read() -> Self {
        let document: Value = serde_json::from_str(&DOCUMENT).expect("the document is JSON");
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.add_resource(LOCATION, document.clone()).expect("the document is a resource");
        let mut schemas = Schemas::new();
        let mut compile = |pointer: &str| {
            let location = format!("{LOCATION}#{pointer}");
            compiler.compile(&location, &mut schemas).unwrap_or_else(|error| panic!("{location}: {error:#}"))
        };
        let failure = compile("/components/schemas/Failure");
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for method in METHODS {
                let Some(json) = item.get(method) else { continue };
                let mut answers = HashMap::new();
                for (status, response) in json["responses"].as_object().expect("responses") {
                    let content = response["content"].as_object().and_then(|content| content.iter().next());
                    let schema = content.map(|(kind, _)| {
                        let escaped = |text: &str| text.replace('~', "~0").replace('/', "~1");
                        let (path, kind) = (escaped(path), escaped(kind));
                        // In a URL, the braces of a path are escaped as well.
                        let path = path.replace('{', "%7B").replace('}', "%7D");
                        compile(&format!("/paths/{path}/{method}/responses/{status}/content/{kind}/schema"))
                    });
                    let codes =
                        content.map(|(_, content)| &content["schema"]["allOf"][1]["properties"]["code"]["enum"]);
                    let codes =
                        codes.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64).collect();
                    let answer = Answer { content_type: content.map(|(kind, _)| kind.clone()), schema, codes };
                    answers.insert(status.parse().expect("a status"), answer);
                }
                let name = format!("{} {path}", method.to_uppercase());
                let (method, path) = (method.to_owned(), path.clone());
                operations.push(Operation { name, method, path, json: json.clone(), answers });
            }
        }
        Self { schemas, operations, failure }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let path = path.strip_prefix("/api").unwrap_or(path).split('?').next()?;
        let fits =
            |operation: &&Operation| operation.method.eq_ignore_ascii_case(method) && is_at(&operation.path, path);
        // Where a path with an id would do as well, the router takes the other.
        let mut found: Vec<_> = self.operations.iter().filter(fits).collect();
        found.sort_by_key(|operation| operation.path.contains('{'));
        found.first().copied()
    }

    /// Answers what was seen.
    fn check(&self, exchange: &Exchange<'_>) -> Result<Option<String>, String> {
        let body: Value = serde_json::from_str(exchange.body).unwrap_or(Value::from(exchange.body));
        let fits = |schema| self.schemas.validate(&body, schema).map_err(|error| format!("{error:#}"));
        let Some(operation) = self.operation(exchange.method, exchange.path) else {
            // Nothing of ours, such as the description of Socket.IO; what isn't there at all has a form, too.
            return if exchange.status == 200 { Ok(None) } else { fits(self.failure).map(|()| None) };
        };
        let name = &operation.name;
        let answer = operation.answers.get(&exchange.status);
        let answer = answer.ok_or_else(|| format!("{name} has no status {} in the document", exchange.status))?;
        if let Some(expected) = &answer.content_type
            && exchange.content_type.split(';').next() != Some(expected.as_str())
        {
            return Err(format!("{name} should be {expected} and is {:?}", exchange.content_type));
        }
        answer.schema.map_or(Ok(()), fits)?;
        Ok(Some(seen_as(name, exchange.status, body["code"].as_u64().filter(|_| exchange.status >= 400))))
    }
}

/// Whether a path is one of those that a path with names in braces stands for.
fn is_at(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(part, given)| part == given || part.starts_with('{'))
}

/// How an answer is listed: `GET /labs 200`, `POST /collections 400 2001`.
fn seen_as(operation: &str, status: u16, code: Option<u64>) -> String {
    code.map_or_else(|| format!("{operation} {status}"), |code| format!("{operation} {status} {code}"))
}

fn records() -> &'static Mutex<HashMap<String, Record>> {
    static RECORDS: OnceLock<Mutex<HashMap<String, Record>>> = OnceLock::new();
    RECORDS.get_or_init(Mutex::default)
}

/// Checks all answers of the server at `url` from now on.
pub(super) fn watch(url: &str) {
    Contract::get();
    records().lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned(), Record::default());
    watch_exchanges(take);
}

/// Ends that, and answers what there was that the document doesn't allow.
pub(super) fn violations(url: &str) -> Vec<String> {
    let record = records().lock().unwrap_or_else(PoisonError::into_inner).remove(url);
    record.map_or_else(Vec::new, |record| record.violations)
}

/// Each status, and each code of a failure, that the server at `url` has answered with so far.
pub(crate) fn seen(url: &str) -> BTreeSet<String> {
    let records = records().lock().unwrap_or_else(PoisonError::into_inner);
    records.get(url).map_or_else(BTreeSet::new, |record| record.seen.clone())
}

/// Each status, and each code of a failure, that the document has.
pub(crate) fn all_there_is() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for operation in operations() {
        for (status, answer) in &operation.answers {
            let codes = answer.codes.iter().map(|code| seen_as(&operation.name, *status, Some(*code)));
            all.extend(codes);
            if answer.codes.is_empty() {
                all.insert(seen_as(&operation.name, *status, None));
            }
        }
    }
    all
}

/// Everything that can be asked for.
pub(crate) fn operations() -> &'static [Operation] {
    &Contract::get().operations
}

/// Takes an answer to a request that the tests' own client doesn't send.
pub(crate) fn take(exchange: &Exchange<'_>) {
    let mut records = records().lock().unwrap_or_else(PoisonError::into_inner);
    let Some(record) = records.get_mut(exchange.base_url) else { return };
    match Contract::get().check(exchange) {
        Ok(seen) => record.seen.extend(seen),
        Err(violation) => {
            let Exchange { method, path, status, body, .. } = exchange;
            let shown: String = body.chars().take(2_000).collect();
            record.violations.push(format!("{method} {path}: {status} {shown}\n{violation}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, status: u16, body: &str) -> Result<Option<String>, String> {
        let content_type = "application/json";
        Contract::get().check(&Exchange { base_url: "", method, path, status, content_type, body })
    }

    #[test]
    fn an_answer_that_the_document_does_not_have_is_a_violation() {
        let taken = r#"{"code": 2001, "message": "taken"}"#;
        assert_eq!(check("GET", "/api/labs?limit=1", 200, r#"{"payload": []}"#), Ok(Some("GET /labs 200".to_owned())));
        assert_eq!(check("POST", "/collections", 400, taken), Ok(Some("POST /collections 400 2001".to_owned())));
        assert_eq!(check("GET", "/nowhere", 404, r#"{"code": 5005, "message": "nothing"}"#), Ok(None));
        for (method, path, status, body) in [
            ("GET", "/labs", 200, r#"{"payload": null}"#),
            ("GET", "/labs", 200, r#"{"payload": [{}]}"#),
            ("GET", "/labs", 200, "[]"),
            ("GET", "/labs", 418, taken),
            ("GET", "/labs", 422, taken),
            ("POST", "/collections", 400, r#"{"code": 2001}"#),
            ("POST", "/collections", 400, r#"{"code": 2002, "message": "taken"}"#),
            ("DELETE", "/labs/x", 200, r#"{"payload": {}}"#),
            ("GET", "/nowhere", 404, "nothing"),
        ] {
            assert!(check(method, path, status, body).is_err(), "{method} {path} {status} {body}");
        }
        let of_another_type = Exchange {
            base_url: "",
            method: "GET",
            path: "/labs",
            status: 200,
            content_type: "text/html",
            body: r#"{"payload": []}"#,
        };
        assert!(Contract::get().check(&of_another_type).is_err());
    }
}
