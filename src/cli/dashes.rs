//! Words that begin with a dash where the parser expected none. Its own advice, to write them behind `--`, is right for text
//! only: a number below nought is no better there, and an option of another command even less.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::{Arg, Command};

use super::compat;

/// Has every option whose value is a number, a time or a size take also one that begins with a dash, so that the option
/// itself says what is wrong with it.
pub fn taken_as_values(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    names
        .into_iter()
        .fold(options_taken_as_values(command), |command, name| {
            command.mut_subcommand(name, taken_as_values)
        })
}

/// As [`taken_as_values`], for what a command line that calls this subcommand needs. To go through all of them takes as long as
/// the parsing itself.
pub fn taken_as_values_by(command: Command, subcommand: &str) -> Command {
    let command = options_taken_as_values(command);
    if !command.get_subcommands().any(|known| known.get_name() == subcommand) {
        return command;
    }
    command.mut_subcommand(subcommand, taken_as_values)
}

fn options_taken_as_values(command: Command) -> Command {
    command.mut_args(|argument| {
        if argument.is_positional() {
            return argument;
        }
        match value_name(&argument) {
            "N" => argument.allow_negative_numbers(true),
            "DURATION" | "SECS" | "AGE" | "SIZE" => argument.allow_hyphen_values(true),
            _ => argument,
        }
    })
}

fn value_name(argument: &Arg) -> &str {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or("", |name| name.as_str())
}

/// The text of a usage error, with the parser's advice replaced where it is wrong for what was typed.
pub fn advised(text: &str, arguments: &[OsString]) -> String {
    let command = text.lines().find_map(|line| line.strip_prefix("usage: "));
    let command = command.map_or_else(|| "qctl".to_owned(), command_of);
    let mut advised = String::new();
    for line in text.lines() {
        match line
            .strip_prefix("hint: to pass '")
            .and_then(|rest| rest.split('\'').next())
        {
            Some(word) if !may_be_text(word, arguments) => {
                let _ = write!(
                    advised,
                    "hint: {command} has no option {word}; `{command} --help` lists those it has"
                );
            }
            _ => advised.push_str(line),
        }
        advised.push('\n');
    }
    advised
}

/// The words of a usage line before its options.
fn command_of(usage: &str) -> String {
    let words = usage.split_whitespace();
    let words: Vec<&str> = words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
    words.join(" ")
}

/// Whether the text that these commands take can be meant: they take any, and it stands last.
fn may_be_text(word: &str, arguments: &[OsString]) -> bool {
    let takes_text = compat::subcommand(arguments).is_some_and(|(_, name)| matches!(name, "echoback" | "queuemessage"));
    let last = arguments.last().and_then(|last| last.to_str()).unwrap_or_default();
    takes_text && last.starts_with(word)
}

#[cfg(test)]
mod tests {
    use super::{OsString, advised};

    fn hint(line: &str, word: &str, usage: &str) -> String {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let text = format!("qctl: x\nhint: to pass '{word}' as a value, use '-- {word}'\nusage: {usage}\n");
        let advised = advised(&text, &arguments);
        let hint = advised.lines().nth(1).unwrap_or_default();
        assert_eq!(advised, format!("qctl: x\n{hint}\nusage: {usage}\n"));
        hint.to_owned()
    }

    #[test]
    fn only_text_goes_behind_two_dashes() {
        let usage = "qctl queuecommand [OPTIONS] <PRODUCER> <COMMAND> [ARGS]...";
        assert_eq!(
            hint("qctl queuecommand -m 3 j hey", "-m", usage),
            "hint: qctl queuecommand has no option -m; `qctl queuecommand --help` lists those it has"
        );
        let usage = "qctl managequeue info [OPTIONS] <NAME>";
        assert_eq!(
            hint("qctl managequeue info j --x", "--x", usage),
            "hint: qctl managequeue info has no option --x; `qctl managequeue info --help` lists those it has"
        );
        let usage = "qctl queuemessage [OPTIONS] <PRODUCER> [BODY|-]";
        assert_eq!(
            hint("qctl queuemessage j -5", "-5", usage),
            "hint: to pass '-5' as a value, use '-- -5'"
        );
        assert_eq!(
            hint("qctl queuemessage -z j text", "-z", usage),
            "hint: qctl queuemessage has no option -z; `qctl queuemessage --help` lists those it has"
        );
    }
}
