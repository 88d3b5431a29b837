//! What is wrong with a body of JSON, in words for whoever has sent it: which field, what it should be, and what it is.
//!
//! The reader of JSON says it in terms of this program's types (`invalid type: string "x", expected u16`), which are nobody's
//! business and nobody's words. `extract` asks here; errors that a type words itself (`http::time`) stay as they are.

use serde_json::error::Category;

/// Longest part of a value that is repeated, in characters.
const SHOWN: usize = 60;

/// The sentence for an error at a path such as `nodes[1].name`; `.` stands for the whole body.
pub(super) fn problem(path: &str, error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&place).unwrap_or(&text);
    if error.classify() != Category::Data {
        let at = format!("line {}, column {}", error.line(), error.column());
        return format!("the body is no JSON: {} at {at}", syntax(text));
    }
    let child = |name: &str| if path == "." { name.to_owned() } else { format!("{path}.{name}") };
    let (field, what) = match text.split_once('`').and_then(|(kind, rest)| Some((kind, rest.split_once('`')?))) {
        Some(("missing field ", (name, _))) => (child(name), "it is missing".to_owned()),
        Some(("duplicate field ", (name, _))) => (child(name), "it is there more than once".to_owned()),
        // The path leads to it, unlike to one that is missing.
        Some(("unknown field ", (_, known))) => (path.to_owned(), format!("there is no such field; {}", choice(known))),
        Some(("unknown variant ", (name, known))) => {
            (path.to_owned(), format!("{name} is not possible; {}", choice(known)))
        }
        _ => (path.to_owned(), value(text)),
    };
    // Some name the field themselves.
    if field == "." || what.starts_with(&format!("{field}: ")) { what } else { format!("{field}: {what}") }
}

/// `, expected one of `a`, `b`` as what is possible.
fn choice(known: &str) -> String {
    let known = known.trim_start_matches(", ").trim_start_matches("expected ").trim_start_matches("one of ");
    match known {
        "" | "there are no fields" | "there are no variants" => "nothing is possible here".to_owned(),
        known => format!("possible: {}", known.replace('`', "").replace(" or ", ", ")),
    }
}

/// What a value should be, and is.
fn value(text: &str) -> String {
    let said = ["invalid type: ", "invalid value: "].into_iter().find_map(|kind| text.strip_prefix(kind));
    match said.and_then(|said| said.rsplit_once(", expected ")) {
        Some((found, expected)) => format!("it should be {}, and is {}", wanted(expected), shown(found)),
        None => text.to_owned(),
    }
}

fn wanted(expected: &str) -> String {
    let whole = |least: i128, most: i128| format!("a whole number from {least} to {most}");
    let most_bits = |bits: u32| (1_i128 << bits) - 1;
    match expected {
        "a string" | "a borrowed string" | "string" | "str" => "a text".to_owned(),
        "a boolean" | "bool" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "unit" | "null" => "null".to_owned(),
        "usize" => whole(0, most_bits(64)),
        "isize" => whole(-(1 << 63), most_bits(63)),
        "a map" => "an object".to_owned(),
        other if other.starts_with("struct ") || other.starts_with("internally tagged enum") => "an object".to_owned(),
        other => match (other.chars().next(), other.get(1..).and_then(|bits| bits.parse::<u32>().ok())) {
            (Some('u'), Some(bits @ 8..=64)) => whole(0, most_bits(bits)),
            (Some('i'), Some(bits @ 8..=64)) => whole(-(1 << (bits - 1)), most_bits(bits - 1)),
            _ => other.to_owned(),
        },
    }
}

