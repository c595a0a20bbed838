//! XML-RPC: calls and answers, as JSON on our side.
//!
//! Whole numbers are `i4` where they fit and `i8` where not; `null` is `nil`. Both `i8` and `nil` are extensions that most
//! servers know. An answer's dates are text as they came, and its `base64` stays that. A member whose name is blank is not
//! read: the parser sees none.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dxr::{FaultResponse, MethodCall, MethodResponse, Value};

use super::json::Json;

/// Lists and structs may stand in each other so deep.
const DEPTH: usize = 40;
/// What that comes to in elements: three for each value in a list or struct, and those around them. The parser has a limit of
/// its own a little above.
const ELEMENTS_DEEP: usize = 3 * DEPTH + 6;
/// No longer call is made.
const LONGEST_CALL: usize = 16 << 20;

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A value.
    Value(Json),
    /// It says that it failed.
    Fault {
        /// Its code.
        code: i32,
        /// What it says of it.
        text: String,
    },
}

/// The XML of a call, or why there can be none.
pub fn call(method: &str, arguments: &[Json]) -> Result<String, String> {
    check_text(method, "the method's name")?;
    let params = arguments
        .iter()
        .map(|argument| to_value(argument, 0))
        .collect::<Result<_, _>>()?;
    let call = MethodCall {
        name: method.into(),
        params,
    };
    let xml = call
        .to_xml()
        .map_err(|_| "the call cannot be written as XML".to_owned())?;
    if xml.len() > LONGEST_CALL {
        return Err(format!(
            "the call has {} bytes of XML; no more than {LONGEST_CALL} are sent",
            xml.len()
        ));
    }
    // A reader takes a bare carriage return for a line's end. They stand nowhere but in texts.
    Ok(format!("<?xml version=\"1.0\"?>{}", xml.replace('\r', "&#13;")))
}

/// Reads an answer. Nothing in it is looked up or expanded, and nothing nests deeper than is good.
pub fn answer(body: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let unreadable = || "the answer is not one of XML-RPC".to_owned();
    if has_fault(text)? {
        let FaultResponse { fault } = FaultResponse::from_xml(text).map_err(|_| unreadable())?;
        return Ok(Answer::Fault {
            code: fault.code(),
            text: fault.string().to_owned(),
        });
    }
    let MethodResponse { value } = MethodResponse::from_xml(text).map_err(|_| unreadable())?;
    Ok(Answer::Value(to_json(value)?))
}

