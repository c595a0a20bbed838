//! `qctl config import`: a predecessor's configuration in qctl's own form, with comments that say what became of it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use super::options::Section;
use super::parameters::{Need, Purpose};
use super::{CONSOLE, Circumstances, LeftOut, Predecessor, Translation, translate_in, write};
use crate::config::decode::{self, Tables};
use crate::config::find::{self, Surroundings};
use crate::config::include;
use crate::error::{Error, Result};
use crate::settings::{Content, Piece, Value, is_secret_name};

/// A predecessor's configuration, written anew.
pub struct Imported {
    /// Whose it was.
    pub predecessor: Predecessor,
    /// qctl's form of it, as YAML.
    pub text: String,
    /// What is not taken over.
    pub left_out: Vec<LeftOut>,
    /// Variables that must be set before it can be used, and are not; nothing was checked that depends on them.
    pub unset: Vec<String>,
    /// It holds a password as text, as its original does.
    pub holds_secret: bool,
}

/// Translates a file and all that it imports. `from`: whose it is, where its shape need not say it.
pub fn import(surroundings: &Surroundings, file: &Path, from: Option<Predecessor>) -> Result<Imported> {
    let tables = Tables::built_in();
    let located = find::locate(surroundings, Some(file))?;
    let located = located.ok_or_else(|| Error::bug("a file that was named was looked for"))?;
    let loaded = include::read(surroundings, &located, from.map(Predecessor::dialect))?;
    if !loaded.roots.is_empty() {
        let names = Predecessor::ALL.map(Predecessor::name).join(", ");
        return Err(Error::config(format!(
            "{}: is not recognised as a predecessor's configuration (a Symfony file has `old_sound_rabbit_mq:`, `parameters:`, \
             `services:` or `imports:` at the top, ko-worker's a `class` in a consumer); name the file itself, and say \
             whose it is with --from ({names})",
            file.display()
        )));
    }
    let circumstances = Circumstances {
        purpose: Purpose::Writing,
        tables,
        environment: &surroundings.environment,
        replaced: HashSet::new(),
    };
    let translations = translate_in(&circumstances, &loaded.foreign)?;
    let Some(translation) = translations.into_iter().next() else {
        return Err(Error::config(format!("{}: holds nothing", file.display())));
    };
    let unset: Vec<String> = translation
        .needed
        .keys()
        .filter(|name| surroundings.environment.get(name).is_none())
        .cloned()
        .collect();
    let is_variable = |name: &String| matches!(translation.needed.get(name), Some(Need::Variable));
    // What was a parameter is still one where the original is read.
    if !unset.iter().any(is_variable) {
        decode::decode(surroundings, Some(located.file), loaded, tables)?;
    }
    let text = text(&translation, file, from.unwrap_or(translation.predecessor));
    Ok(Imported {
        predecessor: from.unwrap_or(translation.predecessor),
        text,
        unset,
        holds_secret: translation
            .top
            .get("connections")
            .is_some_and(|all| holds_secret("", all)),
        left_out: translation.left_out,
    })
}

fn text(translation: &Translation, file: &Path, predecessor: Predecessor) -> String {
    let mut text = head(translation, file, predecessor);
    let Content::Map(sections) = translation.top.content() else {
        return text;
    };
    for (name, section) in sections {
        text.push('\n');
        let alone = translation.top.made_map([(name.clone(), section.clone())]);
        if name == "commands" && section.get(CONSOLE).is_some_and(|console| console.get("run").is_none()) {
            text.push_str(&without_program(&alone));
            continue;
        }
        let of_entry = |entry: &str| match section_of(name) {
            Some(section) => translation
                .left_out
                .iter()
                .filter_map(|left| of_entry(left, section, entry))
                .collect(),
            None => Vec::new(),
        };
        let lines = write::entries(&alone, 0, &|depth, key| match depth {
            0 if key == "commands" => OF_COMMANDS.map(str::to_owned).to_vec(),
            1 => of_entry(key),
            _ => Vec::new(),
        });
        text.push_str(&lines.join("\n"));
        text.push('\n');
    }
    if translation.allows_nothing {
        text.push_str(
            "\n# Its predecessor ran any command; qctl runs none but `echoback` until it is told which:\n# commands:\n#   console:\n\
             #     run: [php, /PATH/bin/console, --no-interaction]\n#     allow: [\"app:*\"]\n",
        );
    }
    text
}

