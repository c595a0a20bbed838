//! Reading settings: what is taken, and what is said about what is not.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Environment, SecretSource, Settings, Source, Value};
use crate::ErrorKind;
use crate::error::{Error, Result};

fn settings(text: &str) -> Result<Settings> {
    let environment = Environment::of([
        ("PORT", "5672"),
        ("FLAG", "1"),
        ("WORD", "hush"),
        ("SPAN", "2m"),
        ("BIG", "1K"),
    ]);
    Settings::parse(Source::new("q.yml", "/etc/q", text.to_owned(), environment))
}

fn said(error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text:?}");
    text
}

#[test]
fn typed_readers_take_what_they_say() {
    let mut it = settings(
        "text: a b\nnumber_text: 1.10\nbool_text: true\nyes: true\none: 1\nflag: ${FLAG}\nport: ${PORT}\n\
         span: 1h30m\nbare: 90\nfraction: 0.5\nvariable_span: ${SPAN}\nnone: none\nzero: 0\nsize: 256M\nbytes: 12\n\
         variable_size: \"${BIG}\"\nlist: [a, 1.0, \"${WORD}\"]\nsingle: x\nenv: {B: 1, A: 007}\nchoice: two\nescaped: $${WORD}\n",
    )
    .unwrap();
    assert_eq!(it.text(&["text"]).unwrap().as_deref(), Some("a b"));
    assert_eq!(it.text(&["number_text"]).unwrap().as_deref(), Some("1.10"));
    assert_eq!(it.text(&["bool_text"]).unwrap().as_deref(), Some("true"));
    assert_eq!(it.boolean(&["yes"]).unwrap(), Some(true));
    assert_eq!(it.boolean(&["one"]).unwrap(), Some(true));
    assert_eq!(it.boolean(&["flag"]).unwrap(), Some(true));
    assert_eq!(it.integer(&["port"]).unwrap(), Some(5672));
    assert_eq!(it.count(&["port"]).unwrap(), Some(5672));
    assert_eq!(it.duration(&["span"]).unwrap(), Some(Duration::from_mins(90)));
    assert_eq!(it.duration(&["bare"]).unwrap(), Some(Duration::from_secs(90)));
    assert_eq!(it.duration(&["fraction"]).unwrap(), Some(Duration::from_millis(500)));
    assert_eq!(it.duration(&["variable_span"]).unwrap(), Some(Duration::from_mins(2)));
    assert_eq!(it.limit_duration(&["none"]).unwrap(), Some(None));
    assert_eq!(it.limit_duration(&["zero"]).unwrap(), Some(None));
    assert_eq!(
        it.limit_duration(&["span"]).unwrap(),
        Some(Some(Duration::from_mins(90)))
    );
    assert_eq!(it.size(&["size"]).unwrap(), Some(256 << 20));
    assert_eq!(it.size(&["bytes"]).unwrap(), Some(12));
    assert_eq!(it.size(&["variable_size"]).unwrap(), Some(1024));
    assert_eq!(it.texts(&["list"]).unwrap().unwrap(), ["a", "1.0", "hush"]);
    assert_eq!(it.texts(&["single"]).unwrap().unwrap(), ["x"]);
    let env = it.text_map(&["env"]).unwrap().unwrap();
    assert_eq!(
        env,
        [("B".to_owned(), "1".to_owned()), ("A".to_owned(), "007".to_owned())]
    );
    assert_eq!(it.choice(&["choice"], &[("one", 1), ("two", 2)]).unwrap(), Some(2));
    assert_eq!(it.value(&["escaped"]), Some(Value::Text("${WORD}".to_owned())));
    assert_eq!(it.text(&["absent"]).unwrap(), None);
    it.finish().unwrap();
}

