//! Modules that a component instantiates besides its own.
//!
//! Under `cargo fuzz` they are any modules at all. What makes those would have the whole of Wasmtime compiled a second time
//! for `cargo test`, where a few instructions, memories and tables have to do.

use arbitrary::Unstructured;

#[cfg(fuzzing)]
pub(super) fn module(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let config = wasm_smith::Config {
        max_imports: 0,
        max_instructions: 200,
        max_memories: 4,
        max_memory32_bytes: 64 << 20,
        max_tables: 6,
        max_table_elements: 20_000,
        allow_start_export: true,
        memory64_enabled: u.ratio(1, 8)?,
        gc_enabled: u.ratio(1, 8)?,
        threads_enabled: u.ratio(1, 8)?,
        exceptions_enabled: u.ratio(1, 8)?,
        relaxed_simd_enabled: u.ratio(1, 8)?,
        ..wasm_smith::Config::default()
    };
    Ok(wasm_smith::Module::new(config, u)?.to_bytes())
}

#[cfg(not(fuzzing))]
pub(super) fn module(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    use wasm_encoder::{
        BlockType, CodeSection, Function, FunctionSection, Instruction, MemorySection, MemoryType, Module, RefType,
        StartSection, TableSection, TableType, TypeSection,
    };

    let mut tables = TableSection::new();
    for _ in 0..u.int_in_range(0..=6_u8)? {
        let minimum = u.int_in_range(0..=20_000)?;
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum,
            maximum: None,
            shared: false,
        });
    }
    let mut memories = MemorySection::new();
    let memory = |minimum| MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None };
    memories.memory(memory(u.int_in_range(0..=1_024)?));
    for _ in 0..u.int_in_range(0..=3_u8)? {
        memories.memory(memory(u.int_in_range(0..=64)?));
    }
    let mut start = Function::new([]);
    for _ in 0..u.int_in_range(0..=40_u8)? {
        match u.int_in_range(0..=15_u8)? {
            0 => {
                start.instruction(&Instruction::Unreachable);
            }
            1 => {
                // Again and again.
                for instruction in [Instruction::Loop(BlockType::Empty), Instruction::Br(0), Instruction::End] {
                    start.instruction(&instruction);
                }
            }
            2 => {
                start.instruction(&Instruction::Call(0));
            }
            _ => {
                let pages = Instruction::I32Const(u.int_in_range(0..=512)?);
                for instruction in [pages, Instruction::MemoryGrow(0), Instruction::Drop] {
                    start.instruction(&instruction);
                }
            }
        }
    }
    start.instruction(&Instruction::End);
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut code = CodeSection::new();
    code.function(&start);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables).section(&memories);
    module.section(&StartSection { function_index: 0 }).section(&code);
    Ok(module.finish())
}