const OF_COMMANDS: [&str; 2] = [
    "What a queued command may be. Expressions were looked for anywhere in a name, and `.*` says so here.",
    "Commands ran with the consumer's `--env`, if it had one: then add it to `run`.",
];

fn head(translation: &Translation, file: &Path, predecessor: Predecessor) -> String {
    let mut head = format!(
        "# From the configuration of {} in {}, by `qctl config import`.\n",
        predecessor.title(),
        in_comment(&file.display().to_string())
    );
    if translation.top.get("consumers").is_some() {
        head.push_str(
            "#\n# `attempts: 1`: a message that fails is tried once, as before; it is then kept in the queue's name with `.dead` behind\n\
             # it. `attempts: 5` has it tried again, with growing waits.\n\
             # `as_written: true`: programs that know nothing of qctl declare the queue too, with the same arguments.\n",
        );
    }
    if !translation.needed.is_empty() {
        head.push_str("#\n# These variables must be set:\n");
    }
    for (variable, need) in &translation.needed {
        let from = match need {
            Need::Variable => String::new(),
            Need::Parameter { name, place } => format!(
                ": the value of the parameter {} ({}), a secret, which is not written here",
                in_comment(name),
                in_comment(place)
            ),
        };
        writeln!(head, "#   {variable}{from}").expect("writing to a string does not fail");
    }
    let others: Vec<String> = translation.left_out.iter().filter_map(of_nobody).collect();
    if !others.is_empty() {
        head.push_str("#\n# Left out:\n");
    }
    for other in others {
        writeln!(head, "#   {other}").expect("writing to a string does not fail");
    }
    head
}

/// Foreign text for a comment, which ends with its line.
fn in_comment(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || c == '\u{2028}' || c == '\u{2029}' {
                ' '
            } else {
                c
            }
        })
        .collect()
}

fn section_of(name: &str) -> Option<Section> {
    match name {
        "connections" => Some(Section::Connections),
        "producers" => Some(Section::Producers),
        "consumers" => Some(Section::Consumers),
        _ => None,
    }
}

fn of_entry(left: &LeftOut, section: Section, name: &str) -> Option<String> {
    let (of_section, of_name) = left.entry.as_ref()?;
    (*of_section == section && of_name == name && left.key != name)
        .then(|| in_comment(&format!("left out: {}: {}", left.key, left.why)))
}

/// What belongs to no entry, and entries that are left out as a whole.
fn of_nobody(left: &LeftOut) -> Option<String> {
    let whole = left.entry.as_ref().is_none_or(|(_, name)| *name == left.key);
    whole.then(|| in_comment(&left.to_string().replace("left out: ", "")))
}

/// The allowed commands, of which nothing tells by what they are run.
fn without_program(commands: &Piece) -> String {
    let mut lines = vec![
        "These commands were allowed. Neither app/console nor bin/console is there near the file: say what runs them, and take"
            .to_owned(),
        "the marks away.".to_owned(),
    ];
    for line in write::entries(commands, 0, &|_, _| Vec::new()) {
        let is_entry = line == format!("  {CONSOLE}:");
        lines.push(line);
        if is_entry {
            lines.push("    run: [php, /PATH/bin/console, --no-interaction]".to_owned());
        }
    }
    lines
        .into_iter()
        .fold(String::new(), |text, line| text + "# " + &line + "\n")
}

/// A text under the name of a secret that is no variable.
fn holds_secret(key: &str, piece: &Piece) -> bool {
    match piece.content() {
        Content::Map(entries) => entries.iter().any(|(key, piece)| holds_secret(key, piece)),
        Content::List(list) => list.iter().any(|piece| holds_secret(key, piece)),
        Content::Scalar(Value::Null | Value::Bool(_)) => false,
        Content::Scalar(Value::Text(text)) => {
            let in_url = crate::settings::mask_url(text) != *text;
            (is_secret_name(key) || in_url) && !text.starts_with("${")
        }
        Content::Scalar(_) => is_secret_name(key),
    }
}
