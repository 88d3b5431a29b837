//! The topology file as containerlab gets it: the lab's definition once more, but such that it can only be read in one way.
//!
//! Containerlab runs a definition through a template engine and through an expansion of variables, and reads the outcome with
//! another YAML library. Each of these could make something of a text that nobody has judged: a comment becomes a bind mount, a
//! variable a key. So the file is written anew from what this server has read, with everything quoted that those would act on.
//! It has the lab's own name, and its values stand on the lines where the author wrote them, so that complaints name the right one.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use serde_saphyr::{Location, Spanned};

use crate::topology;

/// The definition with `name` as its name.
///
/// # Errors
/// Says what can't be read. Definitions that [`topology::Topology::parse`] takes are read, but for odd keys in places that
/// nobody looks at there.
pub(super) fn render(definition: &str, name: &str) -> Result<String, String> {
    let file = serde_saphyr::from_str_with_options::<Spanned<Value>>(definition, topology::limits())
        .map_err(|error| error.without_snippet().to_string())?;
    let Value::Map(entries) = file.value else { return Err("the definition is not a mapping".to_owned()) };
    let mut writer = Writer { text: String::new(), line: 1, plain: plain_scalars(definition) };
    writer.text.push('{');
    let mut named = false;
    for (key, value) in &entries {
        if key.value == "name" {
            named = true;
            writer.key(key);
            writer.quoted(name);
        } else {
            writer.key(key);
            writer.value(value);
        }
        writer.text.push(',');
    }
    if !named {
        writer.text.push_str("\"name\": ");
        writer.quoted(name);
    }
    writer.text.push_str("}\n");
    Ok(writer.text)
}

/// The management network that a topology file names.
pub(super) fn network(file: &str) -> Option<String> {
    let file = serde_saphyr::from_str_with_options::<Spanned<Value>>(file, topology::limits()).ok()?;
    let Value::Map(entries) = file.value else { return None };
    let (_, management) = entries.iter().find(|(key, _)| key.value == "mgmt")?;
    text_of(management, "network").filter(|name| !name.is_empty())
}

/// The text of an entry of a mapping.
fn text_of(map: &Spanned<Value>, key: &str) -> Option<String> {
    let Value::Map(entries) = &map.value else { return None };
    entries.iter().find_map(|(name, value)| match &value.value {
        Value::Text(text) | Value::Typed(text) if name.value == key => Some(text.clone()),
        _ => None,
    })
}

