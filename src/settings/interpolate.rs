//! `${VAR}`, `${VAR:-default}` and `$${` in one text. Applied to scalars after parsing, so that no variable can change
//! the structure of the file.

use std::borrow::Cow;

use super::source::Environment;

/// The text with its variables put in, or what is wrong. The values of variables are never part of an error.
pub(super) fn interpolate<'a>(text: &'a str, environment: &Environment) -> Result<Cow<'a, str>, String> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let before = &rest[..start];
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        result.push_str(before);
        let inside = &rest[start + 2..];
        let end = inside
            .find('}')
            .ok_or("`${` is not closed by `}`; write `$${` for the characters themselves")?;
        result.push_str(&value(&inside[..end], environment)?);
        rest = &inside[end + 1..];
    }
    result.push_str(rest);
    Ok(Cow::Owned(result))
}

/// Whether this text takes anything from the environment.
pub(super) fn has_variables(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if !rest[..start].ends_with('$') {
            return true;
        }
        rest = &rest[start + 2..];
    }
    false
}

fn value(expression: &str, environment: &Environment) -> Result<String, String> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(format!(
            "`${{{}}}` does not name a variable; write `${{NAME}}`, `${{NAME:-default}}`, or `$${{` for the characters themselves",
            expression.escape_debug()
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("the default of `${{{name}:-…}}` cannot hold another variable"));
    }
    let found = match environment.get(name).map(std::ffi::OsString::into_string) {
        None => None,
        Some(Ok(found)) => Some(found),
        Some(Err(_)) => return Err(format!("the variable `{name}` is not UTF-8 text")),
    };
    match (found, default) {
        (Some(found), Some(default)) if found.is_empty() => Ok(default.to_owned()),
        (Some(found), _) => Ok(found),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable `{name}` is not set; set it, or write `${{{name}:-default}}`"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::source::Environment;
    use super::{has_variables, interpolate};

    #[test]
    fn variables_are_put_in() {
        let environment = Environment::of([("A", "x"), ("EMPTY", ""), ("TRAP", "${A}: #{"), ("_b2", "y")]);
        for (text, expected) in [
            ("plain", "plain"),
            ("$A costs 5$", "$A costs 5$"),
            ("${A}", "x"),
            ("<${A}${_b2}>", "<xy>"),
            ("${A:-other}", "x"),
            ("${NONE:-other one}", "other one"),
            ("${NONE:-}", ""),
            ("${EMPTY:-other}", "other"),
            ("${EMPTY}", ""),
            ("$${A}", "${A}"),
            ("$${A} ${A}", "${A} x"),
            ("a $${ b", "a ${ b"),
            // What a variable holds is not looked at again.
            ("${TRAP}", "${A}: #{"),
        ] {
            assert_eq!(interpolate(text, &environment).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let environment = Environment::of([("A", "x")]);
        for (text, expected) in [
            ("${NONE}", "the variable `NONE` is not set"),
            ("${A", "not closed"),
            ("${}", "does not name a variable"),
            ("${1A}", "does not name a variable"),
            ("${A-b}", "does not name a variable"),
            ("${A B}", "does not name a variable"),
            ("${NONE:-${A}}", "cannot hold another variable"),
        ] {
            let error = interpolate(text, &environment).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_told() {
        use std::os::unix::ffi::OsStringExt as _;
        let environment = Environment::of([("A", std::ffi::OsString::from_vec(vec![0xff]))]);
        assert!(interpolate("${A}", &environment).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn escapes_are_not_variables() {
        for (text, expected) in [("${A}", true), ("$${A}", false), ("$${A}${B}", true), ("$A", false)] {
            assert_eq!(has_variables(text), expected, "{text}");
        }
    }
}
