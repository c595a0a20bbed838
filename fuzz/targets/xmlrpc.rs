//! Answers of XML-RPC servers: never a panic or a stack that overflows, and a value that is understood can be sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::wire::xmlrpc::{Answer, answer, call};

fuzz_target!(|body: &[u8]| {
    if let Ok(Answer::Value(value)) = answer(body) {
        // Refused are control characters; nothing that can be read nests too deep to be written.
        if let Err(reason) = call("m", &[value]) {
            assert!(!reason.contains("deep"), "{reason}");
        }
    }
});
