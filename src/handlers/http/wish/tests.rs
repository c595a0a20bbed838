use std::time::Duration;

use proptest::prelude::{any, proptest};

use crate::handlers::http::options::read;
use crate::web::{Method, Request};
use crate::wire::json::Json;

fn made(options: &str) -> Result<Request, String> {
    let Json::Map(options) = Json::parse(options.as_bytes()).unwrap() else {
        panic!("{options}")
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
        for name in crate::handlers::http::options::OPTIONS.iter().filter_map(|option| option.number).chain([number]) {
            for value in [Json::Text(text.clone()), Json::Int(int), Json::Float(float), Json::List(vec![Json::Text(text.clone())])] {
                if let Ok(wish) = read(&[(name.to_string(), value)]) {
                    let _ = wish.request(text.clone(), 0);
                }
            }
        }
    }
}
