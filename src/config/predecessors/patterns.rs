//! The Kaliop bundle's lists of what may run: names, and `regexp:` with an expression of PHP's.
//!
//! PHP looks for an expression anywhere in a name, qctl's patterns fit a name from end to end. So `regexp:/^app:/` becomes
//! `regexp:app:.*`: the same names, no more and no fewer.

use crate::handlers::Pattern;

/// What the list allows, as a pattern of qctl's; or why it cannot be said.
pub(super) fn translated(written: &str) -> Result<String, String> {
    let Some(expression) = written.strip_prefix("regexp:") else {
        // A star in a name was nothing but a star.
        return Ok(if written.contains('*') {
            format!("regexp:{}", regex_lite::escape(written))
        } else {
            written.to_owned()
        });
    };
    searched(expression)
}

/// An expression that was looked for anywhere in a text, as a pattern of qctl's that says the same.
pub(super) fn searched(expression: &str) -> Result<String, String> {
    let (inner, flags) = undelimited(expression)
        .ok_or("has no delimiters, and has never allowed anything; write `regexp:/…/`, or the names one by one")?;
    let mut kept = String::new();
    let mut anchored = false;
    for flag in flags.chars() {
        match flag {
            'i' => kept.push('i'),
            // Neither a command's name nor a URL has a line's end in it or characters that these tell apart.
            's' | 'm' | 'u' | 'D' | 'U' | 'S' | '\n' | ' ' => {}
            'A' => anchored = true,
            _ => return Err(untranslatable(&format!("the flag `{}`", flag.escape_debug()))),
        }
    }
    let shape = Shape::of(inner).ok_or_else(|| untranslatable("brackets that do not match"))?;
    let mut body = inner;
    let (mut before, mut behind) = (if anchored { "" } else { ".*" }, ".*");
    // Not where each side of a `|` has ends of its own.
    if !shape.has_choice {
        if let Some(rest) = body
            .strip_prefix('^')
            .filter(|rest| !rest.starts_with(['*', '+', '?', '{']))
        {
            (body, before) = (rest, "");
        }
        if shape.ends_with_dollar {
            (body, behind) = (&body[..body.len().saturating_sub(1)], "");
        }
    }
    let grouped = match kept.as_str() {
        "" if !shape.has_choice && !starts_like_delimited(body, before) => body.to_owned(),
        flags => format!("(?{flags}:{body})"),
    };
    let pattern = format!("regexp:{before}{grouped}{behind}");
    match Pattern::parse(&pattern) {
        Ok(_) => Ok(pattern),
        Err(_) if pattern == "regexp:" => Err(untranslatable("nothing to look for")),
        Err(_) => Err(untranslatable(
            "what only PHP's expressions know, such as look-around or a back-reference",
        )),
    }
}

fn untranslatable(what: &str) -> String {
    format!("has {what}, which qctl's patterns do not; write the names one by one, or a plainer expression")
}

/// Takes PHP's delimiters off: any character that is no letter, digit, space or backslash, or a pair of brackets.
fn undelimited(expression: &str) -> Option<(&str, &str)> {
    let expression = expression.trim_start();
    let first = expression.chars().next()?;
    let last = match first {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        '<' => '>',
        c if c.is_ascii_punctuation() && c != '\\' => c,
        _ => return None,
    };
    expression[first.len_utf8()..].rsplit_once(last)
}

/// qctl takes a bare expression that begins so for a delimited one.
fn starts_like_delimited(body: &str, before: &str) -> bool {
    before.is_empty() && body.starts_with(['/', '#', '~', '!', '@', '%'])
}

struct Shape {
    /// There is a `|` outside all brackets.
    has_choice: bool,
    /// The last character is a `$` that means the end.
    ends_with_dollar: bool,
}

