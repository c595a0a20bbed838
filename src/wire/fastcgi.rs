//! FastCGI 1.0 as a web server speaks it: a request is written, records of an answer are read. There is one request at a time
//! on a connection, under the number 1.

/// The length of a record's header.
pub const HEADER_LENGTH: usize = 8;

/// The length of what stands in the record that ends a request.
pub const END_LENGTH: usize = 8;

/// The longest content of one record.
pub const LONGEST: usize = 0xffff;

const VERSION: u8 = 1;
const REQUEST: [u8; 2] = [0, 1];
const RESPONDER: u8 = 1;
const KEEP_CONNECTION: u8 = 1;

const BEGIN: u8 = 1;
const END: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// What an answer's record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A piece of what the script prints.
    Stdout,
    /// A piece of what it complains of.
    Stderr,
    /// The end of the request.
    End,
}

/// The header of one record of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// So many bytes of it.
    pub content: usize,
    /// So many bytes after it that mean nothing.
    pub padding: usize,
}

impl Header {
    /// Reads a header; says what is wrong with one that no answer of ours can have.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Self, String> {
        let [version, kind, request_high, request_low, high, low, padding, _] = bytes;
        if version != VERSION {
            return Err(format!("a record of version {version} instead of 1"));
        }
        let kind = match kind {
            STDOUT => Kind::Stdout,
            STDERR => Kind::Stderr,
            END => Kind::End,
            other => return Err(format!("a record of type {other}, which is in no answer")),
        };
        if [request_high, request_low] != REQUEST {
            let number = u16::from_be_bytes([request_high, request_low]);
            return Err(format!("a record for request {number}, which was not made"));
        }
        let content = usize::from(u16::from_be_bytes([high, low]));
        if kind == Kind::End && content != END_LENGTH {
            return Err(format!("an end of {content} bytes instead of {END_LENGTH}"));
        }
        Ok(Self {
            kind,
            content,
            padding: usize::from(padding),
        })
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The application's own status; 0 is well.
    pub status: u32,
    /// Whether the request was taken at all.
    pub protocol: Protocol,
}

/// What became of a request, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// It was answered.
    Complete,
    /// Refused: no second request at a time on one connection.
    CannotMultiplex,
    /// Refused: too busy.
    Overloaded,
    /// Refused: it is no responder.
    UnknownRole,
    /// A status that the protocol does not know.
    Unknown(u8),
}

impl End {
    /// Reads the content of the last record.
    pub fn decode(bytes: [u8; END_LENGTH]) -> Self {
        let [one, two, three, four, protocol, ..] = bytes;
        Self {
            status: u32::from_be_bytes([one, two, three, four]),
            protocol: match protocol {
                0 => Protocol::Complete,
                1 => Protocol::CannotMultiplex,
                2 => Protocol::Overloaded,
                3 => Protocol::UnknownRole,
                other => Protocol::Unknown(other),
            },
        }
    }
}

/// All of a request but its body. PHP reads each record of parameters by itself, so none is cut in two; `None`: one is longer
/// than a record.
pub fn request<'a>(keep_connection: bool, params: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Vec<u8>> {
    let flags = if keep_connection { KEEP_CONNECTION } else { 0 };
    let mut bytes = Vec::with_capacity(1024);
    record(&mut bytes, BEGIN, &[0, RESPONDER, flags, 0, 0, 0, 0, 0]);
    let mut pairs = Vec::with_capacity(1024);
    for (name, value) in params {
        let length = pair_length(name, value);
        if length > LONGEST {
            return None;
        }
        if pairs.len() + length > LONGEST {
            record(&mut bytes, PARAMS, &pairs);
            pairs.clear();
        }
        put_length(&mut pairs, name.len());
        put_length(&mut pairs, value.len());
        pairs.extend_from_slice(name.as_bytes());
        pairs.extend_from_slice(value.as_bytes());
    }
    if !pairs.is_empty() {
        record(&mut bytes, PARAMS, &pairs);
    }
    record(&mut bytes, PARAMS, &[]);
    Some(bytes)
}

/// This parameter fits into a record.
pub fn fits(name: &str, value: &str) -> bool {
    pair_length(name, value) <= LONGEST
}

