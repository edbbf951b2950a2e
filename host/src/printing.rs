//! Standard output, for every command.
//!
//! The standard library's `print!` and `println!` panic when nobody reads any more, as after `weir render | head`. The
//! macros here take their place in the whole crate and end the program instead, as SIGPIPE ends other Unix tools. The
//! signal itself is no way: Rust programs ignore it, and a daemon with sockets must.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// What shells tell of a program that SIGPIPE has ended: 128 and the number of the signal.
const ENDED_BY_SIGPIPE: i32 = 128 + 13;

/// Writes to standard output, or ends the program: quietly when nobody reads, with a message when nothing can be written.
pub(crate) fn write(text: Arguments<'_>) {
    let Err(error) = io::stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(ENDED_BY_SIGPIPE);
    }
    eprintln!("Error: cannot write to standard output: {error}");
    std::process::exit(1);
}

macro_rules! print {
    ($($text:tt)*) => { $crate::printing::write(format_args!($($text)*)) };
}

macro_rules! println {
    ($($text:tt)*) => { $crate::printing::write(format_args!("{}\n", format_args!($($text)*))) };
}
