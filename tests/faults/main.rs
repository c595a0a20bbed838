//! The embedded store under attack: processes killed at any moment, full disks, damaged files, held locks and clocks that
//! are set. One file a kind of fault; every test leaves no process behind, see [`ground`].
//!
//! What is random is drawn from a seed that is printed; `QCTL_TEST_SEED=N` repeats it.
// The seed and the count of duplicates are told on standard error; the harness is used in part.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "../it/support.rs"]
#[allow(dead_code)] // shared with tests/it, which uses all of it
mod support;

mod fleet;
mod ground;

mod beginning;
mod clock;
mod companions;
mod disk;
mod fairness;
mod files;
mod ledger;
mod links;
mod locks;
mod producers;
mod recovery;
mod schema;