fn to_value(json: &Json, depth: usize) -> Result<Value, String> {
    if depth >= DEPTH {
        return Err(format!("the arguments nest more than {DEPTH} deep"));
    }
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Int(value) => i32::try_from(*value).map_or(Value::Long(*value), Value::Integer),
        Json::Float(value) => Value::Double(*value),
        Json::Text(text) => {
            check_text(text, "an argument")?;
            Value::String(text.clone())
        }
        Json::List(items) => Value::Array(
            items
                .iter()
                .map(|item| to_value(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Json::Map(entries) => {
            let mut members = BTreeMap::new();
            for (name, value) in entries {
                check_text(name, "a key")?;
                members.insert(name.clone(), to_value(value, depth + 1)?);
            }
            Value::Struct(members)
        }
    })
}

/// XML has no way to write most control characters.
fn check_text(text: &str, what: &str) -> Result<(), String> {
    let odd = text
        .chars()
        .find(|c| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'));
    match odd {
        Some(odd) => Err(format!(
            "{what} holds the character U+{:04X}, which XML cannot carry",
            u32::from(odd)
        )),
        None => Ok(()),
    }
}

fn to_json(value: Value) -> Result<Json, String> {
    Ok(match value {
        Value::Integer(value) => Json::Int(value.into()),
        Value::Long(value) => Json::Int(value),
        Value::Boolean(value) => Json::Bool(value),
        Value::String(text) => Json::Text(text),
        // JSON has no number for these.
        Value::Double(value) if !value.is_finite() => Json::Text(value.to_string()),
        Value::Double(value) => Json::Float(value),
        Value::DateTime(time) => Json::Text(format!(
            "{:04}{:02}{:02}T{:02}:{:02}:{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        )),
        Value::Base64(bytes) => Json::Text(STANDARD.encode(bytes)),
        Value::Array(items) => Json::List(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Struct(members) => Json::Map(
            members
                .into_iter()
                .map(|(name, value)| Ok((name, to_json(value)?)))
                .collect::<Result<_, String>>()?,
        ),
        Value::Nil => Json::Null,
        _ => return Err("the answer holds a value of an unknown type".to_owned()),
    })
}

/// Looks over an answer before anything builds it up: refuses a document type, in which entities would be declared, and
/// elements that nest too deep. Says whether it is a fault.
fn has_fault(text: &str) -> Result<bool, String> {
    let broken = || "the answer is not well-formed XML".to_owned();
    let past = |rest: &'_ str, end: &str| rest.find(end).map(|at| at + end.len()).ok_or_else(broken);
    let mut rest = text;
    let mut depth = 0_usize;
    let mut fault = None;
    let mut root = None;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if rest.starts_with("<!--") {
            rest = &rest[past(rest, "-->")?..];
        } else if rest.starts_with("<![CDATA[") {
            rest = &rest[past(rest, "]]>")?..];
        } else if rest.starts_with("<!") {
            return Err("the answer declares a document type, which is not read".to_owned());
        } else if rest.starts_with("<?") {
            rest = &rest[past(rest, "?>")?..];
        } else {
            let end = tag_end(rest).ok_or_else(broken)?;
            let tag = &rest[1..end];
            rest = &rest[end + 1..];
            let name = tag.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default();
            if tag.starts_with('/') {
                depth = depth.checked_sub(1).ok_or_else(broken)?;
                continue;
            }
            match depth {
                0 => root = root.or(Some(name)),
                1 => fault = fault.or(Some(name == "fault")),
                ELEMENTS_DEEP.. => return Err(format!("the answer nests more than {DEPTH} deep")),
                _ => {}
            }
            if !tag.ends_with('/') {
                depth += 1;
            }
        }
    }
    if root != Some("methodResponse") {
        return Err("the answer is not one of XML-RPC".to_owned());
    }
    Ok(fault == Some(true))
}

/// Where a tag ends: at the first `>` outside of quotes.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    text.bytes().enumerate().find_map(|(at, byte)| {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
        None
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    use super::{Answer, DEPTH, answer, call};
    use crate::wire::json::Json;

    fn of(json: &str) -> Json {
        Json::parse(json.as_bytes()).unwrap()
    }

    fn response(value: &str) -> Vec<u8> {
        format!("<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n</param></params></methodResponse>")
            .into_bytes()
    }

    fn value(xml: &str) -> Json {
        match answer(&response(xml)) {
            Ok(Answer::Value(value)) => value,
            other => panic!("{xml}: {other:?}"),
        }
    }

    #[test]
    fn a_call_is_written_as_the_specification_says() {
        let arguments = [
            of(r#"[1,"a<b&\"c\"",true,null,1.5,3000000000]"#),
            of(r#"{"k":{"l":[]}}"#),
        ];
        assert_eq!(
            call("sum.up", &arguments).unwrap(),
            "<?xml version=\"1.0\"?><methodCall><methodName>sum.up</methodName><params><param><value><array><data>\
             <value><i4>1</i4></value><value><string>a&lt;b&amp;&quot;c&quot;</string></value><value><boolean>1</boolean></value>\
             <value><nil></nil></value><value><double>1.5</double></value><value><i8>3000000000</i8></value>\
             </data></array></value></param><param><value><struct><member><name>k</name><value><struct><member><name>l</name>\
             <value><array><data></data></array></value></member></struct></value></member></struct></value></param></params></methodCall>"
        );
        assert_eq!(
            call("ping", &[]).unwrap(),
            "<?xml version=\"1.0\"?><methodCall><methodName>ping</methodName></methodCall>"
        );
    }

    #[test]
    fn what_xml_cannot_carry_is_not_sent() {
        for text in ["\0", "a\u{8}", "\u{b}", "\u{1f}", "\u{ffff}"] {
            let error = call("m", &[Json::Text(text.to_owned())]).unwrap_err();
            assert!(error.contains("which XML cannot carry"), "{error}");
            assert!(call(text, &[]).is_err());
            assert!(call("m", &[Json::Map(vec![(text.to_owned(), Json::Null)])]).is_err());
        }
        let nested = |depth| (0..depth).fold(Json::Int(1), |inner, _| Json::List(vec![inner]));
        assert!(call("m", &[nested(DEPTH - 1)]).is_ok());
        assert!(call("m", &[nested(DEPTH)]).unwrap_err().contains("40 deep"));
    }

    #[test]
    fn answers_become_json() {
        for (xml, json) in [
            ("<int>5</int>", "5"),
            ("<i4>-5</i4>", "-5"),
            ("<i8>3000000000</i8>", "3000000000"),
            ("<boolean>1</boolean>", "true"),
            ("<string>a&lt;b&#65;</string>", "\"a<bA\""),
            ("<string></string>", "\"\""),
            ("<string><![CDATA[<x>]]></string>", "\"<x>\""),
            ("bare", "\"bare\""),
            ("", "\"\""),
            ("<double>1.5</double>", "1.5"),
            ("<double>nan</double>", "\"NaN\""),
            ("<nil/>", "null"),
            ("<struct/>", "{}"),
            ("<struct>\n</struct>", "{}"),
            ("<array><data/></array>", "[]"),
            (
                "<dateTime.iso8601>20240102T03:04:05</dateTime.iso8601>",
                "\"20240102T03:04:05\"",
            ),
            ("<base64>AAEC</base64>", "\"AAEC\""),
            (
                "<array><data><value><int>1</int></value><value>x</value></data></array>",
                "[1,\"x\"]",
            ),
            (
                "<struct><member><name>a</name><value><int>1</int></value></member></struct>",
                "{\"a\":1}",
            ),
        ] {
            assert_eq!(value(xml), of(json), "{xml}");
        }
    }

    #[test]
    fn faults_are_told_from_values() {
        let fault = |code: &str| {
            format!(
                "<methodResponse><fault><value><struct><member><name>faultCode</name><value>{code}</value></member><member>\
                 <name>faultString</name><value><string>Too many &lt;parameters&gt;.</string></value></member></struct></value>\
                 </fault></methodResponse>"
            )
        };
        let expected = Answer::Fault {
            code: 4,
            text: "Too many <parameters>.".to_owned(),
        };
        assert_eq!(answer(fault("<int>4</int>").as_bytes()).unwrap(), expected);
        assert!(answer(fault("<string>x</string>").as_bytes()).is_err());
        // The word alone makes none.
        assert_eq!(value("<string>&lt;fault&gt;</string>"), of("\"<fault>\""));
    }

    #[test]
    fn answers_that_mean_harm_are_refused() {
        let laughs = "<!DOCTYPE lolz [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]>\
                      <methodResponse><params><param><value><string>&b;</string></value></param></params></methodResponse>";
        let deep = |depth: usize| {
            let open = "<array><data><value>".repeat(depth);
            let close = "</value></data></array>".repeat(depth);
            response(&format!("{open}{close}"))
        };
        assert!(answer(&deep(DEPTH)).is_ok());
        for (body, expected) in [
            (laughs.as_bytes().to_vec(), "document type"),
            (
                b"<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><methodResponse/>".to_vec(),
                "document type",
            ),
            (response("<string>&unknown;</string>"), "not one of XML-RPC"),
            (deep(1000), "40 deep"),
            ("<a>".repeat(1_000_000).into_bytes(), "40 deep"),
            ("<methodResponse>".repeat(1_000_000).into_bytes(), "40 deep"),
            (
                b"<html><body>502 Bad Gateway</body></html>".to_vec(),
                "not one of XML-RPC",
            ),
            (b"<methodResponse></methodResponse>".to_vec(), "not one of XML-RPC"),
            (b"<methodResponse><params><param>".to_vec(), "not one of XML-RPC"),
            (response("<int>99999999999</int>"), "not one of XML-RPC"),
            (response("<int>1</int><int>2</int>"), "not one of XML-RPC"),
            (response("<wrong>1</wrong>"), "not one of XML-RPC"),
            (b"<methodResponse".to_vec(), "not well-formed"),
            (b"</x>".to_vec(), "not well-formed"),
            (b"\xff\xfe".to_vec(), "not UTF-8"),
            (b"".to_vec(), "not one of XML-RPC"),
        ] {
            let error = answer(&body).unwrap_err();
            assert!(
                error.contains(expected),
                "{}: {error}",
                String::from_utf8_lossy(&body[..body.len().min(80)])
            );
        }
    }

    fn json() -> impl Strategy<Value = Json> {
        let name = "[a-z &<\\r\\n]{0,5}[a-z]";
        let text = "[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\u{fffe}\\u{ffff}]*";
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::Int),
            any::<i32>().prop_map(|value| Json::Int(value.into())),
            any::<f64>()
                .prop_filter("finite", |value| value.is_finite())
                .prop_map(Json::Float),
            text.prop_map(Json::Text),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
                prop::collection::btree_map(name, inner, 1..6).prop_map(|map| Json::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What is sent as an argument comes back the same where a server answers with it.
        #[test]
        fn values_come_back(json in json()) {
            let xml = call("m", std::slice::from_ref(&json)).unwrap();
            let params = xml.split_once("</methodName>").unwrap().1.split_once("</methodCall>").unwrap().0;
            let body = format!("<methodResponse>{params}</methodResponse>");
            proptest::prop_assert_eq!(answer(body.as_bytes()), Ok(Answer::Value(json)));
        }

        #[test]
        fn no_answer_panics(bytes in any::<Vec<u8>>(), text in "(<(/)?(methodResponse|params|param|value|array|data|struct|member|name|int|fault)(/)?>|x|&|<!|<!--|-->){0,30}") {
            let _ = answer(&bytes);
            let _ = answer(text.as_bytes());
        }
    }
}
