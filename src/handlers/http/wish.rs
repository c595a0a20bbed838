//! What a message asks for beyond its URL.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::handlers::fenced::header;
use crate::web::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use crate::wire::json::Json;

/// So many headers are taken of a message …
const MOST_HEADERS: usize = 100;
/// … and so many bytes in them.
const HEADER_BYTES: usize = 64 << 10;
/// What stands for itself in a form.
const FIELD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the options come to.
#[derive(Debug, Default)]
pub(super) struct Wish {
    method: Option<Method>,
    get: bool,
    post: bool,
    head: bool,
    body: Option<Vec<u8>>,
    /// Of the body, where no header says it.
    body_type: Option<&'static str>,
    headers: HeaderMap,
    /// Not to be sent.
    without: Vec<HeaderName>,
    user: Option<String>,
    password: Option<String>,
    bearer: Option<String>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    follow: Option<bool>,
    max_redirects: Option<u32>,
}

impl Wish {
    /// The request for this URL.
    pub(super) fn request(mut self, url: String, keep: usize) -> Result<Request, String> {
        if self.get && self.body.is_some() {
            return Err("GET is asked for, and there is a body".to_owned());
        }
        let method = match self.method.take() {
            Some(method) => method,
            None if self.head => Method::HEAD,
            None if self.post || self.body.is_some() => Method::POST,
            None => Method::GET,
        };
        if let Some(body_type) = self.body_type {
            self.headers
                .entry("content-type")
                .or_insert(HeaderValue::from_static(body_type));
        }
        let login = match (self.user, self.password, self.bearer) {
            (None, None, None) => None,
            (None, None, Some(token)) => Some(format!("Bearer {token}")),
            (Some(user), password, None) => {
                if user.contains(':') {
                    return Err("the user of a login holds a colon".to_owned());
                }
                Some(basic(&user, &password.unwrap_or_default()))
            }
            (None, Some(_), _) => return Err("there is a password and no user".to_owned()),
            (Some(_), _, Some(_)) => return Err("there are two logins, a user and a bearer token".to_owned()),
        };
        if let Some(login) = login {
            let (name, value) = header("authorization", &login)?;
            if self.headers.insert(name, value).is_some() {
                return Err("there are two logins, one of them a header".to_owned());
            }
        }
        for name in &self.without {
            self.headers.remove(name);
        }
        let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        if self.headers.len() > MOST_HEADERS || self.headers.iter().map(bytes).sum::<usize>() > HEADER_BYTES {
            return Err(format!(
                "there are more than {MOST_HEADERS} headers, or {} KiB of them",
                HEADER_BYTES >> 10
            ));
        }
        Ok(Request {
            method,
            url,
            headers: self.headers,
            body: self.body.unwrap_or_default(),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            redirects: if self.follow == Some(false) {
                Some(0)
            } else {
                self.max_redirects
            },
            keep,
        })
    }

    fn set_body(&mut self, body: Vec<u8>, body_type: Option<&'static str>) -> Result<(), String> {
        if self.body.is_some() {
            return Err("the request has a body already".to_owned());
        }
        self.body = Some(body);
        self.body_type = body_type;
        Ok(())
    }

    fn set_method(&mut self, method: Method) -> Result<(), String> {
        if self.method.is_some() {
            return Err("the request has a method already".to_owned());
        }
        self.method = Some(method);
        Ok(())
    }

    fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (name, value) = header(name, value)?;
        self.headers
            .try_append(name, value)
            .map(drop)
            .map_err(|_| "there are too many headers".to_owned())
    }

    fn set_header(&mut self, name: &str, value: &Json) -> Result<(), String> {
        let (name, value) = header(name, &text(value)?)?;
        if self.headers.insert(name, value).is_some() {
            return Err("the header is given twice".to_owned());
        }
        Ok(())
    }
}

/// The login of HTTP Basic.
pub(in crate::handlers) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn text(value: &Json) -> Result<String, String> {
    match value {
        Json::Text(_) | Json::Int(_) | Json::Float(_) => Ok(value.to_php_string().unwrap_or_default()),
        other => Err(format!("must be text, not {}", other.kind())),
    }
}

/// True or false, also as PHP's 0 and 1.
fn truth(value: &Json) -> Result<bool, String> {
    match value {
        Json::Bool(value) => Ok(*value),
        Json::Int(0) => Ok(false),
        Json::Int(1) => Ok(true),
        Json::Text(text) if text == "0" || text == "1" => Ok(text == "1"),
        _ => Err("must be true or false".to_owned()),
    }
}

fn whole(value: &Json) -> Result<i64, String> {
    let number = match value {
        Json::Int(number) => Some(*number),
        Json::Bool(value) => Some(i64::from(*value)),
        Json::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "must be a whole number".to_owned())
}