#[test]
fn nothing_is_lost_or_reordered() {
    let mut it = settings("b: {z: 1, 0: x, 1.10: y, y: [1, [2.5, ~], {k: v}]}\na: 12345678901234567890\n").unwrap();
    let map = |entries: Vec<(&str, Value)>| Value::Map(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
    let text = |text: &str| Value::Text(text.to_owned());
    let list = Value::List(vec![
        Value::Int(1),
        Value::List(vec![Value::Float(2.5), Value::Null]),
        map(vec![("k", text("v"))]),
    ]);
    let expected = map(vec![
        ("z", Value::Int(1)),
        ("0", text("x")),
        ("1.10", text("y")),
        ("y", list),
    ]);
    assert_eq!(it.value(&["b"]), Some(expected));
    assert_eq!(it.text(&["a"]).unwrap().as_deref(), Some("12345678901234567890"));
}

#[test]
fn bad_values_say_where_they_are_and_what_was_meant() {
    type Read = fn(&mut Settings) -> Result<()>;
    let boolean: Read = |it| it.boolean(&["k"]).map(drop);
    let integer: Read = |it| it.integer(&["k"]).map(drop);
    let count: Read = |it| it.count(&["k"]).map(drop);
    let within: Read = |it| it.count_within(&["k"], 1, 10).map(drop);
    let duration: Read = |it| it.duration(&["k"]).map(drop);
    let limit: Read = |it| it.limit_duration(&["k"]).map(drop);
    let size: Read = |it| it.size(&["k"]).map(drop);
    let text: Read = |it| it.text(&["k"]).map(drop);
    let texts: Read = |it| it.texts(&["k"]).map(drop);
    let text_map: Read = |it| it.text_map(&["k"]).map(drop);
    let map: Read = |it| it.map(&["k"]).map(drop);
    let maps: Read = |it| it.maps(&["k"]).map(drop);
    let choice: Read = |it| it.choice(&["k"], &[("full", 1), ("normal", 2)]).map(drop);
    let table: &[(Read, &str, &str)] = &[
        (boolean, "maybe", "must be true or false, not `maybe`"),
        (boolean, "yes", "must be true or false, not `yes`"),
        (boolean, "2", "must be true or false, not `2`"),
        (boolean, "[true]", "must be true or false, not a list"),
        (boolean, "${WORD}", "must be true or false, not what `${WORD}` holds"),
        (boolean, "", "has no value"),
        (integer, "many", "must be a whole number, not `many`"),
        (integer, "1.5", "must be a whole number, not `1.5`"),
        (
            integer,
            "99999999999999999999",
            "must be a whole number, not `99999999999999999999`",
        ),
        (integer, "{a: 1}", "must be a whole number, not a map"),
        (integer, "\"\"", "must be a whole number, not an empty text"),
        (count, "-1", "must not be negative, and is `-1`"),
        (within, "0", "must be at least 1, and is `0`"),
        (within, "11", "must be at most 10, and is `11`"),
        (duration, "5 minuts", "must be a duration such as 250ms"),
        (duration, "-5", "must not be negative"),
        (duration, ".inf", "must be a duration"),
        (
            duration,
            "[5]",
            "must be a duration such as 5m, or bare seconds, not a list",
        ),
        (duration, "${WORD}", "not what `${WORD}` holds"),
        (limit, "never", "must be a duration"),
        (size, "lots", "must be a size such as 16K"),
        (size, "-1", "must be a size"),
        (text, "[a]", "must be text, not a list"),
        (text, "{a: b}", "must be text, not a map"),
        (text, "~", "has no value"),
        (text, "${NONE}", "the variable `NONE` is not set"),
        (text, "a ${NONE", "`${` is not closed"),
        (texts, "{a: b}", "must be a text or a list of texts, not a map"),
        (texts, "[a, [b]]", "k[1]: must be text, not a list"),
        (text_map, "{a: [b]}", "k.a: must be text, not a list"),
        (text_map, "x", "must be a map of keys, not `x`"),
        (map, "x", "must be a map of keys, not `x`"),
        (map, "[x]", "must be a map of keys, not a list"),
        (maps, "[{a: 1}, x]", "k[1]: must be a map of keys, not `x`"),
        (choice, "ful", "must be full or normal, not `ful`; did you mean `full`?"),
        (choice, "\"\\e[31m\"", "not `\\u{1b}[31m`"),
        (choice, "[x]", "must be full or normal, not a list"),
    ];
    for (read, value, expected) in table {
        let mut it = settings(&format!("# comment\nother: 1\nk: {value}\n")).unwrap();
        let error = said(&read(&mut it).unwrap_err());
        assert!(error.starts_with("q.yml:3: k"), "{value}: {error}");
        assert!(error.contains(expected), "{value}: {error}");
        assert!(!error.contains("hush"), "a variable's value is shown: {error}");
    }
}

#[test]
fn a_missing_variable_names_all() {
    let mut it = settings("a:\n  b:\n    - x\n    - \"-${NONE}-\"\n").unwrap();
    let mut a = it.map(&["a"]).unwrap().unwrap();
    let error = said(&a.texts(&["b"]).unwrap_err());
    assert_eq!(
        error,
        "q.yml:4: a.b[1]: the variable `NONE` is not set; set it, or write `${NONE:-default}`"
    );
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
        }
        text
    };
    let wide_bomb = format!(
        "a: &a [{}]\nb: [{}]\n",
        vec!["xxxxxxxx"; 20_000].join(","),
        vec!["*a"; 20_000].join(",")
    );
    let recursive = "a: &a [*a]\n".to_owned();
    for (text, expected) in [
        (
            "- a\n- b\n".to_owned(),
            "q.yml: must be a map of keys such as `connections:`, not a list",
        ),
        (
            "just words\n".to_owned(),
            "q.yml: must be a map of keys such as `connections:`, not text",
        ),
        ("a: 1\n---\nb: 2\n".to_owned(), "keep one document"),
        ("a:\n\tb: 1\n".to_owned(), "q.yml:2: not valid YAML"),
        ("a:\n\tb: 1\n".to_owned(), "not with tabs"),
        ("a: [1, 2\nb: 3\n".to_owned(), "not valid YAML"),
        ("a: \"open\n".to_owned(), "not valid YAML"),
        ("a: {url: ${PORT}}\n".to_owned(), "put text with `${…}` in quotes"),
        (
            "a: 1\nb: 2\na: 3\n".to_owned(),
            "q.yml:3: a: this key was already given on line 1; keep one of the two",
        ),
        (
            "a:\n  - b:\n      c: 1\n      d: 2\n      c: 3\n".to_owned(),
            "q.yml:5: a[0].b.c: this key was already given on line 3",
        ),
        (
            "a: {b: 1, 'b': 2}\n".to_owned(),
            "q.yml:1: a.b: this key was already given on line 1",
        ),
        (
            "<<: {a: 1}\n<<: {b: 1}\n".to_owned(),
            "q.yml:2: <<: this key was already given",
        ),
        (
            "a: !thing x\n".to_owned(),
            "q.yml:1: a: the YAML tag \"!thing\" means nothing here; remove it",
        ),
        ("a: !thing {b: 1}\n".to_owned(), "the YAML tag"),
        ("a: *nowhere\n".to_owned(), "unknown anchor"),
        ("{a: 1}: b\n".to_owned(), "not valid YAML"),
        ("a: 1\0b\n".to_owned(), "not valid YAML"),
        (
            "a:\n  <<: 5\n".to_owned(),
            "q.yml:2: a.<<: `<<` merges maps into this one",
        ),
        (bomb, "unfold to too much"),
        (wide_bomb, "unfold to too much"),
        (recursive, "recursion limit"),
        ("[".repeat(1_000_000), "nested more than"),
        ("a: ".to_owned() + &"{b: ".repeat(1_000_000), "nested more than"),
        ("- ".repeat(500_000) + "x", "recursion limit"),
        ("? ".repeat(500_000) + "x", "not valid YAML"),
        ("&a ".repeat(300_000), "q.yml: "),
    ] {
        let start: String = text.chars().take(30).collect();
        let error = said(&settings(&text).unwrap_err());
        assert!(error.starts_with("q.yml"), "{start}: {error}");
        assert!(error.contains(expected), "{start}: {error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn empty_files_are_empty_maps() {
    for text in ["", "\n", "# only a comment\n", "---\n", "{}\n", "~\n", "\u{feff}"] {
        settings(text).unwrap().finish().unwrap();
    }
}

#[test]
fn large_files_are_read() {
    let mut text = String::new();
    for index in 0..40_000 {
        writeln!(text, "key_{index}: a value of some length").unwrap();
    }
    assert!(text.len() > 1_000_000);
    let mut it = settings(&text).unwrap();
    assert_eq!(
        it.text(&["key_39999"]).unwrap().as_deref(),
        Some("a value of some length")
    );
    text.push_str("key_20000: again\n");
    let error = said(&settings(&text).unwrap_err());
    assert!(
        error.starts_with("q.yml:40001: key_20000: this key was already given on line 20001"),
        "{error}"
    );
}

#[test]
fn merge_keys_are_applied() {
    let mut it = settings(
        "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\n\
         one: {<<: *base, b: 5}\ntwo:\n  <<: [*base, *more]\n  d: bad\n",
    )
    .unwrap();
    let mut one = it.map(&["one"]).unwrap().unwrap();
    assert_eq!(one.integer(&["a"]).unwrap(), Some(1));
    assert_eq!(one.integer(&["b"]).unwrap(), Some(5));
    let mut two = it.map(&["two"]).unwrap().unwrap();
    assert_eq!(two.integer(&["b"]).unwrap(), Some(2));
    assert_eq!(two.integer(&["c"]).unwrap(), Some(4));
    assert!(said(&two.integer(&["d"]).unwrap_err()).starts_with("q.yml:6: two.d"));
    // What came in through a merge is found where it is written.
    assert!(said(&two.boolean(&["c"]).unwrap_err()).starts_with("q.yml:2: two.c"));
}

#[test]
fn unknown_keys_come_with_what_is_known() {
    let mut it = settings("a:\n  queue: x\n  qeue: y\n").unwrap();
    let mut a = it.map(&["a"]).unwrap().unwrap();
    a.text(&["queue", "queue_options"]).unwrap();
    a.duration(&["ttl"]).unwrap();
    assert_eq!(
        said(&a.finish().unwrap_err()),
        "q.yml:3: a.qeue: unknown key; did you mean `queue`? (known here: queue, ttl)"
    );
    it.finish().unwrap();
}

#[test]
fn a_key_and_its_alias_are_one_too_many() {
    let mut it = settings("a:\n  exchange: x\n  exchange_options: y\n").unwrap();
    let mut a = it.map(&["a"]).unwrap().unwrap();
    let expected = "q.yml:3: a.exchange_options: means the same as `exchange`, which is given too; keep one of the two";
    assert_eq!(said(&a.text(&["exchange", "exchange_options"]).unwrap_err()), expected);
    assert_eq!(a.value(&["exchange", "exchange_options"]), None);
    assert_eq!(said(&a.finish().unwrap_err()), expected);
}

#[test]
fn errors_of_others_find_the_alias_that_was_written() {
    let mut it = settings("a:\n  x: 1\n  autodelete: 1\n").unwrap();
    let mut a = it.map(&["a"]).unwrap().unwrap();
    a.boolean(&["auto_delete", "autodelete"]).unwrap();
    assert_eq!(said(&a.error("auto_delete", "no")), "q.yml:3: a.autodelete: no");
    assert_eq!(said(&a.error("", "no")), "q.yml:1: a: no");
    assert_eq!(said(&a.error("absent", "no")), "q.yml:1: a.absent: no");
    assert_eq!(
        said(&a.missing("url", "say where")),
        "q.yml:1: a: `url` is missing: say where"
    );
}

#[test]
fn the_short_form_of_a_map_reads_as_the_map() {
    let mut it = settings("x: 1\nlocal: sqlite:///q.db\n").unwrap();
    let mut local = it.setting(&["local"]).unwrap().unwrap().short_form("url");
    assert_eq!(local.path(), "local");
    assert_eq!(local.text(&["url", "path"]).unwrap().as_deref(), Some("sqlite:///q.db"));
    assert_eq!(local.text(&["mode"]).unwrap(), None);
    assert_eq!(
        said(&local.error("url", "no such scheme")),
        "q.yml:2: local: no such scheme"
    );
    local.finish().unwrap();
}

#[test]
fn secrets_come_inline_or_from_files() {
    let mut it =
        settings("a: {password: \"${WORD}\"}\nb: {password_file: run/pw}\nc: {password: x, password_file: y}\nd: {}\n")
            .unwrap();
    let mut read = |name: &str| it.map(&[name]).unwrap().unwrap().secret("password");
    match read("a").unwrap() {
        Some(SecretSource::Inline(secret)) => assert_eq!(secret.expose(), "hush"),
        other => panic!("{other:?}"),
    }
    assert_eq!(read("b").unwrap(), Some(SecretSource::File("/etc/q/run/pw".into())));
    assert!(said(&read("c").unwrap_err()).contains("`password_file`; keep one of the two"));
    assert_eq!(read("d").unwrap(), None);
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let mut it = settings("a: {password: hunter2}\n").unwrap();
    let a = it.setting(&["a"]).unwrap().unwrap();
    let shown = format!("{it:?} {a:?} {:?} {:?}", a.settings().unwrap(), a.source());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_is_shown_is_masked() {
    let environment = Environment::of([("API_TOKEN", "t0p"), ("HOST", "h")]);
    let text = "url: amqp://app:hunter2@${HOST}/x\npassword: hunter2\npassword_file: /run/pw\nport: 5\n\
                args: [\"Bearer ${API_TOKEN}\", \"${HOST}\"]\n";
    let it = Settings::parse(Source::new("q.yml", "/", text.to_owned(), environment)).unwrap();
    assert_eq!(
        it.to_setting().shown(),
        serde_json::json!({
            "url": "amqp://app:***@h/x", "password": "***", "password_file": "/run/pw", "port": 5,
            "args": ["Bearer ***", "h"],
        })
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c:\\-\\[\\]{}*&!|>'\"#%@`,?<\n\t ${}~0-9.]{0,60}") {
        if let Err(error) = settings(&text) {
            said(&error);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "\\PC{0,80}") {
        if let Err(error) = settings(&text) {
            said(&error);
        }
    }
}
