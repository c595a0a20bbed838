//! One request and its answer on one connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::answer::Answer;
use crate::process::Stream;
use crate::wire::fastcgi::{END_LENGTH, End, HEADER_LENGTH, Header, Kind, LONGEST, body_header};

/// So much of an answer is read at once.
const PIECE: usize = 16 * 1024;

/// A request, ready to be sent.
pub(super) struct Request<'a> {
    /// All but the body.
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

/// How an exchange ended.
pub(super) enum Exchange {
    /// The answer is whole.
    Answered {
        end: End,
        /// All was sent and all was read: the connection is where it was before.
        reusable: bool,
    },
    /// Not a byte of the request was taken by the other side: nothing was begun.
    NotTaken,
    /// It broke off; the script may have run.
    Broken(String),
}

/// Sends and receives at once: a script may answer before it has read all, and one that never reads must not keep its
/// answer from us.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite,
    request: &Request<'_>,
    answer: &mut Answer,
    sink: &mut (dyn FnMut(Stream, &str) + Send),
) -> Exchange {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::with_capacity(PIECE, read);
    let mut is_taken = false;
    let mut sent = None;
    let received = {
        let sending = send(&mut write, request, &mut is_taken);
        let receiving = receive(&mut read, answer, sink);
        tokio::pin!(sending, receiving);
        loop {
            tokio::select! {
                biased;
                result = &mut sending, if sent.is_none() => {
                    let failed = result.is_err();
                    sent = Some(result);
                    // What was answered before the other side left can still be read.
                    if !failed {
                        continue;
                    }
                }
                received = &mut receiving => break Some(received),
            }
            if matches!(&sent, Some(Err(failed)) if !failed.is_taken) {
                break None;
            }
        }
    };
    match (received, sent) {
        (Some(Ok(end)), sent) => Exchange::Answered {
            end,
            reusable: matches!(sent, Some(Ok(()))) && read.buffer().is_empty(),
        },
        (None, Some(Err(_))) => Exchange::NotTaken,
        (Some(Err(reason)), Some(Err(failed))) => Exchange::Broken(format!("{reason} ({})", failed.error)),
        (Some(Err(reason)), _) => Exchange::Broken(reason),
        (None, _) => Exchange::Broken("the request was not sent".to_owned()),
    }
}

/// Why sending ended, and whether anything had gone out by then.
struct SendError {
    error: io::Error,
    is_taken: bool,
}

async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    request: &Request<'_>,
    is_taken: &mut bool,
) -> Result<(), SendError> {
    // A small request goes out as a whole.
    let first = request.body.len().min(LONGEST);
    let (one, rest) = request.body.split_at(first);
    let mut bytes = Vec::with_capacity(request.head.len() + one.len() + 2 * HEADER_LENGTH);
    bytes.extend_from_slice(request.head);
    if !one.is_empty() {
        bytes.extend_from_slice(&body_header(one.len()));
        bytes.extend_from_slice(one);
    }
    if rest.is_empty() {
        bytes.extend_from_slice(&body_header(0));
    }
    write(stream, &bytes, is_taken).await?;
    for piece in rest.chunks(LONGEST) {
        write(stream, &body_header(piece.len()), is_taken).await?;
        write(stream, piece, is_taken).await?;
    }
    if !rest.is_empty() {
        write(stream, &body_header(0), is_taken).await?;
    }
    Ok(())
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], is_taken: &mut bool) -> Result<(), SendError> {
    while !bytes.is_empty() {
        let written = match stream.write(bytes).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
        let count = written.map_err(|error| SendError {
            error,
            is_taken: *is_taken,
        })?;
        *is_taken = true;
        bytes = &bytes[count..];
    }
    Ok(())
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    answer: &mut Answer,
    sink: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<End, String> {
    let mut piece = vec![0; PIECE];
    let mut begun = false;
    loop {
        let mut header = [0; HEADER_LENGTH];
        read(stream, &mut header, begun).await?;
        begun = true;
        let header = Header::decode(header).map_err(|wrong| format!("what answers is no FastCGI server: {wrong}"))?;
        if header.kind == Kind::End {
            let mut end = [0; END_LENGTH];
            read(stream, &mut end, true).await?;
            read(stream, &mut piece[..header.padding], true).await?;
            return Ok(End::decode(end));
        }
        let mut left = header.content;
        while left > 0 {
            let part = &mut piece[..left.min(PIECE)];
            read(stream, part, true).await?;
            answer
                .feed(header.kind, part, sink)
                .map_err(|wrong| format!("the script's answer is none: {wrong}"))?;
            left -= part.len();
        }
        read(stream, &mut piece[..header.padding], true).await?;
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), bytes: &mut [u8], begun: bool) -> Result<(), String> {
    let when = if begun {
        "in the middle of its answer"
    } else {
        "before it answered"
    };
    match stream.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(format!("php-fpm closed the connection {when}"))
        }
        Err(error) => Err(format!("the connection to php-fpm was lost {when}: {error}")),
    }
}
