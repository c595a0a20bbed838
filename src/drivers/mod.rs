//! The drivers there are: a table. Adding one is a file or folder, a `mod` line and a row.

pub mod amqp;
pub mod sqlite;

use crate::queue::DriverSpec;

/// The table.
pub static DRIVERS: &[&DriverSpec] = &[&sqlite::SQLITE, &amqp::AMQP];

/// The driver with this name.
pub fn find(name: &str) -> Option<&'static DriverSpec> {
    DRIVERS.iter().copied().find(|spec| spec.name == name)
}

/// The driver for this URL scheme.
pub fn for_scheme(scheme: &str) -> Option<&'static DriverSpec> {
    DRIVERS.iter().copied().find(|spec| spec.schemes.contains(&scheme))
}
