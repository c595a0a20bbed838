//! Which queued commands may run, and as what program: pure matching, no I/O.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

use crate::error::Result;
use crate::settings::Settings;

/// The built-in command, under its own name and the one it had in the Kaliop bundle.
pub const ECHOBACK: [&str; 2] = ["echoback", "kaliop_queueing:echoback"];

/// Everything a queued command may run. The built-in `echoback` is always part of it.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// The entries of `commands:`, in the order written; the first whose `allow` matches runs it.
    pub entries: Vec<CommandEntry>,
}

/// One entry of `commands:`.
#[derive(Clone, Debug)]
pub struct CommandEntry {
    /// Its key.
    pub name: String,
    /// Program and leading arguments; the queued command's name follows them.
    pub run: Vec<String>,
    /// The program of persistent workers that take the same commands, for consumers that say `mode: worker`.
    pub worker: Option<Vec<String>>,
    /// The command names it takes.
    pub allow: Vec<Pattern>,
    /// Further environment variables of the child.
    pub env: Vec<(String, String)>,
    /// The child's working directory.
    pub cwd: Option<String>,
    /// What becomes of arguments that begin with a dash.
    pub dash_arguments: DashArguments,
}

/// What becomes of arguments that begin with a dash. A lone `-` is an argument like any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DashArguments {
    /// The message is refused.
    #[default]
    Refuse,
    /// Where one does, `--` is put before the arguments, and the options before that.
    Separator,
    /// They are passed as they are.
    Allow,
}

impl DashArguments {
    /// Reads the key `dash_arguments`.
    pub fn read(settings: &mut Settings) -> Result<Self> {
        let words = [
            ("refuse", Self::Refuse),
            ("separator", Self::Separator),
            ("allow", Self::Allow),
        ];
        Ok(settings.choice(&["dash_arguments"], &words)?.unwrap_or_default())
    }
}

/// What runs a command that is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Allowed<'a> {
    /// The program of an entry of `commands:`.
    Entry(&'a CommandEntry),
    /// qctl itself: the built-in `echoback`.
    BuiltIn,
}

impl Commands {
    /// What runs this command; `None`: it is not allowed. The entries come first, in the order written, then the built-in
    /// command.
    pub fn allowed(&self, command: &str) -> Option<Allowed<'_>> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.allow.iter().any(|pattern| pattern.matches(command)));
        match entry {
            Some(entry) => Some(Allowed::Entry(entry)),
            None => ECHOBACK.contains(&command).then_some(Allowed::BuiltIn),
        }
    }

    /// The names that are allowed one by one, sorted, the built-in one too: what a shell can complete.
    pub fn names(&self) -> Vec<String> {
        let exact = self
            .entries
            .iter()
            .flat_map(|entry| &entry.allow)
            .filter_map(|pattern| pattern.exact());
        let mut names: Vec<String> = exact.chain([ECHOBACK[0]]).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// All that is allowed, as written, the built-in command last: for error texts.
    pub fn patterns(&self) -> Vec<String> {
        let written = self
            .entries
            .iter()
            .flat_map(|entry| &entry.allow)
            .map(ToString::to_string);
        written.chain([ECHOBACK[0].to_owned()]).collect()
    }

    /// The allowed name that is most like this one, if any is like it.
    pub fn suggestion(&self, command: &str) -> Option<String> {
        self.names()
            .into_iter()
            .map(|name| (strsim::damerau_levenshtein(command, &name), name))
            .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
            .min()
            .map(|(_, name)| name)
    }
}

/// A name to compare with: exact, with `*`, or `regexp:…` anchored at both ends.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact,
    /// What stands between the stars.
    Glob(Vec<String>),
    Regexp(Regex),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// `regexp:` takes a bare expression or Kaliop's delimited form, such as `regexp:/^app:/i`; of the flags there is `i`.
    /// It is anchored at both ends, whatever it says: `regexp:app` matches nothing but `app`.
    pub fn parse(written: &str) -> Result<Self, String> {
        if written.is_empty() {
            return Err("is empty; write a command's name, `*` for any, or `regexp:…`".to_owned());
        }
        let kind = if let Some(expression) = written.strip_prefix("regexp:") {
            Kind::Regexp(regexp(expression)?)
        } else if written.contains('*') {
            Kind::Glob(written.split('*').map(str::to_owned).collect())
        } else {
            Kind::Exact
        };
        Ok(Self {
            written: written.to_owned(),
            kind,
        })
    }

    /// Whether a name matches, from its first character to its last.
    pub fn matches(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Exact => self.written == name,
            Kind::Glob(parts) => glob(parts, name),
            Kind::Regexp(regexp) => regexp.is_match(name),
        }
    }

    /// The one name it matches, if it is exact.
    pub fn exact(&self) -> Option<&str> {
        matches!(self.kind, Kind::Exact).then_some(&self.written)
    }
}

