//! The handler `fastcgi`: through the program, to a real php-fpm, and to servers that do not keep to the protocol.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "fastcgi/fake.rs"]
mod fake;
#[allow(dead_code)]
#[path = "rabbit_it/ground.rs"]
mod ground;
#[path = "fastcgi/php.rs"]
mod php;
#[path = "rabbit/mod.rs"]
mod rabbit;
#[allow(dead_code)]
#[path = "it/support.rs"]
mod support;

#[path = "fastcgi/scripts.rs"]
mod scripts;
#[path = "fastcgi/servers.rs"]
mod servers;
