//! `%name%` within a text: taken apart, and what it is a reference to. Pure functions.

/// A piece of a text as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Literal(&'a str),
    /// What stands between two `%`.
    Reference(&'a str),
}

/// Takes a text apart. `%%` is one `%`, and a `%` that no second one follows within the same word is itself.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut literal_end = 0;
    while let Some(found) = rest[literal_end..].find('%') {
        let start = literal_end + found;
        let inside = &rest[start + 1..];
        let end = inside.find(|c: char| c == '%' || c.is_whitespace());
        match end {
            Some(0) if inside.starts_with('%') => {
                // The first of the two is the one that stays.
                parts.push(Part::Literal(&rest[..=start]));
                rest = &inside[1..];
                literal_end = 0;
            }
            Some(end) if end > 0 && inside[end..].starts_with('%') => {
                if start > 0 {
                    parts.push(Part::Literal(&rest[..start]));
                }
                parts.push(Part::Reference(&inside[..end]));
                rest = &inside[end + 1..];
                literal_end = 0;
            }
            _ => literal_end = start + 1,
        }
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// The inside of `env(…)`.
pub(super) fn variable_of(reference: &str) -> Option<&str> {
    reference.strip_prefix("env(")?.strip_suffix(')')
}

pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The variable that a parameter becomes: `rabbit.password` is `RABBIT_PASSWORD`.
pub(super) fn variable_for(name: &str) -> String {
    let mut variable: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    if !variable.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        variable.insert(0, '_');
    }
    variable
}

/// A literal text as qctl writes it, where `${` is the beginning of a variable.
pub(super) fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::{Part, parts};

    #[test]
    fn texts_are_taken_apart() {
        assert_eq!(parts(""), []);
        assert_eq!(parts("%a b%"), [Part::Literal("%a b%")]);
        assert_eq!(parts("%a b%c%"), [Part::Literal("%a b"), Part::Reference("c")]);
        assert_eq!(parts("%é%"), [Part::Reference("é")]);
    }
}
