//! What a file is, told from its outside before anything of it is compiled: component or not, imports, exports, versions.
//!
//! The types behind the names are checked later, by linking; this is for telling an operator in a sentence what they
//! have put into their configuration.

use wasmparser::{Encoding, Parser, Payload};

use super::config::{Entry, Grant, Hook};
use super::error::LoadProblem;

/// The version of the contract that this server knows.
pub(super) const VERSION: &str = "0.1.0";
/// How deep modules and components may lie in each other. Those who read the rest of it go down by recursion.
const MAX_DEPTH: u32 = 32;
/// The package of the contract.
const PACKAGE: &str = "antimony:plugin/";
/// The interfaces of it that a plugin may import.
const OFFERED: [&str; 2] = ["logging", "types"];

/// A component that may be a plugin of the hook that it was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether it imports anything of WASI.
    pub(super) wasi: bool,
    /// Whether it imports `logging`.
    logging: bool,
    /// The last number of the version that it was built against, where that is later than the server's.
    pub(super) later_patch: Option<u64>,
}

impl Shape {
    /// Whether everything that it imports is granted by its entry.
    pub(super) fn check_grants(self, entry: &Entry) -> Result<(), LoadProblem> {
        let missing = [(self.logging, Grant::Logging), (self.wasi, Grant::Wasi)];
        match missing.into_iter().find(|&(imported, grant)| imported && !entry.is_granted(grant)) {
            Some((_, grant)) => Err(LoadProblem::NotGranted(grant)),
            None => Ok(()),
        }
    }

    /// Makes one problem another: what doesn't fit in a plugin of a later time is most likely what came since.
    pub(super) fn explain(self, problem: LoadProblem) -> LoadProblem {
        match (self.later_patch, problem) {
            (Some(patch), LoadProblem::Contract(problem)) => newer(patch, problem),
            (_, problem) => problem,
        }
    }
}

fn newer(patch: u64, problem: String) -> LoadProblem {
    let (line, _) = VERSION.rsplit_once('.').expect("a version has three numbers");
    LoadProblem::Newer { found: format!("{line}.{patch}"), known: VERSION, problem }
}

/// Says what is wrong with `bytes` as a plugin of `hook`.
pub(super) fn inspect(bytes: &[u8], hook: Hook) -> Result<Shape, LoadProblem> {
    let names = Names::read(bytes)?;
    let (mut wasi, mut logging) = (false, false);
    let ours = patch(VERSION);
    let all = names.imports.iter().chain(&names.exports).filter_map(|name| name.strip_prefix(PACKAGE));
    let later_patch = all.filter_map(version).map(patch).max().filter(|theirs| *theirs > ours).flatten();
    for import in &names.imports {
        if let Some(interface) = import.strip_prefix(PACKAGE) {
            check_version(interface)?;
            if let (Some(patch), false) = (later_patch, OFFERED.contains(&base(interface))) {
                return Err(newer(patch, format!("the interface {import}")));
            }
            if !OFFERED.contains(&base(interface)) {
                return Err(LoadProblem::Import(import.clone()));
            }
            logging |= base(interface) == "logging";
        } else if import.starts_with("wasi:") && version(import).is_some_and(|version| version.starts_with("0.2.")) {
            wasi = true;
        } else {
            return Err(LoadProblem::Import(import.clone()));
        }
    }
    let exports: Vec<&str> = names.exports.iter().filter_map(|export| export.strip_prefix(PACKAGE)).collect();
    for export in &exports {
        check_version(export)?;
    }
    let exported = |name: &str| exports.iter().any(|export| base(export) == name);
    if !exported(hook.interface()) {
        if let Some(found) = Hook::ALL.into_iter().find(|hook| exported(hook.interface())) {
            return Err(LoadProblem::OtherHook { found, expected: hook });
        }
        return Err(missing(hook, hook.interface()));
    }
    if !exported("lifecycle") {
        return Err(missing(hook, "lifecycle"));
    }
    Ok(Shape { wasi, logging, later_patch })
}

