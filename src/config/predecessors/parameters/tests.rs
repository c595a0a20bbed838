//! Parameters are put in as Symfony does it; mistakes in them name the place, and nothing unfolds without an end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::{any, prop, proptest};

use super::{Parameters, Purpose};
use crate::settings::{Content, Environment, Piece, Settings, Source, Value};

fn environment() -> Environment {
    Environment::of([("HOST", "broker"), ("TRAP", "%a%"), ("QUIET", "no")])
}

fn top(text: &str) -> Piece {
    let source = Source::new("p.yml", "/", text.to_owned(), environment());
    Piece::of(&Settings::parse(source).unwrap().to_setting())
}

fn parameters(text: &str, purpose: Purpose) -> Parameters {
    let known = match top(text).content() {
        Content::Map(entries) => entries.iter().cloned().collect(),
        _ => BTreeMap::new(),
    };
    Parameters::new(known, vec!["services.xml".to_owned()], purpose, environment())
}

const KNOWN: &str = "a: x\nb: '%a%-%a%'\nport: 5672\nlist: [1, '%b%']\nempty: ~\nSix: 6\nrabbit.password: hunter2\n\
                     'env(SET)': dflt\nloop: '%pool%'\npool: 'is %loop%'\nself: '%self%'\nratio: 1.10\nbraced: 'a}b'\n";

fn resolved(text: &str) -> Result<Value, String> {
    let piece = top(&format!("key: '{text}'"));
    let parameters = parameters(KNOWN, Purpose::Use);
    let resolved = parameters.resolve("key", piece.get("key").unwrap());
    resolved.map(|piece| piece.value()).map_err(|error| error.to_string())
}

#[test]
fn parameters_are_put_in() {
    let text = |text: &str| Ok(Value::Text(text.to_owned()));
    for (written, expected) in [
        ("plain", "plain"),
        ("%a%", "x"),
        ("<%b%>", "<x-x>"),
        ("%%a%%", "%a%"),
        ("100% of 5 %", "100% of 5 %"),
        ("%", "%"),
        ("%%", "%"),
        ("%%%a%", "%x"),
        ("%a%%a%", "xx"),
        ("h:%port%", "h:5672"),
        ("h:%ratio%", "h:1.10"),
        ("%six%", "6"),
        ("[%empty%]", "[]"),
        ("%env(HOST)%", "${HOST}"),
        ("amqp://%env(string:HOST)%:%env(int:HOST)%", "amqp://${HOST}:${HOST}"),
        ("%env(SET)%", "${SET:-dflt}"),
        ("%env(default:a:NONE)%", "${NONE:-x}"),
        ("%env(default::NONE)%", "${NONE:-}"),
        ("%env(resolve:HOST)%", "${HOST}"),
        // What is no variable here is none there.
        ("${HOST} %a%", "$${HOST} x"),
        ("$%%{HOST}", "$%{HOST}"),
    ] {
        let value = resolved(written);
        if written == "%six%" {
            assert_eq!(value, Ok(Value::Int(6)));
        } else {
            assert_eq!(value, text(expected), "{written}");
        }
    }
    assert_eq!(resolved("%port%"), Ok(Value::Int(5672)));
    assert_eq!(
        resolved("%list%"),
        Ok(Value::List(vec![Value::Int(1), Value::Text("x-x".to_owned())]))
    );
    assert_eq!(resolved("%empty%"), Ok(Value::Null));
}

