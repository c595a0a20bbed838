//! What stands on the line at a TAB: its words as the program would be given them, and what is said of them. Pure, but for
//! [`Typed::of_process`], which reads what the shell's script handed over.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::compat;

/// The line up to the cursor, from bash, whose own words are cut at colons and equals signs.
const LINE: &str = "QCTL_COMPLETE_LINE";
/// Bash's `COMP_WORDBREAKS`: behind the last of them in a word, bash puts what is completed.
const BREAKS: &str = "QCTL_COMPLETE_BREAKS";
/// Where the word to complete stands, from shells that hand over what is behind the cursor too.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// A line that is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The words without their quotes; the last is the one to complete, and may be empty.
    pub words: Vec<String>,
    /// How much of the last word, in bytes, bash leaves where it is.
    pub kept: usize,
    /// The quote that is still open in the last word.
    pub quote: Option<char>,
    /// The last word is the target of a redirection.
    pub redirected: bool,
}

impl Typed {
    /// What a shell asks this process to complete.
    pub fn of_process(arguments: &[OsString]) -> Self {
        if let Some(line) = env::var_os(LINE) {
            let breaks = env::var(BREAKS).unwrap_or_default();
            return Self::line(&line.to_string_lossy(), &breaks);
        }
        let words = arguments
            .iter()
            .skip_while(|argument| *argument != "--")
            .skip(1)
            // Only some shells take the quotes off, and none off the word that is still typed.
            .map(|word| Self::scan(&word.to_string_lossy(), "", false).words.concat());
        let mut words: Vec<String> = words.collect();
        if let Some(current) = env::var(INDEX).ok().and_then(|index| index.parse::<usize>().ok())
            && !words.is_empty()
        {
            words.resize((current + 1).min(words.len() + 1), String::new());
        }
        Self {
            words,
            ..Self::default()
        }
    }

    /// Splits a line as a shell does; `breaks` are the characters behind which bash inserts.
    pub fn line(line: &str, breaks: &str) -> Self {
        Self::scan(line, breaks, true)
    }

    fn scan(line: &str, breaks: &str, splits: bool) -> Self {
        let mut typed = Self {
            words: vec![String::new()],
            ..Self::default()
        };
        let mut begun = false;
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            let word = typed.words.last_mut().expect("there is always a last word");
            match (typed.quote, character) {
                (Some(quote), _) if character == quote => typed.quote = None,
                (Some('\''), _) => word.push(character),
                (Some(_), '\\') => match characters.next() {
                    Some(next @ ('"' | '\\' | '$' | '`')) => word.push(next),
                    Some(next) => word.extend(['\\', next]),
                    None => word.push('\\'),
                },
                (Some(_), _) => word.push(character),
                (None, '\'' | '"') => {
                    typed.quote = Some(character);
                    typed.kept = word.len();
                    begun = true;
                }
                (None, '\\') => {
                    word.extend(characters.next());
                    begun = true;
                }
                (None, ' ' | '\t' | '\n' | '<' | '>') if splits => {
                    let redirects = matches!(character, '<' | '>');
                    if begun {
                        if typed.redirected {
                            typed.words.pop();
                        }
                        typed.redirected = false;
                        typed.words.push(String::new());
                    }
                    typed.redirected |= redirects;
                    typed.kept = 0;
                    begun = false;
                }
                (None, _) => {
                    word.push(character);
                    begun = true;
                    if breaks.contains(character) {
                        typed.kept = word.len();
                    }
                }
            }
        }
        typed
    }

    /// The word to complete.
    pub fn current(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }

    /// The configuration file named on the line.
    pub fn config(&self) -> Option<PathBuf> {
        let end = self.queued_command().unwrap_or(self.words.len().saturating_sub(1));
        let words = &self.words[..end];
        words.iter().enumerate().find_map(|(index, word)| {
            let file = match word.strip_prefix("--config") {
                Some("") => words.get(index + 1)?,
                Some(rest) => rest.strip_prefix('=')?,
                None => return None,
            };
            // The shell has not come to this yet.
            match (file.strip_prefix("~/"), env::home_dir()) {
                (Some(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(PathBuf::from(file)),
            }
        })
    }

    /// Whether the last word belongs to a queued command and not to qctl.
    pub fn is_behind_queued_command(&self) -> bool {
        self.queued_command().is_some()
    }

    /// Where the name of the queued command stands, if it stands before the last word.
    fn queued_command(&self) -> Option<usize> {
        let words: Vec<OsString> = self.words.iter().map(OsString::from).collect();
        let (start, name) = compat::subcommand(&words)?;
        if name != "queuecommand" {
            return None;
        }
        let mut positionals = 0;
        let mut escaped = false;
        let mut index = start + 1;
        while index + 1 < self.words.len() {
            let word = self.words[index].as_str();
            if !escaped && word == "--" {
                escaped = true;
            } else if !escaped && compat::takes_value(word) {
                index += 1;
            } else if escaped || !word.starts_with('-') || word == "-" {
                positionals += 1;
                if positionals == 2 {
                    return Some(index);
                }
            }
            index += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKS: &str = " \t\n\"'@><=;|&(:";

    #[test]
    fn lines_are_split_as_a_shell_does() {
        for (line, words, kept, quote) in [
            ("qctl consumer ", &["qctl", "consumer", ""][..], 0, None),
            ("qctl consumer ma", &["qctl", "consumer", "ma"], 0, None),
            ("qctl x app:ca", &["qctl", "x", "app:ca"], 4, None),
            ("qctl x app:", &["qctl", "x", "app:"], 4, None),
            ("qctl --connection=ot", &["qctl", "--connection=ot"], 13, None),
            ("qctl my\\ q", &["qctl", "my q"], 0, None),
            ("qctl 'my q", &["qctl", "my q"], 0, Some('\'')),
            ("qctl \"a\\\"b:c", &["qctl", "a\"b:c"], 0, Some('"')),
            ("qctl --queue='my q", &["qctl", "--queue=my q"], 8, Some('\'')),
            ("qctl '' x", &["qctl", "", "x"], 0, None),
            ("qctl  é ", &["qctl", "é", ""], 0, None),
            ("qctl > out list ", &["qctl", "list", ""], 0, None),
        ] {
            let typed = Typed::line(line, BREAKS);
            assert_eq!(typed.words, words, "{line}");
            assert_eq!((typed.kept, typed.quote), (kept, quote), "{line}");
            assert!(!typed.redirected, "{line}");
        }
        assert!(Typed::line("qctl list >ou", BREAKS).redirected);
        assert!(Typed::line("qctl list > ", BREAKS).redirected);
    }

    #[test]
    fn the_configuration_on_the_line_is_found() {
        for (line, expected) in [
            ("qctl --config a.yml consumer ", Some("a.yml")),
            ("qctl consumer --config=a.yml ", Some("a.yml")),
            ("qctl consumer --config a.ym", None),
            ("qctl queuecommand q c --config a.yml ", None),
            ("qctl queuecommand --config a.yml q c x", Some("a.yml")),
        ] {
            assert_eq!(
                Typed::line(line, BREAKS).config(),
                expected.map(PathBuf::from),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_behind_a_queued_command_is_its_own() {
        for (line, expected) in [
            ("qctl queuecommand q c ", true),
            ("qctl queuecommand -t 60 q c --x", true),
            ("qctl queuecommand q c", false),
            ("qctl queuecommand -- q c ", true),
            ("qctl queuecommand -t 60 q ", false),
            ("qctl queuemessage q body ", false),
        ] {
            assert_eq!(Typed::line(line, BREAKS).is_behind_queued_command(), expected, "{line}");
        }
    }
}