/// A value as it was read, aliases and merges resolved.
#[derive(Debug)]
enum Value {
    Null,
    /// A single value that isn't text to every reader: a number, `true`.
    Typed(String),
    Text(String),
    List(Vec<Spanned<Value>>),
    Map(Vec<(Spanned<String>, Spanned<Value>)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Typed(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Typed(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Typed(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Typed(value.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Line and column, both from 1.
type Position = (u64, u64);

/// The scalars that are written without quotes and tags, as they are written: `1.10` and `010` are numbers to one reader and
/// text to another, and `yes` is true to some, which they must be able to find out for themselves.
fn plain_scalars(text: &str) -> HashMap<Position, String> {
    let mut plain = HashMap::new();
    for event in Parser::new_from_str(text) {
        // It has been read once without complaint.
        let Ok((event, span)) = event else { break };
        if let Event::Scalar(value, ScalarStyle::Plain, _, None) = event {
            plain.insert((span.start.line() as u64, span.start.col() as u64 + 1), value.to_string());
        }
    }
    plain
}

struct Writer {
    text: String,
    line: u64,
    plain: HashMap<Position, String>,
}

impl Writer {
    /// Goes on on the line where this was read, or on this one if it stood above, as what an alias means does.
    fn at(&mut self, location: Location) {
        while self.line < location.line() {
            self.text.push('\n');
            self.line += 1;
        }
    }

    fn key(&mut self, key: &Spanned<String>) {
        self.at(key.referenced);
        self.scalar(key.defined, &key.value);
        self.text.push_str(": ");
    }

    fn value(&mut self, value: &Spanned<Value>) {
        self.at(value.referenced);
        match &value.value {
            Value::Null => self.text.push_str("null"),
            Value::Text(text) => self.scalar(value.defined, text),
            Value::Typed(text) => {
                let written = self.plain.get(&position(value.defined)).filter(|text| is_harmless(text));
                let written = written.unwrap_or(text).clone();
                self.text.push_str(&written);
            }
            Value::List(values) => {
                self.text.push('[');
                for value in values {
                    self.value(value);
                    self.text.push_str(", ");
                }
                self.text.push(']');
            }
            Value::Map(entries) => {
                self.text.push('{');
                for (key, value) in entries {
                    self.key(key);
                    self.value(value);
                    self.text.push_str(", ");
                }
                self.text.push('}');
            }
        }
    }

    fn scalar(&mut self, location: Location, text: &str) {
        if is_harmless(text) && self.plain.get(&position(location)).is_some_and(|written| written == text) {
            self.text.push_str(text);
        } else {
            self.quoted(text);
        }
    }

    /// In double quotes, with `$` and `{` as escapes, which leaves nothing for templates and variables.
    fn quoted(&mut self, text: &str) {
        use fmt::Write as _;
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\t' => self.text.push_str("\\t"),
                '$' | '{' | '}' => write!(self.text, "\\x{:02x}", u32::from(c)).expect("texts take everything"),
                c if c.is_ascii_graphic() || c == ' ' || (c.is_alphanumeric() && !c.is_ascii()) => self.text.push(c),
                c if u32::from(c) <= 0xffff => write!(self.text, "\\u{:04x}", u32::from(c)).expect("likewise"),
                c => write!(self.text, "\\U{:08x}", u32::from(c)).expect("likewise"),
            }
        }
        self.text.push('"');
    }
}

fn position(location: Location) -> Position {
    (location.line(), location.column())
}

/// Whether no reader makes anything of it but a single value.
fn is_harmless(text: &str) -> bool {
    let within = |c: char| c.is_ascii_alphanumeric() || "_./+-".contains(c);
    text.len() <= 128 && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') && text.chars().all(within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    /// What another reader of YAML makes of it.
    fn reread(text: &str) -> serde_json::Value {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    const DEFINITION: &str = "\
# {{ \"\\nname: mine\" }} ${HOME}
name: demo
prefix: \"\"
mgmt: {network: custom, ipv4-subnet: 172.100.100.0/24}
topology:
  defaults: &base
    kind: linux
    env: {VERSION: 1.10, MODE: 010, ON: yes, EMPTY: , QUOTED: '5'}
  groups:
    spine: {<<: *base, image: 'lab/busybox:1'}
  nodes:
    spine-1:
      group: spine
      privileged: no
      exec:
        - sh -c 'echo ${A:=x} {{ .B }} \"quoted\" \\'
        - |
          two
          lines
  links:
    - endpoints: [\"spine-1:eth1\", 'host:veth\\x']
";

    #[test]
    fn the_name_is_the_instance_and_all_else_stays_what_it_was() {
        let rendered = render(DEFINITION, "demo-2026-abc").unwrap();
        assert_eq!(network(&rendered).as_deref(), Some("custom"));
        let mut expected = reread(DEFINITION);
        expected["name"] = "demo-2026-abc".into();
        assert_eq!(reread(&rendered), expected, "{rendered}");
    }

    #[test]
    fn templates_and_variables_find_nothing_to_expand() {
        let rendered = render(DEFINITION, "x").unwrap();
        assert!(!rendered.contains("{{") && !rendered.contains("}}") && !rendered.contains('$'), "{rendered}");
        assert!(!rendered.contains('#'), "comments are left out: {rendered}");
    }

    #[test]
    fn what_readers_may_take_for_another_type_is_written_as_the_author_did() {
        let rendered = render(DEFINITION, "x").unwrap();
        for part in ["VERSION: 1.10,", "MODE: 010,", "ON: yes,", "EMPTY: null,", "QUOTED: \"5\"", "privileged: no,"] {
            assert!(rendered.contains(part), "{part} in {rendered}");
        }
    }

    #[test]
    fn values_stand_on_the_lines_of_the_original() {
        let rendered = render(DEFINITION, "x").unwrap();
        let line = |text: &str, part: &str| text.lines().position(|line| line.contains(part));
        for part in ["spine-1:", "privileged", "custom", "endpoints"] {
            assert_eq!(line(&rendered, part), line(DEFINITION, part), "{part} in\n{rendered}");
        }
    }

    #[test]
    fn all_examples_come_through() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/labs");
        for file in std::fs::read_dir(examples).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let rendered = render(&text, "x").unwrap();
            let (mut read, original) = (Topology::parse(&rendered).unwrap(), Topology::parse(&text).unwrap());
            read.name.clone_from(&original.name);
            assert_eq!(read, original);
        }
    }
}
