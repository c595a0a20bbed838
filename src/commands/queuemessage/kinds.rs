//! Bodies built from words, and the routing keys that belong to them.

use super::Kind;
use crate::error::{Error, Result};
use crate::handlers::http;
use crate::wire::json::Json;
use crate::wire::kaliop::{ConsoleCommand, HttpRequest, ServiceCall, XmlRpcCall};

/// The body of this kind and its own routing key.
pub(super) fn build(kind: Kind, words: &[String]) -> Result<(Vec<u8>, String)> {
    match (kind, words) {
        (Kind::Command, [command, arguments @ ..]) => {
            let call = ConsoleCommand::from_command_line(command, arguments)?;
            Ok((call.body(), call.routing_key()))
        }
        (Kind::Http, [url, options @ ..]) => {
            let options = options
                .iter()
                .map(|option| http_option(option))
                .collect::<Result<Vec<_>>>()?;
            let call = HttpRequest {
                url: url.clone(),
                options,
            };
            Ok((call.body(), call.routing_key()))
        }
        (Kind::Xmlrpc, [server, method, arguments @ ..]) => {
            let call = XmlRpcCall {
                server: server.clone(),
                method: method.clone(),
                arguments: arguments.iter().map(|argument| typed(argument)).collect(),
            };
            Ok((call.body(), call.routing_key()))
        }
        (Kind::Service, [service, method, arguments @ ..]) => {
            let call = ServiceCall {
                service: service.clone(),
                method: method.clone(),
                arguments: arguments.iter().map(|argument| typed(argument)).collect(),
            };
            Ok((call.body(), call.routing_key()))
        }
        _ => Err(Error::usage(format!("--kind {} needs {}", name(kind), needs(kind)))),
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "command",
        Kind::Http => "http",
        Kind::Xmlrpc => "xmlrpc",
        Kind::Service => "service",
    }
}

fn needs(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "COMMAND [ARGS]...",
        Kind::Http => "URL [OPTION=VALUE]...",
        Kind::Xmlrpc => "SERVER METHOD [ARGS]...",
        Kind::Service => "SERVICE METHOD [ARGS]...",
    }
}

/// A number may be any of cURL's, since others read it too; a name must be one that qctl knows.
fn http_option(text: &str) -> Result<(String, Json)> {
    let shown = || crate::output::one_line(text);
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(Error::usage(format!(
            "'{}' is not an option of an http call; write NAME=VALUE such as timeout=5, or CURLOPT_NUMBER=VALUE such as 13=5",
            shown()
        )));
    };
    if !name.bytes().all(|byte| byte.is_ascii_digit()) && !http::is_option(name) {
        return Err(Error::usage(format!(
            "'{}': an http call has no such option; there are method, headers, body, json, timeout and more, and the numbers \
             of cURL's, such as 13=5 for a time-out of 5 seconds",
            shown()
        )));
    }
    Ok((name.to_owned(), typed(value)))
}

/// What a word means: JSON where it is, else text.
fn typed(word: &str) -> Json {
    Json::parse(word.as_bytes()).unwrap_or_else(|_| Json::Text(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_types() {
        assert_eq!(typed("1"), Json::Int(1));
        assert_eq!(typed("hi"), Json::Text("hi".to_owned()));
        assert_eq!(typed("\"1\""), Json::Text("1".to_owned()));
        assert!(http_option("timeuot=5").is_err() && http_option("timeout").is_err() && http_option("=5").is_err());
        assert_eq!(
            http_option("timeout=5").expect("an option"),
            ("timeout".to_owned(), Json::Int(5))
        );
        assert_eq!(http_option("13=5").expect("an option"), ("13".to_owned(), Json::Int(5)));
    }

    #[test]
    fn missing_words_are_named() {
        let error = build(Kind::Xmlrpc, &["http://h".to_owned()]).expect_err("no method");
        assert_eq!(error.to_string(), "--kind xmlrpc needs SERVER METHOD [ARGS]...");
    }
}
