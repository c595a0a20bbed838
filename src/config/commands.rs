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
    let run = settings.command_line(&["run"])?;
    let worker = settings.command_line(&["worker"])?;
    let allow = allow(&mut settings)?;
    let env = environment(&mut settings)?;
    let cwd = folder(&mut settings)?;
    let dash_arguments = DashArguments::read(&mut settings)?;
    settings.check_unknown()?;
    let Some(run) = run else {
        return Err(settings.missing(
            "run",
            "the program and its leading arguments, such as `[php, bin/console]`",
        ));
    };
    let Some(allow) = allow else {
        return Err(settings.missing(
            "allow",
            "the command names that are taken, such as `[\"app:*\"]`; everything else is refused",
        ));
    };
    Ok(CommandEntry {
        name: name.to_owned(),
        run,
        worker,
        allow,
        env,
        cwd,
        dash_arguments,
    })
}

fn allow(settings: &mut Settings) -> Result<Option<Vec<Pattern>>> {
    let Some(allow) = settings.setting(&["allow"])? else {
        return Ok(None);
    };
    let pattern = |setting: &Setting| Pattern::parse(&setting.text()?).map_err(|message| setting.error(message));
    allow.list()?.iter().map(pattern).collect::<Result<_>>().map(Some)
}

pub(super) fn environment(settings: &mut Settings) -> Result<Vec<(String, String)>> {
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
pub(super) fn folder(settings: &mut Settings) -> Result<Option<String>> {
    let Some(cwd) = settings.setting(&["cwd"])? else {
        return Ok(None);
    };
    let path = cwd.file_path()?;
    match path.to_str() {
        Some(path) => Ok(Some(path.to_owned())),
        None => Err(cwd.not_utf8()),
    }
}
