//! Bodies from anywhere: never a panic, and what is understood is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::wire::kaliop::ConsoleCommand;

fuzz_target!(|body: &[u8]| {
    if let Ok(command) = ConsoleCommand::parse(body) {
        let again = ConsoleCommand::parse(&command.body()).expect("what we write can be read");
        assert_eq!(again, command);
        let _ = command.routing_key();
    }
});