#[test]
fn mistakes_name_the_place() {
    for (written, expected) in [
        (
            "%prot%",
            "p.yml:1: key: no parameter is called `prot`; did you mean `%port%`? (not read: services.xml); define it",
        ),
        (
            "%loop%",
            "p.yml:10: pool: parameters refer to each other in a circle: loop → pool → loop",
        ),
        (
            "%self%",
            "p.yml:11: self: parameters refer to each other in a circle: self → self",
        ),
        (
            "<%list%>",
            "p.yml:4: list: `%list%` stands within a text, and is a list",
        ),
        (
            "%env(NONE)%",
            "p.yml:1: key: the variable `NONE` is not set; set it, or give it a default as",
        ),
        ("%env(json:HOST)%", "the processor `json`, which qctl does not know"),
        ("%env(1X)%", "does not name a variable"),
        ("%env()%", "does not name a variable"),
        ("%env(default:braced:NONE)%", "holds another variable or a brace"),
        ("%env(resolve:TRAP)%", "the variable `TRAP` holds parameters"),
        ("$%env(HOST)%", "a `$` right before a variable"),
    ] {
        let error = resolved(written).unwrap_err();
        assert!(error.contains(expected), "{written}: {error}");
    }
}

#[test]
fn what_unfolds_to_too_much_is_refused() {
    let mut doubling = "p0: ''\nq0: 0123456789\n".to_owned();
    for number in 1..60 {
        let before = number - 1;
        write!(
            doubling,
            "p{number}: '%p{before}%%p{before}%'\nq{number}: '%q{before}%%q{before}%'\n"
        )
        .unwrap();
    }
    let mut deep = "d0: x\n".to_owned();
    for number in 1..100 {
        writeln!(deep, "d{number}: '%d{}%'", number - 1).unwrap();
    }
    for (text, name, expected) in [
        (&doubling, "p59", "unfold to too much"),
        (&doubling, "q40", "unfold to too much"),
        (&deep, "d99", "more than 64 deep"),
    ] {
        let parameters = parameters(text, Purpose::Use);
        let piece = top(&format!("key: '<%{name}%>'"));
        let error = parameters
            .resolve("key", piece.get("key").unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn secrets_are_not_written_down() {
    let parameters = parameters(KNOWN, Purpose::Writing);
    for (key, written, expected) in [
        ("password", "%a%", "${A}"),
        ("url", "amqp://me:%rabbit.password%@h", "amqp://me:${RABBIT_PASSWORD}@h"),
        ("host", "%a%", "x"),
        ("password", "%env(NONE)%", "${NONE}"),
        ("password", "plain", "plain"),
    ] {
        let piece = top(&format!("{key}: '{written}'"));
        let resolved = parameters.resolve(key, piece.get(key).unwrap()).unwrap();
        assert_eq!(resolved.as_text(), Some(expected), "{written}");
    }
    assert_eq!(
        parameters.needed().keys().collect::<Vec<_>>(),
        ["A", "NONE", "RABBIT_PASSWORD"]
    );
}

proptest! {
    #[test]
    fn no_text_panics_or_hangs(
        text in any::<String>(),
        values in prop::collection::btree_map("[a-d]", "([a-d%$ {}]|env\\([a-d:]*\\)|\\PC){0,12}", 0..5),
        writing in any::<bool>(),
    ) {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let known: Vec<String> = values.iter().map(|(name, text)| format!("{name}: {}", quoted(text))).collect();
        let known = known.join("\n");
        let purpose = if writing { Purpose::Writing } else { Purpose::Use };
        let parameters = parameters(&known, purpose);
        for text in values.values().chain([&text]) {
            let Ok(root) = Settings::parse(Source::new("t.yml", "/", format!("key: {}\n", quoted(text)), environment()))
            else {
                continue;
            };
            let piece = Piece::of(&root.to_setting());
            let _ = parameters.resolve("key", piece.get("key").unwrap());
        }
    }

    /// What holds no parameter comes out as it went in, whatever qctl itself would see in it.
    #[test]
    fn plain_text_stays_what_it_is(text in "[a-z${} %]{0,20}") {
        let escaped = text.replace('%', "%%");
        let piece = top("key: x");
        let parameters = parameters("", Purpose::Use);
        let piece = piece.get("key").unwrap().made_text(escaped);
        let resolved = parameters.resolve("key", &piece).unwrap();
        let top = piece.made_map([("key", resolved)]);
        let mut settings = top.into_settings(environment());
        proptest::prop_assert_eq!(settings.text(&["key"]).unwrap(), Some(text));
    }
}