fn missing(expected: Hook, interface: &str) -> LoadProblem {
    LoadProblem::NoHook { expected, missing: format!("{PACKAGE}{interface}@{VERSION}") }
}

/// An interface of the contract, in whichever version: its name, and that.
pub(super) fn interface(name: &str) -> Option<(&str, Option<&str>)> {
    name.strip_prefix(PACKAGE).map(|name| (base(name), version(name)))
}

fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

fn version(name: &str) -> Option<&str> {
    name.split_once('@').map(|(_, version)| version)
}

/// The last number of a version.
fn patch(version: &str) -> Option<u64> {
    version.split(['.', '-', '+']).nth(2)?.parse().ok()
}

/// Versions below 1.0 are compatible when they differ in the last number only.
fn check_version(name: &str) -> Result<(), LoadProblem> {
    let found = version(name).unwrap_or("without a version");
    let numbers = |version: &str| {
        let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u64>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let (theirs, ours) = (numbers(found), numbers(VERSION));
    if theirs == ours {
        return Ok(());
    }
    Err(LoadProblem::Version { found: found.into(), known: VERSION, newer: theirs > ours })
}

/// Bytes of memory that an instance of `component` begins with, as far as it can be read.
pub(super) fn memory(component: &[u8]) -> u64 {
    let mut bytes = 0_u64;
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        if let Payload::MemorySection(memories) = payload {
            for memory in memories.into_iter().map_while(Result::ok) {
                let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                bytes = bytes.saturating_add(memory.initial.saturating_mul(page));
            }
        }
    }
    bytes
}

