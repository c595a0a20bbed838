//! What people who come from other tools type, understood or answered with a hint. Pure functions over the arguments,
//! which know only the few flags they speak of.

use std::ffi::OsString;

/// Global flags that take a value in the next argument.
pub const GLOBAL_WITH_VALUE: &[&str] = &["--config", "--output", "--connect-timeout", "--log-format"];

/// The subcommand in `arguments` (the program's name first) and its index.
pub fn subcommand(arguments: &[OsString]) -> Option<(usize, &str)> {
    let mut index = 1;
    while let Some(argument) = arguments.get(index) {
        let argument = argument.to_str()?;
        if GLOBAL_WITH_VALUE.contains(&argument) {
            index += 2;
        } else if argument.starts_with('-') {
            index += 1;
        } else {
            return Some((index, argument.rsplit(':').next().unwrap_or(argument)));
        }
    }
    None
}

/// The arguments with old spellings replaced by today's, and all behind a queued command's name left to the command.
pub fn modernised(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(own) = Own::of(&arguments) else {
        return arguments;
    };
    for index in own.flags {
        let Some(argument) = arguments[index].to_str() else {
            continue;
        };
        if let Some(rest) = argument
            .strip_prefix("-ttl")
            .or_else(|| argument.strip_prefix("-TTL"))
            .filter(|rest| rest.is_empty() || rest.starts_with('='))
        {
            arguments[index] = OsString::from(format!("--ttl{rest}"));
        }
    }
    if let Some(command) = own.message_of_command {
        arguments.insert(command, OsString::from("--"));
    }
    arguments
}

/// What of the arguments of `queuecommand` and `queuemessage` is qctl's own: all that stands before a `--` and before a
/// queued command's name.
struct Own {
    /// The indices of the flags.
    flags: Vec<usize>,
    /// For `queuemessage --kind command`: the index of the command's name. The parser does not know that all behind it is
    /// the command's, as it does for `queuecommand`.
    message_of_command: Option<usize>,
}

impl Own {
    fn of(arguments: &[OsString]) -> Option<Self> {
        let (start, name) = subcommand(arguments)?;
        if !matches!(name, "queuecommand" | "queuemessage") {
            return None;
        }
        let mut own = Self {
            flags: Vec::new(),
            message_of_command: None,
        };
        let mut names_command = name == "queuecommand";
        let mut has_producer = false;
        let mut index = start + 1;
        while let Some(argument) = arguments.get(index) {
            let text = argument.to_str().unwrap_or_default();
            if text == "--" {
                break;
            }
            if text.starts_with('-') && text != "-" {
                own.flags.push(index);
                let next = arguments.get(index + 1).and_then(|next| next.to_str());
                if text == "--kind=command" || text == "--kind" && next == Some("command") {
                    names_command = true;
                }
                index += usize::from(takes_value(text));
            } else if has_producer && names_command {
                own.message_of_command = (name == "queuemessage").then_some(index);
                break;
            } else {
                has_producer = true;
            }
            index += 1;
        }
        Some(own)
    }
}

/// Flags of `queuecommand` and `queuemessage` whose value is the next argument; a test compares it with the parser.
pub const QUEUE_WITH_VALUE: &[&str] = &[
    "-i",
    "--connection",
    "--driver",
    "-t",
    "--ttl",
    "-r",
    "--routing-key",
    "--route",
    "-o",
    "--option",
    "-c",
    "--content-type",
    "-m",
    "--repeat",
    "--messages",
    "--delay",
    "--priority",
    "--header",
    "--message-id",
    "--wait-timeout",
    "--kind",
    "--file",
    "--from-line",
];

/// Whether this flag, global or of `queuecommand` and `queuemessage`, takes the next argument as its value.
pub fn takes_value(argument: &str) -> bool {
    QUEUE_WITH_VALUE.contains(&argument) || GLOBAL_WITH_VALUE.contains(&argument) || matches!(argument, "-ttl" | "-TTL")
}

/// Whether these arguments ask to wait for a queued message's reply, so that qctl's own failures exit with 125.
pub fn waits(arguments: &[OsString]) -> bool {
    Own::of(arguments).is_some_and(|own| own.flags.iter().any(|index| arguments[*index] == "--wait"))
}

