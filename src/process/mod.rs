//! Child processes: spawned without a shell, in groups of their own, their output captured in bounded memory, and ended
//! whole. No async runtime is needed here.

pub mod guardian;

/// STUB
pub fn end_marked(_: &str) {}