/// As it was written.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn glob(parts: &[String], name: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return false;
    };
    let Some(rest) = name.strip_prefix(first.as_str()) else {
        return false;
    };
    let Some(mut rest) = rest.strip_suffix(last.as_str()) else {
        return false;
    };
    // The first place is as good as any later one, since stars stand on both sides of what is looked for.
    middle.iter().all(|part| match rest.split_once(part.as_str()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn regexp(expression: &str) -> Result<Regex, String> {
    let (expression, ignore_case) = undelimited(expression)?;
    if expression.is_empty() {
        return Err("has no expression after `regexp:`".to_owned());
    }
    let build = |text: &str| RegexBuilder::new(text).case_insensitive(ignore_case).build();
    // By itself first: only what is a whole expression is safe inside the anchors (`a)|(b` is not).
    build(expression)
        .and_then(|_| build(&format!("^(?:{expression})$")))
        .map_err(|error| format!("is not a regular expression: {error}"))
}

/// Takes Kaliop's delimiters and flags off. Commands do not begin with any of these characters, so a bare expression has no
/// reason to.
fn undelimited(expression: &str) -> Result<(&str, bool), String> {
    let Some(delimiter) = expression.chars().next().filter(|first| "/#~!@%".contains(*first)) else {
        return Ok((expression, false));
    };
    let Some((inner, flags)) = expression[1..].rsplit_once(delimiter) else {
        return Err(format!("begins with the delimiter `{delimiter}` but has no second one"));
    };
    match flags.chars().find(|flag| *flag != 'i') {
        Some(flag) => Err(format!(
            "has the flag `{flag}`; of the flags after the second `{delimiter}` only `i` is known"
        )),
        None => Ok((inner, !flags.is_empty())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{Allowed, CommandEntry, Commands, DashArguments, Pattern};

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    fn commands(entries: &[(&str, &[&str])]) -> Commands {
        let entry = |(name, allow): &(&str, &[&str])| CommandEntry {
            name: (*name).to_owned(),
            run: vec![(*name).to_owned()],
            worker: None,
            allow: allow.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
            env: vec![],
            cwd: None,
            dash_arguments: DashArguments::Refuse,
        };
        Commands {
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("app:mail", "app:mail"),
            ("app:*", "app:"),
            ("app:*", "app:mail:send"),
            ("*", "anything"),
            ("*:send", "mail:send"),
            ("a*b*c", "a-b-b-c"),
            ("a**c", "abc"),
            ("regexp:cache:(clear|warmup)", "cache:warmup"),
            ("regexp:app:.*", "app:x"),
            ("regexp:/app:.*/i", "APP:x"),
            ("regexp:#a/b#", "a/b"),
            ("regexp:/a\\/b/", "a/b"),
            ("regexp:/^app$/", "app"),
            ("regexp:a|b", "b"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("app:mail", "app:mail2"),
            ("app:*", "xapp:mail"),
            ("app.*", "appx"),
            ("ab*ba", "aba"),
            ("a*b*c", "a-c-b"),
            ("regexp:app", "my:app"),
            ("regexp:app", "app:mail"),
            ("regexp:/app/", "app:mail"),
            ("regexp:a|b", "ax"),
            ("regexp:a|b", "xb"),
            ("regexp:app", "app\n"),
            ("regexp:(?m)a", "a\nb"),
            ("regexp:/app:.*/", "APP:x"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        for (pattern, expected) in [
            ("", "is empty"),
            ("regexp:", "no expression"),
            ("regexp://", "no expression"),
            ("regexp:a)|(b", "not a regular expression"),
            ("regexp:(", "not a regular expression"),
            ("regexp:/abc", "no second one"),
            ("regexp:/abc/x", "the flag `x`"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
        assert_eq!(Pattern::parse("regexp:/a/i").unwrap().to_string(), "regexp:/a/i");
    }

    #[test]
    fn the_first_entry_that_matches_runs_it() {
        let commands = commands(&[("first", &["app:*"]), ("second", &["app:mail", "db:dump"])]);
        let name = |command: &str| match commands.allowed(command) {
            Some(Allowed::Entry(entry)) => entry.name.clone(),
            Some(Allowed::BuiltIn) => "built in".to_owned(),
            None => "none".to_owned(),
        };
        assert_eq!(name("app:mail"), "first");
        assert_eq!(name("db:dump"), "second");
        assert_eq!(name("db:drop"), "none");
        assert_eq!(name("echoback"), "built in");
        assert_eq!(name("kaliop_queueing:echoback"), "built in");
        assert_eq!(commands.names(), ["app:mail", "db:dump", "echoback"]);
        assert_eq!(commands.patterns(), ["app:*", "app:mail", "db:dump", "echoback"]);
    }

    #[test]
    fn a_slip_of_the_pen_gets_a_suggestion() {
        let commands = commands(&[("x", &["cache:clear"])]);
        assert_eq!(commands.suggestion("cache:claer").as_deref(), Some("cache:clear"));
        assert_eq!(commands.suggestion("echobak").as_deref(), Some("echoback"));
        assert_eq!(commands.suggestion("rm"), None);
    }

    proptest! {
        #[test]
        fn globs_take_anything_for_a_star(parts in prop::collection::vec("[a-c]{0,3}", 1..5), fill in "[a-c]{0,4}") {
            assert!(matches(&format!("*{}*", parts.join("*")), &format!("{fill}{}", parts.join(&fill))));
        }

        #[test]
        fn no_pattern_panics(pattern in any::<String>(), name in any::<String>()) {
            for pattern in [format!("regexp:{pattern}"), pattern] {
                if let Ok(pattern) = Pattern::parse(&pattern) {
                    let _ = pattern.matches(&name);
                }
            }
        }
    }
}