/// Hints for what probably was meant, shown with a usage error.
pub fn hints(arguments: &[OsString]) -> Vec<String> {
    let mut hints = Vec::new();
    let Some((start, name)) = subcommand(arguments) else {
        return long_with_one_dash(&arguments[1.min(arguments.len())..]);
    };
    let words: Vec<&str> = arguments[start + 1..]
        .iter()
        .map_while(|argument| argument.to_str())
        .collect();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).copied().unwrap_or("");
        match (*word, next) {
            ("--", _) => break,
            ("-o", "json" | "table" | "yaml" | "text") | ("-ojson" | "-o=json", _) => {
                hints.push("for JSON write --output json; -o is queuecommand's --option NAME=VALUE".to_owned());
            }
            ("-c", file) if looks_like_file(file) => {
                hints.push(format!(
                    "for a configuration file write --config {file}; -c is queuemessage's --content-type"
                ));
            }
            ("-f", _) if name != "echoback" => {
                hints.push(
                    "-f never means force: destructive verbs take --yes, `managequeue delete` takes --force".to_owned(),
                );
            }
            ("-n", _) => hints.push("to try without doing it write --dry-run".to_owned()),
            _ => {}
        }
        if name == "consumer"
            && let Some(count) = without_signals_with_number(word, next)
        {
            hints.push(format!(
                "for {count} messages at once write --concurrency {count}; -w is --without-signals and takes no value"
            ));
        }
    }
    hints.extend(long_with_one_dash(&arguments[1..]));
    hints
}

/// A number behind `consumer -w` is always a mistake, also where it could be taken for the consumer's name.
pub fn refused(arguments: &[OsString]) -> Option<String> {
    let (start, name) = subcommand(arguments)?;
    if name != "consumer" {
        return None;
    }
    let words: Vec<&str> = arguments[start + 1..]
        .iter()
        .map_while(|argument| argument.to_str())
        .collect();
    words.iter().enumerate().find_map(|(index, word)| {
        let next = words.get(index + 1).copied().unwrap_or("");
        without_signals_with_number(word, next).map(|count| format!("-w takes no value, but '{count}' follows it"))
    })
}

fn without_signals_with_number<'a>(word: &'a str, next: &'a str) -> Option<&'a str> {
    let count = match word {
        "-w" => next,
        _ => word.strip_prefix("-w")?.trim_start_matches('='),
    };
    (!count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit())).then_some(count)
}

fn looks_like_file(text: &str) -> bool {
    [".yml", ".yaml", ".json", ".toml"]
        .iter()
        .any(|ending| text.ends_with(ending))
        || text.starts_with(['/', '.'])
}

