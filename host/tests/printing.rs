//! Output nobody reads to its end.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::io::pipe;
use std::process::{Command, Stdio};

/// As after `weir render | head`: the reader is gone before the first line is written.
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let empty = std::env::temp_dir().join(format!("weir-printing-{}", std::process::id()));
    std::fs::create_dir(&empty).unwrap();
    let config = empty.join("weir.txt");
    std::fs::write(&config, "masqueradeBit: 15\n").unwrap();
    let (directory, config) = (empty.to_string_lossy(), config.to_string_lossy());
    let packet = ["explain", "--from", "10.0.0.1", "--to", "10.0.0.2:80", "--manifests", &directory];
    for arguments in [&["render", "--manifests", &directory][..], &["check-config", &config], &packet] {
        let run =
            |stdout: Stdio| Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).stdout(stdout).output().unwrap();
        assert!(run(Stdio::piped()).status.success(), "{arguments:?}");
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = run(writer.into());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
        assert_eq!(output.status.code(), Some(141), "{arguments:?}: {told}");
    }
    std::fs::remove_dir_all(&empty).unwrap();
}
