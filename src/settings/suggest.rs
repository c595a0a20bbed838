//! "Did you mean": the nearest of the names there are.

/// The nearest of `candidates`, if one is near enough to be worth proposing.
pub fn suggestion<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long foreign text is no slip of the finger, and comparing it would cost its square.
    const LONGEST: usize = 64;
    if given.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let given = plain(given);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let other = plain(candidate);
            let distance = strsim::damerau_levenshtein(&given, &other);
            let length = given.chars().count().max(other.chars().count());
            // One slip in three letters, two in six, three in nine; or one is the other with more behind it.
            let near = distance <= (length / 3).min(3);
            let longer = other.chars().count() >= 3 && (given.starts_with(&other) || other.starts_with(&given));
            (near || (longer && given.len() >= 3)).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `a or b`, `a, b or c`.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{one_of, suggestion};

    #[test]
    fn near_names_are_proposed_and_far_ones_not() {
        let names = [
            "connection",
            "connections",
            "queue",
            "ttl",
            "concurrency",
            "routing_key",
            "max",
        ];
        for (given, expected) in [
            ("conection", Some("connection")),
            ("conections", Some("connections")),
            ("Queue", Some("queue")),
            ("queues", Some("queue")),
            ("ttk", Some("ttl")),
            ("routing-key", Some("routing_key")),
            ("routing_keys", Some("routing_key")),
            ("concurency", Some("concurrency")),
            ("max_wait", Some("max")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(suggestion(given, names), expected, "{given}");
        }
        assert_eq!(suggestion(&"q".repeat(100_000), names), None);
    }

    #[test]
    fn words_are_listed() {
        assert_eq!(one_of(["a"]), "a");
        assert_eq!(one_of(["a", "b"]), "a or b");
        assert_eq!(one_of(["a", "b", "c"]), "a, b or c");
    }
}
