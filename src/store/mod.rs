//! The embedded store: a durable queue in one SQLite file, used by many processes of one host at once.

pub mod maintenance;
