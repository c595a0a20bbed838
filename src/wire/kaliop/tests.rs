//! Golden bodies and round trips.

use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

use super::{ConsoleCommand, HttpRequest, Json, OptionValue, ServiceCall, XmlRpcCall, check_routing_key};

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn console_commands_have_php_s_bytes() {
    let command = ConsoleCommand {
        command: "cache:clear".to_owned(),
        arguments: strings(&["a b", "é"]),
        options: vec![
            ("env".to_owned(), OptionValue::Text("prod".to_owned())),
            ("v".to_owned(), OptionValue::Flag),
        ],
    };
    let body = r#"{"command":"cache:clear","arguments":["a b","\u00e9"],"options":{"env":"prod","v":null}}"#;
    assert_eq!(String::from_utf8(command.body()).unwrap(), body);
    assert_eq!(ConsoleCommand::parse(body.as_bytes()).unwrap(), command);
    assert_eq!(command.routing_key(), "cache.clear");

    let bare = ConsoleCommand {
        command: "a:b".to_owned(),
        ..ConsoleCommand::default()
    };
    assert_eq!(bare.body(), br#"{"command":"a:b","arguments":[],"options":[]}"#);
    assert_eq!(bare.routing_key(), "a.b");
}

#[test]
fn other_calls_have_php_s_bytes() {
    let request = HttpRequest {
        url: "http://h/p?x=1".to_owned(),
        options: vec![],
    };
    assert_eq!(request.body(), br#"{"url":"http:\/\/h\/p?x=1","options":[]}"#);
    assert_eq!(request.routing_key(), "http...h.p?x=1");
    let body = br#"{"url":"http:\/\/h\/p","options":{"13":5,"10018":"UA","47":true}}"#;
    let request = HttpRequest::parse(body).unwrap();
    assert_eq!(request.options[0], ("13".to_owned(), Json::Int(5)));
    assert_eq!(request.body(), body);

    let body = br#"{"server":"http:\/\/h\/rpc","method":"sum","arguments":[1,2]}"#;
    let call = XmlRpcCall::parse(body).unwrap();
    assert_eq!(call.body(), body);
    assert_eq!(call.routing_key(), "http...h.rpc.sum");

    let body = br#"{"service":"logger","method":"log","arguments":["info","hi"]}"#;
    let call = ServiceCall::parse(body).unwrap();
    assert_eq!(call.body(), body);
    assert_eq!(call.routing_key(), "logger.log");
}

#[test]
fn what_php_may_leave_out_or_write_in_another_way_is_understood() {
    let bare = ConsoleCommand {
        command: "a".to_owned(),
        ..ConsoleCommand::default()
    };
    for body in [
        r#"{"command":"a"}"#,
        r#"{"command":"a","arguments":[],"options":{}}"#,
        r#"{"command":"a","arguments":{},"options":[]}"#,
        r#"{"command":"a","arguments":null,"options":null,"else":1}"#,
    ] {
        assert_eq!(ConsoleCommand::parse(body.as_bytes()).unwrap(), bare, "{body}");
    }
    let body = r#"{"command":"a","arguments":{"0":"x","2":7},"options":{"t":true,"f":false,"n":1.5,"l":["p",2]}}"#;
    let command = ConsoleCommand::parse(body.as_bytes()).unwrap();
    assert_eq!(command.arguments, ["x", "7"]);
    let value = |text: &str| OptionValue::Text(text.to_owned());
    let list = OptionValue::List(strings(&["p", "2"]));
    let options = [("t", value("1")), ("f", value("")), ("n", value("1.5")), ("l", list)];
    assert_eq!(command.options, options.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn bodies_of_the_wrong_form_say_what_is_wrong() {
    for (body, expected) in [
        ("", "not JSON"),
        ("nonsense", "not JSON"),
        ("[1]", "is a list"),
        ("{}", "no \"command\""),
        (r#"{"command":""}"#, "\"command\" is empty"),
        (r#"{"command":["a"]}"#, "\"command\" is a list"),
        (r#"{"command":"a","arguments":"b"}"#, "\"arguments\" is text"),
        (r#"{"command":"a","arguments":{"x":"b"}}"#, "\"arguments\" is an object"),
        (r#"{"command":"a","arguments":[["b"]]}"#, "an argument is a list"),
        (r#"{"command":"a","options":["b"]}"#, "\"options\" is a list"),
        (
            r#"{"command":"a","options":{"b":{"c":1}}}"#,
            "the option \"b\" is an object",
        ),
        (r#"{"command":"a","command":"b"}"#, "occurs twice"),
    ] {
        let error = ConsoleCommand::parse(body.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
    let error = HttpRequest::parse(br#"{"url":"http://h","options":[5]}"#).unwrap_err();
    assert!(error.contains("\"options\" is a list"), "{error}");
    assert!(
        XmlRpcCall::parse(br#"{"server":"s"}"#)
            .unwrap_err()
            .contains("\"method\"")
    );
    assert!(
        ServiceCall::parse(br#"{"method":"m"}"#)
            .unwrap_err()
            .contains("\"service\"")
    );
}

#[test]
fn a_routing_key_that_amqp_cannot_carry_is_told() {
    assert!(check_routing_key(&"x".repeat(255)).is_ok());
    let error = check_routing_key(&"x".repeat(256)).unwrap_err();
    assert!(error.contains("256 bytes"), "{error}");
}

fn console_command() -> impl Strategy<Value = ConsoleCommand> {
    let value = prop_oneof![
        proptest::strategy::Just(OptionValue::Flag),
        any::<String>().prop_map(OptionValue::Text),
        prop::collection::vec(any::<String>(), 0..4).prop_map(OptionValue::List),
    ];
    let options = prop::collection::btree_map(any::<String>(), value, 0..5);
    (".+", prop::collection::vec(any::<String>(), 0..5), options).prop_map(|(command, arguments, options)| {
        ConsoleCommand {
            command,
            arguments,
            options: options.into_iter().rev().collect(),
        }
    })
}

proptest! {
    #[test]
    fn console_commands_come_back(command in console_command()) {
        assert_eq!(ConsoleCommand::parse(&command.body()).unwrap(), command);
    }

    #[test]
    fn other_calls_come_back(name in ".+", method in ".+", words in prop::collection::vec(any::<String>(), 0..5)) {
        let arguments: Vec<_> = words.into_iter().map(Json::Text).collect();
        let call = ServiceCall { service: name.clone(), method: method.clone(), arguments: arguments.clone() };
        assert_eq!(ServiceCall::parse(&call.body()).unwrap(), call);
        let call = XmlRpcCall { server: name.clone(), method, arguments: arguments.clone() };
        assert_eq!(XmlRpcCall::parse(&call.body()).unwrap(), call);
        let options = arguments.into_iter().enumerate().map(|(index, value)| ((index * 7).to_string(), value)).collect();
        let request = HttpRequest { url: name, options };
        assert_eq!(HttpRequest::parse(&request.body()).unwrap(), request);
    }

    #[test]
    fn no_body_panics(body in any::<Vec<u8>>()) {
        let _ = ConsoleCommand::parse(&body);
    }
}
