//! Every driver rule against every driver in the table, on the real broker.
//!
//! A rule asserts the value that the driver's capabilities declare. A driver joins by one line in [`subjects!`]; the test
//! `every_driver_in_the_table_is_tested` fails until it has.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[allow(unreachable_pub)] // a crate of its own for every binary that includes it
#[path = "../rabbit/mod.rs"]
mod rabbit;
mod rules;
mod subject;

use qctl::drivers::DRIVERS;

/// Makes a module of tests for each driver: all rules, each a test of its own.
macro_rules! subjects {
    ($($driver:ident => $subject:path;)*) => {
        const TESTED: &[&str] = &[$(stringify!($driver)),*];
        $(
            mod $driver {
                use super::rules;
                rules::for_each_rule!($subject);
            }
        )*
    };
}

subjects! {
    sqlite => crate::subject::Sqlite;
    amqp => crate::subject::Amqp;
}

#[test]
fn every_driver_in_the_table_is_tested() {
    let table: Vec<&str> = DRIVERS.iter().map(|driver| driver.name).collect();
    assert_eq!(
        table, TESTED,
        "add the driver to subjects! in tests/conformance/main.rs"
    );
}
