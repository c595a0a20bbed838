//! The floor for start-up time: the smallest program that parses its arguments with clap.

use clap::Parser;

/// Greets.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Whom
    name: Option<String>,
}

#[allow(clippy::print_stdout)] // it is its whole purpose
fn main() {
    println!("hello {}", Arguments::parse().name.as_deref().unwrap_or("world"));
}
