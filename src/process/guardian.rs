//! STUB of the command line's branch: replaced at merge.
#![allow(missing_docs)]

pub fn main() -> u8 {
    0
}

pub const SUBCOMMAND: &str = "__guardian";
