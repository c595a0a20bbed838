//! From the words after `qctl queuecommand PRODUCER` to a console command.

use super::{ConsoleCommand, OptionValue};
use crate::error::{Error, Result};

impl ConsoleCommand {
    /// A command with what was typed behind its name; see [`add_words`](Self::add_words).
    pub fn from_command_line(command: &str, words: &[String]) -> Result<Self> {
        let mut made = Self {
            command: command.to_owned(),
            ..Self::default()
        };
        made.add_words(words)?;
        Ok(made)
    }

    /// Reads a command's own words.
    ///
    /// - `--name=value` and `-n=value` are options with a value; `--name` and `-n` are flags. An option given twice has a
    ///   list.
    /// - Any other word that begins with a dash and has no `=` is a flag of that name: `-vvv`, and also `-5`.
    /// - `option.name.value` and `option.name` are the old spelling of the same.
    /// - A lone `-`, and every word after `--`, is an argument.
    ///
    /// Dashes that the usual rule (one for a letter, two for a word) would not give back are kept in the name. A name that
    /// no consumer would take is an error.
    pub fn add_words(&mut self, words: &[String]) -> Result<()> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                self.arguments.extend(words.by_ref().cloned());
            } else if let Some((name, value)) = old_option(word) {
                self.add_option(name, value)?;
            } else if word.starts_with('-') && word != "-" {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (word.as_str(), None),
                };
                self.add_option(without_usual_dashes(name), value)?;
            } else {
                self.arguments.push(word.clone());
            }
        }
        Ok(())
    }

    /// Adds an option by its name as it travels, usually without dashes; `None` is a flag. Given again, it has a list of
    /// values.
    pub fn add_option(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        if !is_option_name(name) {
            return Err(Error::bad_input(format!(
                "the option name '{}' cannot be passed on: write letters, digits and `_.:-`, or `--` before an argument",
                name.escape_debug()
            )));
        }
        add(&mut self.options, name, value);
        Ok(())
    }
}

/// Whether a queued option's name is one that can be passed on: up to two dashes, then letters, digits and `_.:-`, the first
/// of them a letter or a digit.
pub fn is_option_name(name: &str) -> bool {
    let bare = name
        .strip_prefix("--")
        .or_else(|| name.strip_prefix('-'))
        .unwrap_or(name);
    bare.starts_with(|first: char| first.is_ascii_alphanumeric())
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
}

fn old_option(word: &str) -> Option<(&str, Option<&str>)> {
    let rest = word.strip_prefix("option.")?;
    let (name, value) = match rest.split_once('.') {
        Some((name, value)) => (name, Some(value)),
        None => (rest, None),
    };
    (!name.is_empty()).then_some((name, value))
}

fn without_usual_dashes(name: &str) -> &str {
    let one_letter = |bare: &str| bare.chars().count() == 1;
    match (name.strip_prefix("--"), name.strip_prefix('-')) {
        (Some(bare), _) if !one_letter(bare) && !bare.starts_with('-') && !bare.is_empty() => bare,
        (None, Some(bare)) if one_letter(bare) => bare,
        _ => name,
    }
}

fn add(options: &mut Vec<(String, OptionValue)>, name: &str, value: Option<&str>) {
    let Some((_, known)) = options.iter_mut().find(|(known, _)| known == name) else {
        options.push((
            name.to_owned(),
            value.map_or(OptionValue::Flag, |value| OptionValue::Text(value.to_owned())),
        ));
        return;
    };
    // A flag given twice says no more than once; with a value elsewhere, it is the one without.
    let Some(value) = value else { return };
    *known = match std::mem::replace(known, OptionValue::Flag) {
        OptionValue::Flag => OptionValue::Text(value.to_owned()),
        OptionValue::Text(first) => OptionValue::List(vec![first, value.to_owned()]),
        OptionValue::List(mut values) => {
            values.push(value.to_owned());
            OptionValue::List(values)
        }
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{ConsoleCommand, OptionValue, is_option_name};

    fn read(words: &[&str]) -> (Vec<String>, Vec<(String, OptionValue)>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let command = ConsoleCommand::from_command_line("c", &words).unwrap();
        (command.arguments, command.options)
    }

    fn text(value: &str) -> OptionValue {
        OptionValue::Text(value.to_owned())
    }

    #[test]
    fn options_and_arguments_are_told_apart() {
        let (arguments, options) = read(&[
            "a",
            "--env=prod",
            "-f=x=y",
            "--force",
            "-v",
            "-",
            "b",
            "--",
            "--no",
            "-x=1",
            "--",
        ]);
        assert_eq!(arguments, ["a", "-", "b", "--no", "-x=1", "--"]);
        let expected = [
            ("env", text("prod")),
            ("f", text("x=y")),
            ("force", OptionValue::Flag),
            ("v", OptionValue::Flag),
        ];
        assert_eq!(options, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn the_old_spelling_is_understood() {
        let (arguments, options) = read(&[
            "hello",
            "option.f.test.output.txt",
            "option.v",
            "option.",
            "options.x",
            "--",
            "option.f.x",
        ]);
        assert_eq!(arguments, ["hello", "option.", "options.x", "option.f.x"]);
        assert_eq!(
            options,
            [
                ("f".to_owned(), text("test.output.txt")),
                ("v".to_owned(), OptionValue::Flag)
            ]
        );
    }

    #[test]
    fn unusual_dashes_are_kept() {
        let (_, options) = read(&["-vvv", "--x", "-name=1", "-x", "--name"]);
        let names: Vec<_> = options.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["-vvv", "--x", "-name", "x", "name"]);
    }

    #[test]
    fn names_that_no_consumer_takes_are_refused() {
        for word in ["--x; touch P; #", "---odd", "-é", "--=v", "-=v", "option.a b.c"] {
            let error = ConsoleCommand::from_command_line("c", &[word.to_owned()]).unwrap_err();
            assert_eq!(error.exit_code(), 65, "{word}: {error}");
        }
    }

    #[test]
    fn a_repeated_option_is_a_list() {
        let (_, options) = read(&["--all=1", "-v", "--all=2", "--all=3", "-v"]);
        let list = OptionValue::List(["1", "2", "3"].map(str::to_owned).to_vec());
        assert_eq!(options, [("all".to_owned(), list), ("v".to_owned(), OptionValue::Flag)]);
    }

    #[test]
    fn only_plain_option_names_pass() {
        for good in ["f", "env", "--env", "-f", "no-debug", "a.b:c_d", "5", "-vvv"] {
            assert!(is_option_name(good), "{good}");
        }
        for bad in [
            "",
            "-",
            "--",
            "---x",
            "x; touch P; #",
            "a b",
            "a=b",
            "é",
            "_x",
            "a\0",
            "a\n",
        ] {
            assert!(!is_option_name(bad), "{bad}");
        }
    }
}
