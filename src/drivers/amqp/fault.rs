//! What the client library reports, in qctl's words: which of the broker's answers is what kind of error, and what to do next.

use std::io;

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::address::{Address, Mechanism};
use super::link::Stage;
use crate::error::{Error, ErrorKind};

/// A broker that is not asked to take certificates for logins says nothing of it.
pub(super) const EXTERNAL: &str = "does it take certificates for logins (`mechanism: external`; RabbitMQ's plugin \
                                   rabbitmq_auth_mechanism_ssl and `auth_mechanisms`)?";

/// The broker's own answer, if that is what the error holds.
pub(super) fn answer(error: &lapin::Error) -> Option<&AMQPError> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(answer) => Some(answer),
        _ => None,
    }
}

/// Whether the broker answered with this soft error.
pub(super) fn is_soft(error: &lapin::Error, soft: &AMQPSoftError) -> bool {
    answer(error).is_some_and(|answer| matches!(answer.kind(), AMQPErrorKind::Soft(kind) if kind == soft))
}

/// A connection could not be made.
pub(super) fn connecting(error: &lapin::Error, endpoint: &str, address: &Address, stage: Stage) -> Error {
    let vhost = &address.vhost;
    if let Some(answer) = answer(error) {
        return match answer.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Error::not_allowed(format!(
                "{endpoint}: the broker refuses this login; check login and password"
            )),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                let said = answer.get_message().to_string();
                if said.contains("not found") {
                    Error::not_found(format!(
                        "{endpoint}: the broker has no vhost `{vhost}`; check vhost, or make it with `rabbitmqctl add_vhost`"
                    ))
                } else if said.contains("limit") {
                    Error::unavailable(format!(
                        "{endpoint}: the broker takes no more connections ({}); end others, or raise the limit",
                        told(answer)
                    ))
                } else {
                    Error::not_allowed(format!(
                        "{endpoint}: the login may not use the vhost `{vhost}`; give it permissions with `rabbitmqctl \
                         set_permissions`"
                    ))
                }
            }
            _ => Error::unavailable(format!(
                "{endpoint}: the broker refuses the connection: {}",
                told(answer)
            )),
        };
    }
    let (what, next) = match (error.kind(), stage) {
        (lapin::ErrorKind::IOError(io), Stage::Reaching) => match io.kind() {
            io::ErrorKind::ConnectionRefused => ("connection refused", "is the broker running, and is this its port?"),
            io::ErrorKind::TimedOut => ("no answer in time", "is the host right, and is a firewall in between?"),
            _ => ("cannot be reached", "check host and port"),
        },
        (lapin::ErrorKind::IOError(io), Stage::Encrypting) => tls(io),
        (lapin::ErrorKind::IOError(io), Stage::Greeting) if reason(io).is_some() => tls(io),
        (lapin::ErrorKind::IOError(_), Stage::Greeting) if address.mechanism == Mechanism::External => {
            ("the broker closed the connection before the login was done", EXTERNAL)
        }
        (lapin::ErrorKind::IOError(_), Stage::Greeting) => (
            "the broker closed the connection before the login was done",
            "is this an AMQP port, and not one for TLS (amqps)?",
        ),
        (lapin::ErrorKind::ParsingError(_), _) => (
            "what answers there does not speak AMQP",
            "is this an AMQP port, and not one for TLS (amqps)?",
        ),
        _ => ("the connection could not be made", "is this an AMQP port?"),
    };
    Error::unavailable(format!("{endpoint}: {what}; {next}")).because(cause(error))
}

/// What TLS itself complains of.
fn reason(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A TLS handshake that failed: what happened, and what to do next.
fn tls(error: &io::Error) -> (&'static str, &'static str) {
    use rustls::CertificateError as Certificate;
    match reason(error) {
        Some(rustls::Error::InvalidCertificate(Certificate::UnknownIssuer)) => (
            "its certificate is not signed by anybody who is trusted here",
            "name who signed it in `tls: ca_file`",
        ),
        Some(rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        )) => (
            "its certificate is for another name",
            "connect by a name that it carries, or say that name in `tls: server_name`",
        ),
        Some(rustls::Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        )) => (
            "its certificate is not valid at this time",
            "have it renewed, or set this machine's clock",
        ),
        Some(rustls::Error::InvalidCertificate(_)) => ("its certificate cannot be trusted", "see to its certificate"),
        Some(rustls::Error::AlertReceived(_)) => (
            "the broker ended the TLS handshake",
            "does it ask for a certificate of ours (`tls: cert_file` and `key_file`), signed by somebody whom it trusts?",
        ),
        Some(rustls::Error::InvalidMessage(_)) => (
            "what answers does not speak TLS",
            "is this the broker's TLS port, or should the URL begin with amqp?",
        ),
        _ => (
            "the TLS handshake failed",
            "is this the broker's TLS port, or should the URL begin with amqp?",
        ),
    }
}

/// The connection or a channel is gone.
pub(super) fn lost(error: &lapin::Error, endpoint: &str) -> Error {
    let what = match (answer(error), error.kind()) {
        (Some(answer), _) => told(answer),
        (None, lapin::ErrorKind::MissingHeartbeatError) => {
            "the broker has sent nothing for two heartbeats; it hangs, or the network does".to_owned()
        }
        (None, lapin::ErrorKind::IOError(io)) => match io.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                "the connection was cut".to_owned()
            }
            _ => format!("the connection broke: {io}"),
        },
        (None, lapin::ErrorKind::ParsingError(_)) => {
            "what the broker sent cannot be read; a message with a property that is not UTF-8 may stand at the head of the \
             queue"
                .to_owned()
        }
        _ => "the connection is gone".to_owned(),
    };
    Error::unavailable(format!("{endpoint}: {what}"))
}

/// An operation was refused, or its connection was lost meanwhile; `what` says which one, such as `queue mail`.
pub(super) fn refused(error: &lapin::Error, endpoint: &str, what: &str) -> Error {
    let Some(answer) = answer(error) else {
        return lost(error, endpoint);
    };
    let (kind, next) = match answer.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => (
            ErrorKind::NotFound,
            "check the name, or declare it with `qctl managequeue declare`",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => (
            ErrorKind::NotAllowed,
            "give the login permissions with `rabbitmqctl set_permissions`",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => (
            ErrorKind::Temporary,
            "it belongs to another connection alone; end that one first",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => (
            ErrorKind::Config,
            "say in the configuration what is there, or use another name",
        ),
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => (ErrorKind::Unavailable, "try again"),
        AMQPErrorKind::Hard(AMQPHardError::NOTIMPLEMENTED) => (ErrorKind::Unsupported, "this broker cannot do it"),
        _ => (ErrorKind::Protocol, "see the broker's log"),
    };
    Error::new(kind, format!("{what}: {}; {next}", told(answer)))
}

/// The broker's sentence, without the name of its error before it.
pub(super) fn told(answer: &AMQPError) -> String {
    let text = answer.get_message().to_string();
    match text.split_once(" - ") {
        Some((name, said)) if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') => said.to_owned(),
        _ => text,
    }
}

fn cause(error: &lapin::Error) -> io::Error {
    match error.kind() {
        lapin::ErrorKind::IOError(io) => io::Error::new(io.kind(), io.to_string()),
        _ => io::Error::other(error.to_string()),
    }
}
