//! A plugin that answers whatever bytes it is asked to, for each of the three worlds: made by hand, since no compiler makes
//! one that breaks every rule of how results are passed.
//!
//! Of the texts that a call comes with, the longest says how to answer: each byte in two letters from `a` to `p`. They are
//! written to memory at [`BASE`], a header first. Without such a text, it answers zeros.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    InstructionSink, MemArg, MemArgTarget, MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WorldItem};

use super::root;

/// Where the answer is written, its header first: see [`super::answers::Answer`].
pub(super) const BASE: u32 = 4096;
/// Where what comes after the header begins.
pub(super) const BODY: u32 = BASE + 16;
/// The longest answer, with its header.
pub(super) const LONGEST: usize = 32 << 10;
/// The guest's memory at the beginning, in bytes.
pub(super) const MEMORY: u32 = 4 * 65_536;
/// Where arguments go: behind the answer.
const ARGUMENTS: u32 = 65_536;
/// Sixteen bytes at least that are zero for ever.
const ZEROS: u32 = 16;
/// A text shorter than this is an ordinary one.
const SHORTEST: i32 = 48;

const NEXT: u32 = 0;
const TEXT: u32 = 1;
const LENGTH: u32 = 2;
const DESCRIBES: u32 = 3;

/// The text that makes the guest write these bytes.
pub(super) fn spelt(bytes: &[u8]) -> String {
    let letter = |nibble: u8| char::from(b'a' + nibble);
    let mut text: String = bytes.iter().take(LONGEST).flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect();
    while text.len() < SHORTEST as usize {
        text.push('a');
    }
    text
}

/// The component for one world.
pub(super) fn component(world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit")).expect("wit/ is valid");
    let world = resolve.select_world(&[package], Some(world)).expect("there is such a world");
    let mut core = core_module(&resolve, world);
    wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)
        .expect("the world can be described");
    ComponentEncoder::default().validate(true).module(&core).and_then(|encoder| encoder.encode()).expect("it fits")
}

fn core_module(resolve: &Resolve, world: wit_parser::WorldId) -> Vec<u8> {
    let abi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
    let mut types = TypeSection::new();
    let mut functions = FunctionSection::new();
    let mut exports = ExportSection::new();
    let mut code = CodeSection::new();
    let mut count = 0;
    let mut add = |params: &[ValType], results: &[ValType], name: &str, body: Function| {
        types.ty().function(params.iter().copied(), results.iter().copied());
        functions.function(count);
        code.function(&body);
        exports.export(name, ExportKind::Func, count);
        count += 1;
    };
    let realloc = resolve.wasm_export_name(abi, WasmExport::Realloc);
    add(&[ValType::I32; 4], &[ValType::I32], &realloc, allocate());
    for (key, item) in &resolve.worlds[world].exports {
        let WorldItem::Interface { id, .. } = item else { continue };
        for function in resolve.interfaces[*id].functions.values() {
            let name =
                |kind| resolve.wasm_export_name(abi, WasmExport::Func { interface: Some(key), func: function, kind });
            let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
            assert!(signature.retptr, "{} answers by way of memory", function.name);
            let params: Vec<_> = signature.params.iter().map(|of| value(*of)).collect();
            let count = u32::try_from(params.len()).expect("there are few");
            add(&params, &[ValType::I32], &name(WasmExportKind::Normal), answer(&function.name, count));
            add(&[ValType::I32], &[], &name(WasmExportKind::PostReturn), afterwards());
        }
    }
    let mut memories = MemorySection::new();
    let pages = u64::from(MEMORY / 65_536);
    memories.memory(MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None });
    exports.export(&resolve.wasm_export_name(abi, WasmExport::Memory), ExportKind::Memory, 0);
    let mut globals = GlobalSection::new();
    for begin in [ARGUMENTS.cast_signed(), 0, 0, 0] {
        let kind = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(kind, &ConstExpr::i32_const(begin));
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&globals).section(&exports).section(&code);
    module.finish()
}

