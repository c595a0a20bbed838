//! The command `qctl`.

fn main() {}