/// Long options that were typed with one dash.
fn long_with_one_dash(arguments: &[OsString]) -> Vec<String> {
    const LONG: &[&str] = &[
        "config",
        "output",
        "yes",
        "quiet",
        "verbose",
        "debug",
        "connection",
        "driver",
        "ttl",
        "routing-key",
        "option",
        "content-type",
        "messages",
        "repeat",
        "memory-limit",
        "timeout",
        "time-limit",
        "label",
        "concurrency",
        "dry-run",
        "help",
        "version",
        "wait",
        "novalidate",
        "batch",
        "lines",
        "file",
    ];
    arguments
        .iter()
        .map_while(|argument| argument.to_str())
        .take_while(|argument| *argument != "--")
        .filter(|argument| argument.starts_with('-') && !argument.starts_with("--"))
        .filter_map(|argument| {
            let word = &argument[1..];
            let name = word.split('=').next().unwrap_or(word);
            LONG.contains(&name)
                .then(|| format!("long options have two dashes: -{word} is --{word}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_old_ttl_is_rewritten_only_where_it_is_ours() {
        for (typed, understood) in [
            ("qctl queuecommand -ttl=60 q c", "qctl queuecommand --ttl=60 q c"),
            ("qctl queuecommand -ttl 60 q c", "qctl queuecommand --ttl 60 q c"),
            ("qctl queuecommand q -ttl=60 c", "qctl queuecommand q --ttl=60 c"),
            ("qctl queuecommand q c -ttl=60", "qctl queuecommand q c -ttl=60"),
            (
                "qctl queuecommand -r k q c -ttl=60",
                "qctl queuecommand -r k q c -ttl=60",
            ),
            (
                "qctl --config f queuemessage q -ttl=60 body",
                "qctl --config f queuemessage q --ttl=60 body",
            ),
            (
                "qctl kaliop_queueing:queuemessage -ttl=1 q b",
                "qctl kaliop_queueing:queuemessage --ttl=1 q b",
            ),
            ("qctl queuecommand -- q c -ttl=60", "qctl queuecommand -- q c -ttl=60"),
            ("qctl queuemessage q body -ttl=60", "qctl queuemessage q body --ttl=60"),
            ("qctl consumer -ttl=60 q", "qctl consumer -ttl=60 q"),
            ("qctl queuecommand -TTL=60 q c", "qctl queuecommand --ttl=60 q c"),
            ("qctl queuecommand -ttlx=60 q c", "qctl queuecommand -ttlx=60 q c"),
            ("qctl", "qctl"),
        ] {
            assert_eq!(modernised(split(typed)), split(understood), "{typed}");
        }
    }

    #[test]
    fn all_behind_a_queued_command_is_the_commands() {
        for (typed, understood) in [
            (
                "qctl queuemessage --kind command q a:b --n=v -- x",
                "qctl queuemessage --kind command q -- a:b --n=v -- x",
            ),
            (
                "qctl queuemessage q --kind=command -ttl 60 a:b -n",
                "qctl queuemessage q --kind=command --ttl 60 -- a:b -n",
            ),
            (
                "qctl queuemessage --kind command q -- a:b -n",
                "qctl queuemessage --kind command q -- a:b -n",
            ),
            (
                "qctl queuemessage --kind http q url --dry-run",
                "qctl queuemessage --kind http q url --dry-run",
            ),
            (
                "qctl queuemessage q body --dry-run",
                "qctl queuemessage q body --dry-run",
            ),
            ("qctl queuecommand q a:b -n", "qctl queuecommand q a:b -n"),
        ] {
            assert_eq!(modernised(split(typed)), split(understood), "{typed}");
        }
        assert!(waits(&split("qctl queuemessage --kind command --wait q a:b")));
        assert!(!waits(&split("qctl queuemessage --kind command q a:b --wait")));
    }

    #[test]
    fn hints_name_what_was_meant() {
        for (typed, part) in [
            ("qctl managequeue -o json list", "--output json"),
            ("qctl queuemessage -c file.yml q b", "--config file.yml"),
            ("qctl consumer -c /etc/q.yml q", "--config /etc/q.yml"),
            ("qctl consumer q -w 10", "--concurrency 10"),
            ("qctl consumer q -w10", "--concurrency 10"),
            ("qctl managequeue purge -f q", "never means force"),
            ("qctl -config x consumer q", "--config"),
            ("qctl consumer q -output=json", "--output=json"),
            ("qctl managequeue purge -n q", "--dry-run"),
        ] {
            let hints = hints(&split(typed));
            assert!(hints.iter().any(|hint| hint.contains(part)), "{typed}: {hints:?}");
        }
        assert!(hints(&split("qctl consumer -w q")).is_empty());
        assert!(hints(&split("qctl echoback -f out text")).is_empty());
        assert!(hints(&split("qctl")).is_empty());
        assert!(hints(&[]).is_empty());
    }

    #[test]
    fn a_number_behind_w_is_refused_on_consumers_only() {
        assert!(refused(&split("qctl consumer -w 10 q")).is_some());
        assert!(refused(&split("qctl consumer -w10 q")).is_some());
        assert!(refused(&split("qctl consumer -w q10")).is_none());
        assert!(refused(&split("qctl queuemessage -w 10 q")).is_none());
    }

    #[test]
    fn waiting_is_seen_before_the_command_only() {
        assert!(waits(&split("qctl queuecommand --wait q c")));
        assert!(waits(&split("qctl queuecommand q --wait c")));
        assert!(waits(&split("qctl queuecommand -o x q --wait c")));
        assert!(!waits(&split("qctl queuecommand q c --wait")));
        assert!(!waits(&split("qctl queuecommand q c -- --wait")));
        assert!(waits(&split("qctl queuemessage q body --wait")));
        assert!(!waits(&split("qctl consumer --wait q")));
    }
}
