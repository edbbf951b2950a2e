//! WASI without a world behind it, for languages whose runtime cannot be built without WASI.
//!
//! A core module in the shape of wit-component's adapters: it has the functions of `wasi_snapshot_preview1` that the
//! policy's module imports, and imports nothing but that module's memory. The component it becomes part of imports no
//! WASI, so that what a policy sees is still only what the contract shows it, and equal on every node.

use anyhow::{Context, bail};
use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    InstructionSink, MemArg, MemoryType, Module, TypeSection, ValType,
};
use wasmparser::{CompositeInnerType, FuncType, Parser, Payload, TypeRef};

/// The name that modules import WASI by.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// `errno` of WASI: this file descriptor is not open. Runtimes take it for a closed stdout, or the end of the list of
/// open directories.
const BADF: i32 = 8;

/// `errno` of WASI: there is no such function.
const NOSYS: i32 = 52;

/// Nanoseconds on every clock, always. Not 0: Go's runtime takes that for a clock that is broken.
const NOW: i64 = 1;

/// The adapter for the functions that `module` imports.
///
/// # Errors
/// When `module` cannot be read, or imports something from WASI that is no function.
pub(super) fn adapter(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut types = TypeSection::new();
    let mut functions = FunctionSection::new();
    let mut exports = ExportSection::new();
    let mut code = CodeSection::new();
    for (at, (name, signature)) in (0..).zip(imported(module)?) {
        let params = value_types(signature.params()).with_context(|| name.clone())?;
        let results = value_types(signature.results()).with_context(|| name.clone())?;
        types.ty().function(params.iter().copied(), results.iter().copied());
        functions.function(at);
        exports.export(&name, ExportKind::Func, at);
        let mut function = Function::new([]);
        let mut body = function.instructions();
        answer(&mut body, &name, &params, &results);
        body.end();
        code.function(&function);
    }
    let mut imports = ImportSection::new();
    let memory = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
    imports.import("env", "memory", EntityType::Memory(memory));
    let mut adapter = Module::new();
    adapter.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
    Ok(adapter.finish())
}

/// Names and types of the functions of WASI that `module` imports, each once.
fn imported(module: &[u8]) -> anyhow::Result<Vec<(String, FuncType)>> {
    let mut types = Vec::new();
    let mut found: Vec<(String, FuncType)> = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types.extend(group?.into_types().map(|each| each.composite_type.inner));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if import.module != MODULE || found.iter().any(|(name, _)| name == import.name) {
                        continue;
                    }
                    let TypeRef::Func(index) = import.ty else { bail!("{}: not a function", import.name) };
                    let Some(CompositeInnerType::Func(signature)) = types.get(index as usize) else {
                        bail!("{}: it has no type", import.name)
                    };
                    found.push((import.name.to_owned(), signature.clone()));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn value_types(types: &[wasmparser::ValType]) -> anyhow::Result<Vec<ValType>> {
    let value_type = |each: &wasmparser::ValType| match each {
        wasmparser::ValType::I32 => Ok(ValType::I32),
        wasmparser::ValType::I64 => Ok(ValType::I64),
        other => bail!("WASI has no function with a value of type {other}"),
    };
    types.iter().map(value_type).collect()
}

/// The body of the function `name`: no arguments, no environment, no open file, a clock that stands still, random
/// numbers that are all 0. Everything else says that it is not there; where nothing can be said, it traps.
fn answer(body: &mut InstructionSink<'_>, name: &str, params: &[ValType], results: &[ValType]) {
    use ValType::{I32, I64};
    const WORD: MemArg = MemArg { offset: 0, align: 2, memory_index: 0 };
    const DOUBLE: MemArg = MemArg { offset: 0, align: 3, memory_index: 0 };
    if results != [I32] {
        // `proc_exit`, above all.
        body.unreachable();
        return;
    }
    let errno = match (name, params) {
        // Both the count and the bytes of what there is.
        ("args_sizes_get" | "environ_sizes_get", [I32, I32]) => {
            body.local_get(0).i32_const(0).i32_store(WORD);
            body.local_get(1).i32_const(0).i32_store(WORD);
            0
        }
        ("args_get" | "environ_get" | "sched_yield", _) => 0,
        ("clock_time_get", [I32, I64, I32]) => {
            body.local_get(2).i64_const(NOW).i64_store(DOUBLE);
            0
        }
        ("random_get", [I32, I32]) => {
            zero(body);
            0
        }
        (name, _) if name.starts_with("fd_") || name.starts_with("path_") || name.starts_with("sock_") => BADF,
        _ => NOSYS,
    };
    body.i32_const(errno);
}

/// Writes zeros to the bytes at parameter 0, as many as parameter 1 says: a loop, since not every module may use
/// instructions for bulk memory.
fn zero(body: &mut InstructionSink<'_>) {
    const BYTE: MemArg = MemArg { offset: 0, align: 0, memory_index: 0 };
    body.block(BlockType::Empty).loop_(BlockType::Empty);
    body.local_get(1).i32_eqz().br_if(1);
    body.local_get(1).i32_const(1).i32_sub().local_set(1);
    body.local_get(0).local_get(1).i32_add().i32_const(0).i32_store8(BYTE);
    body.br(0).end().end();
}