fn shown(found: &str) -> String {
    let quoted = |rest: &str| rest.trim_matches('`').to_owned();
    match found.split_once(' ') {
        _ if found == "map" => "an object".to_owned(),
        _ if found == "sequence" => "a list".to_owned(),
        _ if found == "null" || found == "unit value" => "null".to_owned(),
        Some(("string", text)) => match text.chars().count() > SHOWN {
            true => format!("the text {}…\"", text.chars().take(SHOWN).collect::<String>()),
            false => format!("the text {text}"),
        },
        Some(("boolean", rest)) => quoted(rest),
        Some(("integer", rest)) => format!("the number {}", quoted(rest)),
        Some(("floating", rest)) => format!("the number {}", quoted(rest.trim_start_matches("point "))),
        _ => found.to_owned(),
    }
}

/// Why a text is no JSON.
fn syntax(text: &str) -> String {
    match text {
        "trailing characters" => "there is more after its end".to_owned(),
        "recursion limit exceeded" => "its lists and objects are nested too deep".to_owned(),
        text if text.starts_with("EOF while parsing") => "it ends too early".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "read for the errors only")]
    struct Body {
        text: String,
        port: Option<u16>,
        delta: Option<i8>,
        on: Option<bool>,
        share: Option<f64>,
        list: Option<Vec<u8>>,
        inner: Option<Box<Body>>,
        by_name: Option<BTreeMap<String, usize>>,
        choice: Option<Choice>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        One,
        Other,
    }

    fn said(body: &str) -> String {
        let mut reader = serde_json::Deserializer::from_str(body);
        let error = serde_path_to_error::deserialize::<_, Body>(&mut reader).expect_err(body);
        problem(&error.path().to_string(), error.inner())
    }

    #[test]
    fn people_are_told_field_value_and_what_is_possible_in_their_words() {
        let long = format!(r#"{{"text": "", "port": "{}"}}"#, "x".repeat(1000));
        let shown =
            format!("port: it should be a whole number from 0 to 65535, and is the text \"{}…\"", "x".repeat(59));
        for (body, expected) in [
            ("{}", "text: it is missing"),
            (r#"{"text": 5}"#, "text: it should be a text, and is the number 5"),
            (r#"{"text": null}"#, "text: it should be a text, and is null"),
            (
                r#"{"text": "", "port": "x, expected y"}"#,
                "port: it should be a whole number from 0 to 65535, and is the text \"x, expected y\"",
            ),
            (
                r#"{"text": "", "port": 70000}"#,
                "port: it should be a whole number from 0 to 65535, and is the number 70000",
            ),
            (
                r#"{"text": "", "port": 1.5}"#,
                "port: it should be a whole number from 0 to 65535, and is the number 1.5",
            ),
            (&long, &shown),
            (
                r#"{"text": "", "delta": -129}"#,
                "delta: it should be a whole number from -128 to 127, and is the number -129",
            ),
            (r#"{"text": "", "on": 1}"#, "on: it should be true or false, and is the number 1"),
            (r#"{"text": "", "share": true}"#, "share: it should be a number, and is true"),
            (r#"{"text": "", "list": {}}"#, "list: it should be a list, and is an object"),
            (
                r#"{"text": "", "list": [1, "x"]}"#,
                "list[1]: it should be a whole number from 0 to 255, and is the text \"x\"",
            ),
            (r#"{"text": "", "inner": 5}"#, "inner: it should be an object, and is the number 5"),
            (r#"{"text": "", "inner": {}}"#, "inner.text: it is missing"),
            (
                r#"{"text": "", "byName": {"a": -1}}"#,
                "byName.a: it should be a whole number from 0 to 18446744073709551615, and is the number -1",
            ),
            (r#"{"text": "", "choice": "none"}"#, "choice: none is not possible; possible: one, other"),
            (r#"{"text": "", "text": ""}"#, "text: it is there more than once"),
            (
                r#"{"text": "", "more": 1}"#,
                "more: there is no such field; possible: text, port, delta, on, share, list, inner, byName, choice",
            ),
            ("{", "the body is no JSON: it ends too early at line 1, column 1"),
            ("{\n  text", "the body is no JSON: key must be a string at line 2, column 3"),
        ] {
            assert_eq!(said(body), expected, "{body}");
        }
    }
}