/// Some of this unit; 0 is as if nothing had been said.
fn time(value: &Json, unit: fn(u64) -> Duration) -> Result<Option<Duration>, String> {
    // A day is longer than any handler waits, and short enough to count with.
    const MOST: u64 = 86_400_000;
    if let Json::Float(seconds) = value
        && (0.0..=MOST as f64).contains(seconds)
    {
        return Ok(Some(unit(1).mul_f64(*seconds)).filter(|time| !time.is_zero()));
    }
    let number = u64::try_from(whole(value)?).map_err(|_| "must not be negative".to_owned())?;
    Ok((number > 0).then(|| unit(number.min(MOST))))
}

pub(super) fn nothing(_: &mut Wish, _: &Json) -> Result<(), String> {
    Ok(())
}

pub(super) fn method(wish: &mut Wish, value: &Json) -> Result<(), String> {
    let name = text(value)?.to_ascii_uppercase();
    named_method(wish, &name)
}

pub(super) fn custom_method(wish: &mut Wish, value: &Json) -> Result<(), String> {
    named_method(wish, &text(value)?)
}

fn named_method(wish: &mut Wish, name: &str) -> Result<(), String> {
    let short = name.len() <= 32;
    let method = Method::from_bytes(name.as_bytes()).ok().filter(|_| short);
    let method = method.ok_or_else(|| "must be a method such as PUT".to_owned())?;
    if method.as_str().eq_ignore_ascii_case("CONNECT") || method.as_str().eq_ignore_ascii_case("TRACE") {
        return Err(format!("the method {method} is refused"));
    }
    wish.set_method(method)
}

pub(super) fn get(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.get = truth(value)?;
    Ok(())
}

pub(super) fn post(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.post = truth(value)?;
    Ok(())
}

pub(super) fn no_body(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.head = truth(value)?;
    Ok(())
}

pub(super) fn headers(wish: &mut Wish, value: &Json) -> Result<(), String> {
    match value {
        Json::Map(entries) => entries
            .iter()
            .try_for_each(|(name, value)| wish.add_header(name, &text(value)?)),
        value => header_lines(wish, value),
    }
}

pub(super) fn header_lines(wish: &mut Wish, value: &Json) -> Result<(), String> {
    // A PHP array that had gaps comes as an object.
    let lines: Vec<&Json> = match value {
        Json::List(lines) => lines.iter().collect(),
        Json::Map(lines) if lines.iter().all(|(key, _)| key.parse::<u32>().is_ok()) => {
            lines.iter().map(|(_, line)| line).collect()
        }
        other => return Err(format!("must be a list of lines, not {}", other.kind())),
    };
    for line in lines {
        let line = text(line)?;
        match line.split_once(':') {
            Some((name, value)) if !value.trim().is_empty() => {
                wish.add_header(name, value.trim_matches([' ', '\t']))?
            }
            Some((name, _)) => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a line has no name".to_owned())?;
                wish.without.push(name);
            }
            None => match line.strip_suffix(';') {
                Some(name) => wish.add_header(name, "")?,
                None => return Err("a line is not of the form `Name: value`".to_owned()),
            },
        }
    }
    Ok(())
}

pub(super) fn body(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_body(text(value)?.into_bytes(), None)
}

pub(super) fn json(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_body(value.encode_objects().into_bytes(), Some("application/json"))
}

pub(super) fn form(wish: &mut Wish, value: &Json) -> Result<(), String> {
    let fields = match value {
        Json::Map(fields) => fields.as_slice(),
        Json::List(items) if items.is_empty() => &[],
        other => return Err(format!("must be an object of fields, not {}", other.kind())),
    };
    let mut body = String::new();
    for (name, value) in fields {
        let value = value
            .to_php_string()
            .ok_or_else(|| format!("a field is {}, not a scalar", value.kind()))?;
        if !body.is_empty() {
            body.push('&');
        }
        body.extend(utf8_percent_encode(name, FIELD));
        body.push('=');
        body.extend(utf8_percent_encode(&value, FIELD));
    }
    wish.set_body(body.into_bytes(), Some("application/x-www-form-urlencoded"))
}

pub(super) fn post_fields(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_body(text(value)?.into_bytes(), Some("application/x-www-form-urlencoded"))
}

pub(super) fn timeout(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.timeout, time(value, Duration::from_secs)?);
    Ok(())
}

pub(super) fn timeout_ms(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.timeout, time(value, Duration::from_millis)?);
    Ok(())
}

pub(super) fn connect_timeout(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.connect_timeout, time(value, Duration::from_secs)?);
    Ok(())
}

pub(super) fn connect_timeout_ms(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.connect_timeout, time(value, Duration::from_millis)?);
    Ok(())
}

