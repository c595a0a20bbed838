//! Answers of FastCGI servers, record by record as they are read: never a panic, and every record goes on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qctl::wire::fastcgi::{END_LENGTH, End, HEADER_LENGTH, Header, Kind, LONGEST, Protocol};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_LENGTH>() {
        let Ok(header) = Header::decode(*header) else { return };
        assert!(header.content <= LONGEST && header.padding <= 255);
        let Some((content, after)) = after.split_at_checked(header.content) else { return };
        if header.kind == Kind::End {
            let content: [u8; END_LENGTH] = content.try_into().expect("an end of another length is refused");
            let end = End::decode(content);
            assert_eq!(end.protocol == Protocol::Complete, content[4] == 0);
            return;
        }
        let Some((_, after)) = after.split_at_checked(header.padding) else { return };
        rest = after;
    }
});
