//! The command `qctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == qctl::process::guardian::SUBCOMMAND)
    {
        return ExitCode::from(qctl::process::guardian::main());
    }
    ExitCode::SUCCESS
}