impl Shape {
    /// `None`: a bracket is open at the end, or closed that was not open.
    fn of(expression: &str) -> Option<Self> {
        let mut shape = Self {
            has_choice: false,
            ends_with_dollar: false,
        };
        let mut depth = 0_usize;
        let mut class = false;
        let mut characters = expression.chars().peekable();
        while let Some(character) = characters.next() {
            shape.ends_with_dollar = false;
            match character {
                '\\' => {
                    characters.next();
                }
                ']' if class => class = false,
                _ if class => {}
                '[' => {
                    class = true;
                    // A bracket right behind the opening one is a character of the class.
                    characters.next_if_eq(&'^');
                    characters.next_if_eq(&']');
                }
                '(' => depth += 1,
                ')' => depth = depth.checked_sub(1)?,
                '|' if depth == 0 => shape.has_choice = true,
                '$' if depth == 0 => shape.ends_with_dollar = true,
                _ => {}
            }
        }
        (depth == 0 && !class).then_some(shape)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::proptest;
    use regex_lite::Regex;

    use super::translated;
    use crate::handlers::Pattern;

    #[test]
    fn what_was_allowed_stays_allowed_and_nothing_else() {
        for (written, expected) in [
            ("app:mail", "app:mail"),
            ("app:*", "regexp:app:\\*"),
            ("regexp:/^app:/", "regexp:app:.*"),
            ("regexp:/^cache:(clear|warmup)$/", "regexp:cache:(clear|warmup)"),
            ("regexp:/mail/", "regexp:.*mail.*"),
            ("regexp:/.*/", "regexp:.*.*.*"),
            ("regexp:/^a|b$/", "regexp:.*(?:^a|b$).*"),
            ("regexp:#^app/x$#", "regexp:app/x"),
            ("regexp:{^app$}", "regexp:app"),
            ("regexp:/^APP:/i", "regexp:(?i:APP:).*"),
            ("regexp:/app/A", "regexp:app.*"),
            ("regexp:/^@x$/", "regexp:(?:@x)"),
            ("regexp:/a\\$/", "regexp:.*a\\$.*"),
            ("regexp:/^[]|]$/", "regexp:[]|]"),
        ] {
            assert_eq!(translated(written).as_deref(), Ok(expected), "{written}");
        }
        for (written, name, expected) in [
            ("app:*", "app:mail", false),
            ("app:*", "app:*", true),
            ("regexp:/^app:/", "app:mail", true),
            ("regexp:/^app:/", "my:app:mail", false),
            ("regexp:/mail/", "app:mail:send", true),
            ("regexp:/^a|b$/", "xb", true),
            ("regexp:/^a|b$/", "ax", true),
            ("regexp:/^a|b$/", "xax", false),
            ("regexp:/^APP:/i", "app:x", true),
        ] {
            let pattern = Pattern::parse(&translated(written).unwrap()).unwrap();
            assert_eq!(pattern.matches(name), expected, "{written} {name}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_told() {
        for (written, expected) in [
            ("regexp:app", "has no delimiters, and has never allowed anything"),
            ("regexp:", "has no delimiters"),
            ("regexp:/app", "has no delimiters"),
            ("regexp:/(?!app)/", "what only PHP's expressions know"),
            ("regexp:/(a)\\1/", "what only PHP's expressions know"),
            ("regexp:/a)|(b/", "brackets that do not match"),
            ("regexp:/a/e", "the flag `e`"),
            ("regexp:/^$/", "nothing to look for"),
        ] {
            let error = translated(written).unwrap_err();
            assert!(error.contains(expected), "{written}: {error}");
            assert!(error.contains("one by one"), "{written}: {error}");
        }
    }

    proptest! {
        /// The same expression, looked for anywhere in the name.
        #[test]
        fn names_are_told_apart_as_before(expression in "[\\^]?(a|b|c|\\.|\\||\\(a\\|b\\)|\\[ab\\]|\\*|:){0,6}[$]?", name in "[a-c:]{0,5}") {
            if let Ok(searched) = Regex::new(&expression)
                && let Ok(pattern) = translated(&format!("regexp:/{expression}/"))
            {
                let matches = Pattern::parse(&pattern).unwrap().matches(&name);
                proptest::prop_assert_eq!(matches, searched.is_match(&name), "{} -> {}", expression, pattern);
            }
        }

        #[test]
        fn no_pattern_panics(written in "(regexp:)?\\PC*") {
            let _ = translated(&written);
        }
    }
}