fn value(of: WasmType) -> ValType {
    match of {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

fn at(offset: u32) -> MemArg {
    MemArg { offset: offset.into(), align: 0, target: MemArgTarget::default(), ordering: None }
}

/// `cabi_realloc`: the next free place; it remembers the longest text.
fn allocate() -> Function {
    let mut body = Function::new([(1, ValType::I32)]);
    let (align, size, place) = (2, 3, 4);
    let mut i = body.instructions();
    // place = (next + align - 1) & -align
    i.global_get(NEXT).local_get(align).i32_add().i32_const(1).i32_sub();
    i.i32_const(0).local_get(align).i32_sub().i32_and().local_tee(place);
    i.local_get(size).i32_add().global_set(NEXT);
    i.local_get(align).i32_const(1).i32_eq().local_get(size).global_get(LENGTH).i32_gt_u().i32_and();
    i.if_(BlockType::Empty);
    i.local_get(place).global_set(TEXT).local_get(size).global_set(LENGTH);
    i.end();
    i.local_get(place).end();
    body
}

/// An exported function: spells out the longest text, if it is long enough, and answers as its header says.
fn answer(function: &str, params: u32) -> Function {
    let mut body = Function::new([(3, ValType::I32)]);
    let (from, end, to) = (params, params + 1, params + 2);
    let mut i = body.instructions();
    if function == "describe" {
        // What `configure` was told.
        i.global_get(DESCRIBES).if_(BlockType::Empty);
        reply(&mut i);
        i.end();
        i.i32_const(ZEROS.cast_signed()).end();
        return body;
    }
    i.global_get(TEXT).local_tee(from).global_get(LENGTH).i32_add().local_set(end);
    i.global_get(LENGTH).i32_const(SHORTEST).i32_lt_u();
    forget(&mut i);
    i.if_(BlockType::Empty);
    i.i32_const(0).i32_const(0).i32_store(at(BASE + 8));
    i.i32_const(ZEROS.cast_signed()).return_().end();
    // Settings are JSON, with quotes around the text.
    i.local_get(from).i32_load8_u(at(0)).i32_const(i32::from(b'"')).i32_eq().if_(BlockType::Empty);
    i.local_get(from).i32_const(1).i32_add().local_set(from).local_get(end).i32_const(1).i32_sub().local_set(end).end();
    i.i32_const(BASE.cast_signed()).local_set(to);
    i.block(BlockType::Empty).loop_(BlockType::Empty);
    i.local_get(from).i32_const(1).i32_add().local_get(end).i32_ge_u().br_if(1);
    i.local_get(to).i32_const((BASE as usize + LONGEST) as i32).i32_ge_u().br_if(1);
    i.local_get(to);
    i.local_get(from).i32_load8_u(at(0)).i32_const(i32::from(b'a')).i32_sub().i32_const(4).i32_shl();
    i.local_get(from).i32_load8_u(at(1)).i32_const(i32::from(b'a')).i32_sub().i32_const(15).i32_and();
    i.i32_or().i32_store8(at(0));
    i.local_get(from).i32_const(2).i32_add().local_set(from);
    i.local_get(to).i32_const(1).i32_add().local_set(to);
    i.br(0).end().end();
    if function == "configure" {
        i.i32_const(0).i32_load8_u(at(BASE + 9)).if_(BlockType::Empty);
        i.i32_const(1).global_set(DESCRIBES).i32_const(ZEROS.cast_signed()).return_().end();
    }
    reply(&mut i);
    i.i32_const(0).end();
    body
}

/// The next call finds as much room for its arguments.
fn forget(i: &mut InstructionSink<'_>) {
    i.i32_const(ARGUMENTS.cast_signed()).global_set(NEXT).i32_const(0).global_set(LENGTH);
}

/// Grows by as many pages as the header says, and answers with its pointer.
fn reply(i: &mut InstructionSink<'_>) {
    i.i32_const(0).i32_load8_u(at(BASE + 4)).memory_grow(0).drop();
    i.i32_const(0).i32_load(at(BASE)).return_();
}

/// What the host calls when it has read the answer: traps, if the header says so.
fn afterwards() -> Function {
    let mut body = Function::new([]);
    let mut i = body.instructions();
    i.i32_const(0).i32_load8_u(at(BASE + 8)).i32_const(1).i32_eq().if_(BlockType::Empty).unreachable().end().end();
    body
}
