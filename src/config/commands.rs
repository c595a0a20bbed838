//! `commands:`: what a queued command may run; nothing else may.

use super::names::check_name;
use super::sections::Entries;
use crate::error::Result;
use crate::handlers::{CommandEntry, Commands, DashArguments, Pattern};
use crate::settings::{Setting, Settings};

pub(super) fn commands(entries: &Entries) -> Result<Commands> {
    let entries = entries
        .iter()
        .map(|(name, setting)| command(name, setting))
        .collect::<Result<_>>()?;
    Ok(Commands { entries })
}

fn command(name: &str, setting: &Setting) -> Result<CommandEntry> {
    check_name(setting, "a command", name)?;
    let mut settings = setting.settings()?;
    let entry = CommandEntry {
        name: name.to_owned(),
        run: run(&mut settings)?,
        allow: allow(&mut settings)?,
        env: environment(&mut settings)?,
        cwd: folder(&mut settings)?,
        dash_arguments: settings
            .choice(
                &["dash_arguments"],
                &[
                    ("refuse", DashArguments::Refuse),
                    ("separator", DashArguments::Separator),
                    ("allow", DashArguments::Allow),
                ],
            )?
            .unwrap_or_default(),
    };
    settings.finish()?;
    Ok(entry)
}

fn run(settings: &mut Settings) -> Result<Vec<String>> {
    let Some(run) = settings.setting(&["run"])? else {
        return Err(settings.missing(
            "run",
            "the program and its leading arguments, such as `[php, bin/console]`",
        ));
    };
    let words = run.texts()?;
    if words.first().is_none_or(String::is_empty) {
        return Err(run.error("must name a program, such as `[php, bin/console]`"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(run.error("must not hold NUL characters"));
    }
    // No shell splits it, so this would look for a program with a space in its name.
    if !run.is_list() && words[0].contains(char::is_whitespace) {
        let split: Vec<&str> = words[0].split_whitespace().collect();
        return Err(run.error(format!(
            "is one program's name, with a space in it; write a list such as `[{}]`",
            split.join(", ").escape_debug()
        )));
    }
    Ok(words)
}

fn allow(settings: &mut Settings) -> Result<Vec<Pattern>> {
    let Some(allow) = settings.setting(&["allow"])? else {
        return Err(settings.missing(
            "allow",
            "the command names that are taken, such as `[\"app:*\"]`; everything else is refused",
        ));
    };
    allow
        .list()?
        .iter()
        .map(|setting| Pattern::parse(&setting.text()?).map_err(|message| setting.error(message)))
        .collect()
}

fn environment(settings: &mut Settings) -> Result<Vec<(String, String)>> {
    let Some(env) = settings.setting(&["env"])? else {
        return Ok(Vec::new());
    };
    env.entries()?
        .into_iter()
        .map(|(name, setting)| {
            if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("QCTL_") {
                return Err(setting.error(
                    "the name of a variable must not be empty, hold `=` or NUL, or begin with `QCTL_`, which is qctl's own",
                ));
            }
            let value = setting.text()?;
            if value.contains('\0') {
                return Err(setting.error("must not hold NUL characters"));
            }
            Ok((name, value))
        })
        .collect()
}

/// A relative folder starts at the folder of the configuration file, not wherever the consumer was started.
fn folder(settings: &mut Settings) -> Result<Option<String>> {
    let Some(cwd) = settings.setting(&["cwd"])? else {
        return Ok(None);
    };
    let path = cwd.file_path()?;
    match path.to_str() {
        Some(path) => Ok(Some(path.to_owned())),
        None => Err(cwd.error("lies below a folder whose name is not UTF-8; give an absolute path")),
    }
}
