//! Bodies of the handlers `http`, `xmlrpc` and `service` from anywhere: never a panic, and what is understood is written and
//! read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::wire::kaliop::{HttpRequest, ServiceCall, XmlRpcCall};

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = HttpRequest::parse(body) {
        assert_eq!(HttpRequest::parse(&request.body()).expect("what we write can be read"), request);
    }
    if let Ok(call) = XmlRpcCall::parse(body) {
        assert_eq!(XmlRpcCall::parse(&call.body()).expect("what we write can be read"), call);
    }
    if let Ok(call) = ServiceCall::parse(body) {
        assert_eq!(ServiceCall::parse(&call.body()).expect("what we write can be read"), call);
    }
});
