//! `weir policy component`: core modules become policies, and are told what is missing where they cannot.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, InstructionSink, MemArg, MemorySection, MemoryType, Module, TypeSection, ValType,
};

const WORD: MemArg = MemArg { offset: 0, align: 2, memory_index: 0 };
const DOUBLE: MemArg = MemArg { offset: 0, align: 3, memory_index: 0 };

/// Where the module's memory has room for what WASI says.
const SCRATCH: i32 = 64;

/// Functions of the module, by number; the imports come first.
const DROP_VIEW: u32 = 0;
const CLOCK: u32 = 1;
const RANDOM: u32 = 2;
const WRITE: u32 = 3;

/// A directory that vanishes with the test.
struct Bench(PathBuf);

impl Bench {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-component-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// `weir policy` with those words, in that directory: whether it was content, and all it said.
    fn policy(&self, words: &str) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output =
            command.arg("policy").args(words.split(' ')).current_dir(&self.0).env("WEIR_LOG", "error").output();
        let output = output.expect("weir runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A balancer whose bindings were written by hand, whose runtime is content only with the WASI it should get, and which
/// answers every call with an error of its own.
fn module(wasi: bool) -> Vec<u8> {
    use ValType::{I32, I64};
    let mut types = TypeSection::new();
    let signatures: [(&[ValType], &[ValType]); 6] = [
        (&[I32], &[]),
        (&[I32, I64, I32], &[I32]),
        (&[I32, I32], &[I32]),
        (&[I32, I32, I32, I32], &[I32]),
        (&[], &[I32]),
        (&[I32], &[I32]),
    ];
    for (params, results) in signatures {
        types.ty().function(params.iter().copied(), results.iter().copied());
    }
    let mut imports = ImportSection::new();
    imports.import("weir:policy/snapshot@0.2.0", "[resource-drop]view", EntityType::Function(0));
    let mut first = 1;
    if wasi {
        for (name, signature) in [("clock_time_get", 1), ("random_get", 2), ("fd_write", 3)] {
            imports.import("wasi_snapshot_preview1", name, EntityType::Function(signature));
        }
        first = 4;
    }
    let mut functions = FunctionSection::new();
    let mut exports = ExportSection::new();
    let exported = [
        ("weir:policy/about@0.2.0#describe", 4),
        ("weir:policy/about@0.2.0#check", 2),
        ("weir:policy/balancer@0.2.0#balance", 5),
        ("cabi_realloc", 3),
    ];
    for (at, (name, signature)) in (first..).zip(exported) {
        functions.function(signature);
        exports.export(name, ExportKind::Func, at);
    }
    exports.export("memory", ExportKind::Memory, 0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 2, maximum: None, memory64: false, shared: false, page_size_log2: None });

    let mut code = CodeSection::new();
    let mut body = |write: fn(&mut InstructionSink<'_>), wasi: bool| {
        let mut function = Function::new([]);
        let mut sink = function.instructions();
        if wasi {
            insist(&mut sink);
        }
        write(&mut sink);
        sink.end();
        code.function(&function);
    };
    // Zeros are empty texts, an empty list, and no inputs.
    body(
        |sink| {
            sink.i32_const(0);
        },
        wasi,
    );
    body(
        |sink| {
            sink.i32_const(0);
        },
        false,
    );
    // The handle is the first of the arguments, and has to be given back.
    body(
        |sink| {
            sink.local_get(0).i32_load(WORD).call(DROP_VIEW).i32_const(1_024);
        },
        false,
    );
    // Room for one thing at a time; more is never handed over.
    body(
        |sink| {
            sink.i32_const(65_536);
        },
        false,
    );

    let mut data = DataSection::new();
    // `err(unsupported("not today"))`
    let mut answer = vec![1, 0, 0, 0, 1, 0, 0, 0];
    answer.extend(2_048_u32.to_le_bytes());
    answer.extend(9_u32.to_le_bytes());
    data.active(0, &ConstExpr::i32_const(1_024), answer);
    data.active(0, &ConstExpr::i32_const(2_048), *b"not today");
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&memories).section(&exports);
    module.section(&code).section(&data);
    module.finish()
}

/// Traps unless the clock tells a time, random bytes are zeros, and stdout is closed.
fn insist(sink: &mut InstructionSink<'_>) {
    let unless = |sink: &mut InstructionSink<'_>| {
        sink.i32_eqz().if_(wasm_encoder::BlockType::Empty).unreachable().end();
    };
    sink.i32_const(0).i64_const(1).i32_const(SCRATCH).call(CLOCK).i32_eqz();
    unless(sink);
    sink.i32_const(SCRATCH).i64_load(DOUBLE).i64_const(0).i64_ne();
    unless(sink);
    sink.i32_const(SCRATCH).i32_const(8).call(RANDOM).i32_eqz();
    unless(sink);
    sink.i32_const(SCRATCH).i64_load(DOUBLE).i64_eqz();
    unless(sink);
    // 8: this file is not open.
    sink.i32_const(1).i32_const(0).i32_const(0).i32_const(SCRATCH).call(WRITE).i32_const(8).i32_eq();
    unless(sink);
}

#[test]
fn a_core_module_is_told_how_to_become_a_component() {
    let bench = Bench::new("told");
    fs::write(bench.0.join("core.wasm"), module(false)).expect("a file");
    let (ok, said) = bench.policy("check core.wasm");
    assert!(!ok && said.contains("ERROR    core-module") && said.contains("weir policy component"), "{said}");
    let (ok, said) = bench.policy("component core.wasm -o out.wasm");
    assert!(!ok && said.contains("--world balancer-only") && said.contains("wit/policy.wit"), "{said}");
    let (ok, said) = bench.policy("component core.wasm --world nonsense -o out.wasm");
    assert!(!ok && said.contains("nonsense"), "{said}");
    let (ok, said) = bench.policy("component core.wasm --world policy -o out.wasm");
    assert!(!ok && said.contains("traffic-policy"), "what that world wants besides is not told: {said}");
    assert!(!bench.0.join("out.wasm").exists(), "something was written all the same");

    let (ok, said) = bench.policy("component core.wasm --world balancer-only -o out.wasm");
    assert!(ok, "{said}");
    let (ok, said) = bench.policy("check out.wasm");
    assert!(!ok && said.contains("ok       contract     weir:policy 0.2") && said.contains("not today"), "{said}");
}

#[test]
fn wasi_is_answered_within_the_component_if_asked_for() {
    let bench = Bench::new("wasi");
    fs::write(bench.0.join("core.wasm"), module(true)).expect("a file");
    let (ok, said) = bench.policy("component core.wasm --world balancer-only -o out.wasm");
    assert!(!ok && said.contains("clock_time_get") && said.contains("--stub-wasi"), "{said}");
    let (ok, said) = bench.policy("component core.wasm --world balancer-only --stub-wasi -o out.wasm");
    assert!(ok, "{said}");
    let (_, said) = bench.policy("check out.wasm");
    assert!(!said.contains("wasi"), "it imports WASI still: {said}");
    // It describes itself only where every answer is as it should be.
    assert!(said.contains("ok       contract     weir:policy 0.2") && said.contains("not today"), "{said}");
}
