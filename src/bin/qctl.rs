//! The command `qctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    qctl::main(std::env::args_os())
}
