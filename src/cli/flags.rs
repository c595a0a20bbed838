//! The flags of a subcommand, as the parser knows them: to tell what a word would have meant in another place.

use std::collections::{BTreeMap, BTreeSet};

use clap::{ArgAction, Command};

use super::parser;

/// Every spelling of a subcommand's flags, aliases and global flags included.
#[derive(Debug)]
pub struct Flags {
    long: BTreeSet<String>,
    /// Each letter, and whether a value follows it.
    short: BTreeMap<char, bool>,
}

impl Flags {
    /// The flags of this subcommand.
    pub fn of(subcommand: &str) -> Self {
        let mut root = parser();
        // Only then are global flags and `--help` among each subcommand's own.
        root.build();
        root.find_subcommand(subcommand)
            .map_or_else(|| Self::read(&root), Self::read)
    }

    fn read(command: &Command) -> Self {
        let mut flags = Self {
            long: BTreeSet::new(),
            short: BTreeMap::new(),
        };
        for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
            let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
            let long = argument.get_long().map(str::to_owned);
            let aliases = argument.get_all_aliases().unwrap_or_default();
            flags.long.extend(long);
            flags.long.extend(aliases.into_iter().map(str::to_owned));
            let letters = argument.get_all_short_aliases().unwrap_or_default();
            flags.short.extend(
                argument
                    .get_short()
                    .into_iter()
                    .chain(letters)
                    .map(|letter| (letter, takes_value)),
            );
        }
        flags
    }

    /// The word without its value, if the parser would take it for a flag of this subcommand: `--ttl=5`, `--driver=x`, `-t`,
    /// `-t60`, `-qv`.
    pub fn recognised<'a>(&self, word: &'a str) -> Option<&'a str> {
        let name = word.split('=').next().unwrap_or(word);
        let ours = match word.strip_prefix("--") {
            Some(_) => self.long.contains(&name[2..]),
            None => self.are_letters(word.strip_prefix('-')?),
        };
        ours.then_some(name)
    }

    /// Whether these are flags in one word, the last of them perhaps with its value.
    fn are_letters(&self, letters: &str) -> bool {
        for letter in letters.chars() {
            match self.short.get(&letter) {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
        !letters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Flags;

    #[test]
    fn every_spelling_is_recognised() {
        let flags = Flags::of("queuecommand");
        for (word, name) in [
            ("-t", "-t"),
            ("-t60", "-t60"),
            ("-t=60", "-t"),
            ("-ttl=60", "-ttl"),
            ("--ttl=60", "--ttl"),
            ("--driver=x", "--driver"),
            ("--route", "--route"),
            ("--debug", "--debug"),
            ("-d", "-d"),
            ("-qv", "-qv"),
            ("-qt5", "-qt5"),
            ("--help", "--help"),
            ("-h", "-h"),
            ("--output=json", "--output"),
            ("--wait-timeout", "--wait-timeout"),
        ] {
            assert_eq!(flags.recognised(word), Some(name), "{word}");
        }
        for word in [
            "",
            "-",
            "--",
            "x",
            "ttl",
            "--env=prod",
            "-n",
            "-5",
            "-xt60",
            "--tt",
            "--content-type",
        ] {
            assert_eq!(flags.recognised(word), None, "{word}");
        }
    }
}
