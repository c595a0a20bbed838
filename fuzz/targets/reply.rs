//! Replies from anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::wire::reply::Reply;

fuzz_target!(|body: &[u8]| {
    if let Ok(reply) = Reply::parse(body) {
        assert_eq!(Reply::parse(&reply.encode()).expect("what we write can be read"), reply);
    }
});
