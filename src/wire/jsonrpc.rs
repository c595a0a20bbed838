//! JSON-RPC 2.0, one object a line: what a consumer and its persistent workers say to each other. `docs/workers.md` is the
//! protocol for those who write one.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A request, or, without an id, a notification.
#[derive(Serialize)]
struct Written<'a, P: Serialize, M: Serialize> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    params: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a M>,
}

/// The line of a request, its line feed included. `message` is a member of its own beside `params`, so that a call's own
/// arguments need not make room for what is known of the message.
pub fn request<P: Serialize, M: Serialize>(id: u64, method: &str, params: &P, message: &M) -> Result<Vec<u8>, String> {
    line(&Written {
        jsonrpc: "2.0",
        id: Some(id),
        method,
        params,
        message: Some(message),
    })
}

fn line<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut line = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    // JSON holds no line feed of its own: those in texts are escaped.
    line.push(b'\n');
    Ok(line)
}

/// What a worker says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// It is ready.
    Ready,
    /// An answer.
    Answer {
        /// Of the request with this id.
        id: u64,
        /// The result as JSON text, or what went wrong.
        result: Result<String, RpcError>,
    },
    /// Nothing that the protocol knows.
    Noise,
}

/// What went wrong with a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpcError {
    /// As JSON-RPC numbers them.
    pub code: i64,
    /// In words.
    pub message: String,
    /// Whether another try may help, where it is said.
    pub retry: Option<bool>,
    /// After so many seconds, where it is said.
    pub retry_after: Option<f64>,
}

impl RpcError {
    /// Whether another try may help: as it says, and else unless the request itself is at fault.
    pub fn may_be_tried_again(&self) -> bool {
        self.retry.unwrap_or(!matches!(self.code, -32_700 | -32_602..=-32_600))
    }
}

#[derive(Deserialize)]
struct Heard<'a> {
    #[serde(borrow)]
    jsonrpc: std::borrow::Cow<'a, str>,
    id: Option<u64>,
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    /// There even when it is `null`.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<HeardError>,
}

#[derive(Deserialize)]
struct HeardError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: serde_json::Value,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a line of a worker's, without its line feed.
pub fn said(line: &[u8]) -> Said {
    // What does not begin so is no object; most noise is told here.
    if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Said::Noise;
    }
    let Ok(heard) = serde_json::from_slice::<Heard<'_>>(line) else {
        return Said::Noise;
    };
    if heard.jsonrpc != "2.0" {
        return Said::Noise;
    }
    match (heard.method.as_deref(), heard.id, heard.result, heard.error) {
        (Some("ready"), None, None, None) => Said::Ready,
        (None, Some(id), Some(result), None) => Said::Answer {
            id,
            result: Ok(result.get().to_owned()),
        },
        // `"result": null` beside an error is how version 1 wrote it.
        (None, Some(id), result, Some(error)) if result.is_none_or(|result| result.get() == "null") => Said::Answer {
            id,
            result: Err(RpcError {
                retry: error.data.get("retry").and_then(serde_json::Value::as_bool),
                retry_after: error.data.get("retry_after").and_then(serde_json::Value::as_f64),
                code: error.code,
                message: error.message,
            }),
        },
        _ => Said::Noise,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn answer(text: &str) -> (u64, Result<String, RpcError>) {
        match said(text.as_bytes()) {
            Said::Answer { id, result } => (id, result),
            other => panic!("{other:?} for {text}"),
        }
    }

    #[test]
    fn a_request_is_one_line() {
        let params = serde_json::json!({"body": "a\nb"});
        let line = request(7, "handle", &params, &serde_json::json!({"id": "m"})).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"handle\",\"params\":{\"body\":\"a\\nb\"},\"message\":{\"id\":\"m\"}}\n"
        );
    }

    #[test]
    fn answers_and_the_word_ready_are_understood() {
        assert_eq!(said(br#"{"jsonrpc":"2.0","method":"ready"}"#), Said::Ready);
        assert_eq!(
            said(br#" {"jsonrpc":"2.0","method":"ready","params":{"pid":5}} "#),
            Said::Ready
        );
        assert_eq!(
            answer(r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            (1, Ok("null".to_owned()))
        );
        assert_eq!(
            answer("{\"id\":2,\"result\":{\"a\":[1]},\"jsonrpc\":\"2.0\"}\r"),
            (2, Ok("{\"a\":[1]}".to_owned()))
        );
        let (id, error) = answer(
            r#"{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"no","data":{"retry":false,"retry_after":2}}}"#,
        );
        let error = error.unwrap_err();
        assert_eq!((id, error.code, error.message.as_str()), (3, 1, "no"));
        assert_eq!((error.retry, error.retry_after), (Some(false), Some(2.0)));
        assert!(!error.may_be_tried_again());
    }

    #[test]
    fn only_faults_of_the_request_are_final_by_themselves() {
        for (code, again) in [
            (-32_700, false),
            (-32_600, false),
            (-32_601, false),
            (-32_602, false),
            (-32_603, true),
            (1, true),
        ] {
            let error = RpcError {
                code,
                ..RpcError::default()
            };
            assert_eq!(error.may_be_tried_again(), again, "{code}");
        }
    }

    #[test]
    fn all_else_is_noise() {
        for text in [
            "",
            "Notice: undefined",
            "null",
            "[]",
            r#"{"id":1,"result":1}"#,
            r#"{"jsonrpc":"1.0","id":1,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":-1,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"result":2}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1"#,
            r#"{"jsonrpc":"2.0","method":"started","id":1}"#,
        ] {
            assert_eq!(said(text.as_bytes()), Said::Noise, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in any::<Vec<u8>>(), text in "\\{\"jsonrpc\":\"2.0\",.{0,60}") {
            let _ = said(&line);
            let _ = said(text.as_bytes());
        }
    }
}
