//! The desk decides alike whatever the workers do.