/// The header in front of a piece of the body, which is at most [`LONGEST`] long; one of nothing ends the body.
pub fn body_header(length: usize) -> [u8; HEADER_LENGTH] {
    header(STDIN, length)
}

fn pair_length(name: &str, value: &str) -> usize {
    let with_its_length = |text: &str| text.len() + if text.len() < 0x80 { 1 } else { 4 };
    with_its_length(name) + with_its_length(value)
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        // At most `LONGEST` was let through, so the top bit is free for the mark.
        _ => bytes.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes()),
    }
}

fn record(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) {
    bytes.extend_from_slice(&header(kind, content.len()));
    bytes.extend_from_slice(content);
}

fn header(kind: u8, length: usize) -> [u8; HEADER_LENGTH] {
    debug_assert!(length <= LONGEST, "a record of {length} bytes");
    let [high, low] = (length as u16).to_be_bytes();
    [VERSION, kind, REQUEST[0], REQUEST[1], high, low, 0, 0]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{End, HEADER_LENGTH, Header, Kind, LONGEST, PARAMS, Protocol, body_header, fits, request};

    /// The records of a request: type and content.
    fn records(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_at(HEADER_LENGTH);
            assert_eq!((header[0], &header[2..4], &header[6..]), (1, &[0, 1][..], &[0, 0][..]));
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            records.push((header[1], rest[..length].to_vec()));
            bytes = &rest[length..];
        }
        records
    }

    #[test]
    fn a_request_is_as_the_specification_says() {
        let bytes = request(true, [("A", "bc"), ("LONG", &"x".repeat(200))]).unwrap();
        let mut params = b"\x01\x02Abc\x04\x80\x00\x00\xc8LONG".to_vec();
        params.extend([b'x'; 200]);
        assert_eq!(
            records(&bytes),
            [(1, vec![0, 1, 1, 0, 0, 0, 0, 0]), (PARAMS, params), (PARAMS, vec![])]
        );
        assert_eq!(records(&request(false, []).unwrap())[0].1[2], 0);
        assert_eq!(body_header(0x0102), [1, 5, 0, 1, 1, 2, 0, 0]);
    }

    #[test]
    fn no_parameter_is_cut_in_two() {
        let value = "x".repeat(40_000);
        let bytes = request(false, [("A", &*value), ("B", &value), ("C", "d")]).unwrap();
        let lengths: Vec<usize> = records(&bytes).iter().map(|(_, content)| content.len()).collect();
        assert_eq!(lengths, [8, 40_006, 40_006 + 4, 0]);
        let longest = "x".repeat(LONGEST - 6);
        assert!(fits("A", &longest) && request(false, [("A", &*longest)]).is_some());
        let longer = "x".repeat(LONGEST - 5);
        assert!(!fits("A", &longer) && request(false, [("A", &*longer)]).is_none());
    }

    #[test]
    fn records_of_an_answer_are_read_and_others_refused() {
        assert_eq!(
            Header::decode([1, 6, 0, 1, 0x10, 1, 7, 0]),
            Ok(Header {
                kind: Kind::Stdout,
                content: 0x1001,
                padding: 7
            })
        );
        for (bytes, expected) in [
            ([2, 6, 0, 1, 0, 0, 0, 0], "version 2"),
            ([1, 4, 0, 1, 0, 0, 0, 0], "type 4"),
            ([1, 200, 0, 1, 0, 0, 0, 0], "type 200"),
            ([1, 6, 0, 2, 0, 0, 0, 0], "request 2"),
            ([1, 3, 0, 1, 0, 4, 0, 0], "an end of 4 bytes"),
            (*b"HTTP/1.1", "version 72"),
        ] {
            let error = Header::decode(bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(
            End::decode([0, 0, 1, 2, 2, 0, 0, 0]),
            End {
                status: 258,
                protocol: Protocol::Overloaded
            }
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_header_is_it_is_read_or_refused(bytes in proptest::array::uniform8(0_u8..)) {
            if let Ok(header) = Header::decode(bytes) {
                proptest::prop_assert!(header.content <= LONGEST && header.padding <= 255);
            }
        }
    }
}
