//! Lines of persistent workers: never a panic, and an answer that is understood is JSON of at most its line's length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::wire::jsonrpc::{Said, said};

fuzz_target!(|line: &[u8]| {
    if let Said::Answer { id, result: Ok(text) } = said(line) {
        assert!(text.len() < line.len());
        let again = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{text}}}");
        assert_eq!(said(again.as_bytes()), Said::Answer { id, result: Ok(text) });
    }
});