/// Of two limits the lower one.
fn sooner(limit: &mut Option<Duration>, other: Option<Duration>) {
    *limit = match (*limit, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

pub(super) fn follow(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.follow = Some(truth(value)?);
    Ok(())
}

pub(super) fn max_redirects(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.max_redirects = match whole(value)? {
        -1 => None,
        number => Some(u32::try_from(number).map_err(|_| "must be -1, 0 or more".to_owned())?),
    };
    Ok(())
}

pub(super) fn user_agent(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_header("user-agent", value)
}

pub(super) fn referer(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_header("referer", value)
}

pub(super) fn cookie(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_header("cookie", value)
}

pub(super) fn login(wish: &mut Wish, value: &Json) -> Result<(), String> {
    let login = text(value)?;
    let (user, password) = login.split_once(':').unwrap_or((&login, ""));
    wish.user = Some(user.to_owned());
    wish.password = Some(password.to_owned());
    Ok(())
}

pub(super) fn username(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.user = Some(text(value)?);
    Ok(())
}

pub(super) fn password(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.password = Some(text(value)?);
    Ok(())
}

pub(super) fn bearer_token(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.bearer = Some(text(value)?);
    Ok(())
}

pub(super) fn only_basic(_: &mut Wish, value: &Json) -> Result<(), String> {
    match whole(value)? {
        1 | -1 | -17 => Ok(()),
        _ => Err("only Basic (1) is spoken".to_owned()),
    }
}

pub(super) fn encoding(wish: &mut Wish, value: &Json) -> Result<(), String> {
    if !matches!(value, Json::Null | Json::Bool(_)) {
        text(value)?;
    }
    wish.add_header("accept-encoding", "identity")
}

pub(super) fn verify_peer(_: &mut Wish, value: &Json) -> Result<(), String> {
    if truth(value)? {
        Ok(())
    } else {
        Err("certificates are always verified".to_owned())
    }
}

pub(super) fn verify_host(_: &mut Wish, value: &Json) -> Result<(), String> {
    match whole(value)? {
        1 | 2 => Ok(()),
        _ => Err("the names of certificates are always verified".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use crate::handlers::http::options::read;
    use crate::web::{Method, Request};
    use crate::wire::json::Json;

    fn made(options: &str) -> Result<Request, String> {
        let options = match Json::parse(options.as_bytes()).unwrap() {
            Json::Map(options) => options,
            _ => panic!("{options}"),
        };
        read(&options)?.request("http://h/".to_owned(), 5)
    }

    fn request(options: &str) -> Request {
        made(options).unwrap_or_else(|error| panic!("{options}: {error}"))
    }

    fn header(request: &Request, name: &str) -> String {
        let values = request.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn names_and_numbers_say_the_same() {
        for (named, numbered) in [
            (r#"{"method":"put","body":"x"}"#, r#"{"10036":"PUT","10015":"x"}"#),
            (r#"{"timeout":5,"connect_timeout":2}"#, r#"{"155":5000,"156":2000}"#),
            (r#"{"timeout":"5"}"#, r#"{"CURLOPT_TIMEOUT":5}"#),
            (r#"{"follow":false}"#, r#"{"52":0,"68":9}"#),
            (r#"{"max_redirects":3}"#, r#"{"68":"3"}"#),
        ] {
            let (named, numbered) = (request(named), request(numbered));
            assert_eq!(
                (
                    named.method,
                    named.body,
                    named.timeout,
                    named.connect_timeout,
                    named.redirects
                ),
                (
                    numbered.method,
                    numbered.body,
                    numbered.timeout,
                    numbered.connect_timeout,
                    numbered.redirects
                )
            );
        }
        for (named, numbered, name) in [
            (r#"{"user_agent":"me"}"#, r#"{"10018":"me"}"#, "user-agent"),
            (r#"{"referer":"me"}"#, r#"{"10016":"me"}"#, "referer"),
            (r#"{"cookie":"a=b"}"#, r#"{"10022":"a=b"}"#, "cookie"),
            (
                r#"{"username":"u","password":"p:p"}"#,
                r#"{"10005":"u:p:p"}"#,
                "authorization",
            ),
            (r#"{"headers":{"X-A":"1"}}"#, r#"{"10023":["X-A: 1"]}"#, "x-a"),
            (
                r#"{"headers":{"X-A":"1"}}"#,
                r#"{"10023":{"0":"X-A: 1","2":"X-B;"}}"#,
                "x-a",
            ),
            (
                r#"{"bearer_token":"t"}"#,
                r#"{"headers":["Authorization: Bearer t"]}"#,
                "authorization",
            ),
        ] {
            let expected = header(&request(named), name);
            assert!(!expected.is_empty());
            assert_eq!(header(&request(numbered), name), expected);
        }
    }

    #[test]
    fn the_method_follows_from_what_is_asked() {
        for (options, expected) in [
            ("{}", Method::GET),
            (r#"{"80":true}"#, Method::GET),
            (r#"{"47":true}"#, Method::POST),
            (r#"{"47":false}"#, Method::GET),
            (r#"{"10015":"a=b"}"#, Method::POST),
            (r#"{"json":{}}"#, Method::POST),
            (r#"{"44":1}"#, Method::HEAD),
            (r#"{"10036":"DELETE","10015":"x"}"#, Method::DELETE),
        ] {
            assert_eq!(request(options).method, expected, "{options}");
        }
    }

    #[test]
    fn bodies_have_their_types() {
        let of = |options: &str| {
            let request = request(options);
            let content_type = header(&request, "content-type");
            (String::from_utf8(request.body).unwrap(), content_type)
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let form = "application/x-www-form-urlencoded";
        assert_eq!(of(r#"{"10015":"a=b"}"#), pair("a=b", form));
        assert_eq!(
            of(r#"{"10015":"{}","10023":["Content-Type: text/x"]}"#),
            pair("{}", "text/x")
        );
        assert_eq!(of(r#"{"body":"x"}"#), pair("x", ""));
        assert_eq!(
            of(r#"{"json":{"a":{},"b":[]}}"#),
            pair(r#"{"a":{},"b":[]}"#, "application/json")
        );
        assert_eq!(of(r#"{"form":{"a b":"c&d","n":5}}"#), pair("a%20b=c%26d&n=5", form));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (options, expected) in [
            (r#"{"13":-1}"#, "not be negative"),
            (r#"{"13":"soon"}"#, "whole number"),
            (r#"{"13":[1]}"#, "whole number"),
            (r#"{"10036":"CONNECT"}"#, "CONNECT is refused"),
            (r#"{"10036":"trace"}"#, "trace is refused"),
            (r#"{"10036":"GET / HTTP/1.1\r\nX: y"}"#, "a method such as"),
            (r#"{"10036":""}"#, "a method such as"),
            (r#"{"10023":["X: a\r\nHost: evil"]}"#, "control character"),
            (r#"{"10023":["Host: evil"]}"#, "header host is the client's own"),
            (r#"{"10023":["Transfer-Encoding: chunked"]}"#, "transfer-encoding"),
            (r#"{"10023":["nothing"]}"#, "of the form"),
            (r#"{"10023":"X: a"}"#, "a list of lines"),
            (r#"{"headers":{"X":["a"]}}"#, "must be text"),
            (r#"{"10018":"a\nb"}"#, "control character"),
            (r#"{"10015":{"a":"@/etc/passwd"}}"#, "must be text"),
            (r#"{"64":false}"#, "always verified"),
            (r#"{"81":0}"#, "always verified"),
            (r#"{"107":2}"#, "only Basic"),
            (r#"{"80":true,"10015":"x"}"#, "there is a body"),
            (r#"{"password":"x"}"#, "no user"),
            (r#"{"username":"a","bearer_token":"b"}"#, "two logins"),
            (r#"{"10005":"a:b","10023":["authorization: x"]}"#, "two logins"),
            (r#"{"username":"a:b"}"#, "colon"),
            (r#"{"68":-2}"#, "0 or more"),
            (r#"{"method":"PUT","10036":"PUT"}"#, "a method already"),
        ] {
            let error = made(options).unwrap_err();
            assert!(error.contains(expected), "{options}: {error}");
            assert!(!error.contains("evil") && !error.contains('\r'), "{error}");
        }
        let many = vec!["\"X: y\""; 200].join(",");
        assert!(
            made(&format!("{{\"10023\":[{many}]}}"))
                .unwrap_err()
                .contains("more than 100")
        );
    }

    #[test]
    fn harmless_options_are_taken() {
        let options =
            r#"{"45":true,"19913":true,"42":true,"64":true,"81":2,"10102":"gzip","10023":["Expect:"],"99":1,"13":0}"#;
        let request = request(options);
        assert_eq!(
            (request.timeout, header(&request, "accept-encoding").as_str()),
            (None, "identity")
        );
        assert_eq!(
            super::time(&Json::Float(0.5), Duration::from_secs),
            Ok(Some(Duration::from_millis(500)))
        );
    }

    proptest! {
        #[test]
        fn no_options_panic(number in any::<u32>(), text in any::<String>(), int in any::<i64>(), float in -1e300..1e300_f64) {
            for name in super::super::options::OPTIONS.iter().filter_map(|option| option.number).chain([number]) {
                for value in [Json::Text(text.clone()), Json::Int(int), Json::Float(float), Json::List(vec![Json::Text(text.clone())])] {
                    if let Ok(wish) = read(&[(name.to_string(), value)]) {
                        let _ = wish.request(text.clone(), 0);
                    }
                }
            }
        }
    }
}
