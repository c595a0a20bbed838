//! Where a body comes from: the command line, a file or standard input; never more of it than the connection takes.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::output::human_bytes;

/// The body given as `word`, in `file` or on standard input.
pub(super) fn read(word: Option<&str>, file: Option<&Path>, max_body: u64) -> Result<Vec<u8>> {
    let file = file.filter(|path| *path != Path::new("-"));
    match (file, word) {
        (Some(path), _) => read_limited(open(path)?, max_body).map_err(|error| error.at(path.display())),
        (None, Some(text)) if text != "-" => Ok(text.as_bytes().to_vec()),
        (None, given) => {
            let stdin = std::io::stdin();
            if given.is_none() && stdin.is_terminal() {
                return Err(Error::usage(
                    "no BODY given and standard input is a terminal; give a BODY, pipe one in, or name a --file \
                     (`qctl queuemessage --help` has examples)",
                ));
            }
            read_limited(stdin.lock(), max_body)
        }
    }
}

/// Opens a file to read from.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path)
        .map_err(|error| Error::bad_input(format!("{} cannot be read; check --file", path.display())).because(error))
}

/// Refuses a body that the connection would not take.
pub(super) fn check_size(length: usize, max_body: u64) -> Result<()> {
    if length as u64 > max_body {
        return Err(too_big(max_body));
    }
    Ok(())
}

fn read_limited(reader: impl Read, max_body: u64) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    reader
        .take(max_body.saturating_add(1))
        .read_to_end(&mut body)
        .map_err(|error| Error::bad_input("the body cannot be read").because(error))?;
    check_size(body.len(), max_body)?;
    Ok(body)
}

fn too_big(max_body: u64) -> Error {
    Error::bad_input(format!(
        "the body is bigger than the connection's max_body of {}; send a reference to it, or raise max_body",
        human_bytes(max_body)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_up_to_the_limit_and_no_further() {
        assert_eq!(read_limited(&b"12345"[..], 5).expect("five bytes"), b"12345");
        let error = read_limited(std::io::repeat(b'x'), 5).expect_err("endless");
        assert_eq!(error.exit_code(), 65);
        assert!(error.to_string().contains("5 B"), "{error}");
    }
}