/// Names of what a component imports and exports.
#[derive(Default)]
pub(super) struct Names {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl Names {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, LoadProblem> {
        if !bytes.starts_with(b"\0asm") {
            return Err(LoadProblem::NotWasm);
        }
        let damaged = |error: wasmparser::BinaryReaderError| LoadProblem::Damaged(error.to_string());
        let mut names = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            if depth > MAX_DEPTH {
                return Err(LoadProblem::Damaged(format!("its parts are nested more than {MAX_DEPTH} deep")));
            }
            match payload.map_err(damaged)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(LoadProblem::CoreModule);
                }
                // What is nested in it has imports and exports of its own.
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        names.imports.push(import.map_err(damaged)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        names.exports.push(export.map_err(damaged)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use wasm_encoder::{
        Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentTypeRef,
        ComponentTypeSection, InstanceType,
    };

    /// A component that imports and exports empty interfaces of these names.
    fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let mut types = ComponentTypeSection::new();
        types.instance(&InstanceType::new());
        let mut section = ComponentImportSection::new();
        for import in imports {
            section.import(*import, ComponentTypeRef::Instance(0));
        }
        // Something to export: any import will do.
        section.import("antimony:plugin/types@0.1.0", ComponentTypeRef::Instance(0));
        let mut exported = ComponentExportSection::new();
        for export in exports {
            let index = u32::try_from(imports.len()).unwrap();
            exported.export(*export, ComponentExportKind::Instance, index, None);
        }
        let mut component = Component::new();
        component.section(&types).section(&section).section(&exported);
        component.finish()
    }

    fn problem(bytes: &[u8]) -> String {
        inspect(bytes, Hook::AuthPolicy).unwrap_err().to_string()
    }

    const LIFECYCLE: &str = "antimony:plugin/lifecycle@0.1.0";
    const POLICY: &str = "antimony:plugin/policy@0.1.0";

    #[test]
    fn a_plugin_is_recognised() {
        let shape = inspect(&component(&[], &[LIFECYCLE, POLICY]), Hook::AuthPolicy).unwrap();
        assert!(!shape.wasi);
        let later = ["antimony:plugin/lifecycle@0.1.7", "antimony:plugin/policy@0.1.7"];
        assert!(inspect(&component(&["wasi:cli/environment@0.2.3"], &later), Hook::AuthPolicy).unwrap().wasi);
    }

    #[test]
    fn memory_that_an_instance_begins_with_is_counted_over_all_modules() {
        let module = |minimum| {
            let mut memories = wasm_encoder::MemorySection::new();
            let memory_type = wasm_encoder::MemoryType {
                minimum,
                maximum: None,
                memory64: false,
                shared: false,
                page_size_log2: None,
            };
            memories.memory(memory_type);
            let mut module = wasm_encoder::Module::new();
            module.section(&memories);
            module
        };
        let (one, two) = (module(1), module(2));
        let mut component = Component::new();
        component.section(&wasm_encoder::ModuleSection(&one)).section(&wasm_encoder::ModuleSection(&two));
        assert_eq!(memory(&component.finish()), 3 << 16);
        assert_eq!(memory(b"nonsense"), 0);
    }

    #[test]
    fn what_is_no_component_is_said_to_be_what_it_is() {
        assert!(problem(b"").contains("not a WebAssembly component"));
        assert!(problem(b"#!/bin/sh").contains("not a WebAssembly component"));
        assert!(problem(&wasm_encoder::Module::new().finish()).contains("core module"));
        let whole = component(&[], &[LIFECYCLE, POLICY]);
        assert!(problem(&whole[..whole.len() - 3]).contains("truncated"));
        assert!(problem(&whole[..6]).contains("truncated"));
    }

    #[test]
    fn what_is_nested_too_deeply_is_read_no_further() {
        let mut nested = wasm_encoder::Component::new();
        for _ in 0..5_000 {
            let mut outer = wasm_encoder::Component::new();
            outer.section(&wasm_encoder::NestedComponentSection(&nested));
            nested = outer;
        }
        let text = problem(&nested.finish());
        assert!(text.contains("nested more than 32 deep"), "{text}");
    }

    #[test]
    fn the_wrong_hook_is_named_with_the_right_one() {
        let text = problem(&component(&[], &[LIFECYCLE, "antimony:plugin/formatter@0.1.0"]));
        assert!(text.contains("status-formatter") && text.contains("auth-policy"), "{text}");
        assert!(problem(&component(&[], &["wasi:cli/run@0.2.0"])).contains("antimony:plugin/policy@0.1.0"));
        assert!(problem(&component(&[], &[POLICY])).contains("antimony:plugin/lifecycle@0.1.0"));
    }

    #[test]
    fn another_version_is_too_new_or_too_old() {
        let version = |version: &str| {
            let names = [format!("antimony:plugin/lifecycle@{version}"), format!("antimony:plugin/policy@{version}")];
            problem(&component(&[], &[&names[0], &names[1]]))
        };
        assert!(version("0.2.0").contains("too new"), "{}", version("0.2.0"));
        assert!(version("1.0.0").contains("too new"));
        assert!(version("0.0.9").contains("too old"));
    }

    #[test]
    fn what_is_imported_has_to_be_granted_where_the_operator_says_what_is() {
        let both = component(&["wasi:cli/environment@0.2.3", "antimony:plugin/logging@0.1.0"], &[LIFECYCLE, POLICY]);
        let shape = inspect(&both, Hook::AuthPolicy).unwrap();
        let check = |grants| shape.check_grants(&Entry { grants, ..Entry::new("p.wasm") });
        assert!(check(None).is_ok());
        assert!(check(Some(vec![Grant::Wasi, Grant::Logging])).is_ok());
        for (grants, missing) in [(vec![Grant::Logging], "wasi"), (vec![Grant::Wasi], "logging"), (vec![], "logging")] {
            let text = check(Some(grants)).unwrap_err().to_string();
            assert!(text.starts_with("grants") && text.contains(missing), "{text}");
        }
    }

    #[test]
    fn an_import_that_is_not_granted_is_named() {
        for import in ["wasi:http/outgoing-handler@0.3.0", "acme:secrets/vault@1.0.0", "antimony:plugin/keys@0.1.0"] {
            let text = problem(&component(&[import], &[LIFECYCLE, POLICY]));
            assert!(text.contains(import) && text.contains("not granted"), "{text}");
        }
    }
}
