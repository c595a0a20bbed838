//! Patterns and routing keys from anywhere: never a panic, never long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::handlers::Pattern;
use qctl::queue::topology::topic_matches;

fuzz_target!(|input: (&str, &str)| {
    let (pattern, text) = input;
    let _ = topic_matches(pattern, text);
    if let Ok(pattern) = Pattern::parse(pattern) {
        let _ = pattern.matches(text);
    }
});
