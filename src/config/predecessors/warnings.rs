//! What is told at every load of a predecessor's configuration, because it works otherwise than people may expect.

use std::path::Path;

use super::{CONSOLE, Translation};
use crate::settings::Setting;

/// How many names a warning gives before it counts.
const MOST: usize = 3;

/// The warnings of a load. `own_file`: the file of qctl's that includes the others, if there is one; `tried_once`: consumers without retries of their own; `console`: the entry of `commands:` that
/// the allowed commands have become, and that nobody has said how to run; `has_commands`: some command may run; `asking_nobody`:
/// consumers that ask servers and may ask none, with their handlers.
pub(in crate::config) fn warnings(
    translations: &[Translation],
    own_file: Option<&str>,
    tried_once: &[String],
    console: Option<&Setting>,
    has_commands: bool,
    asking_nobody: &[(String, &str)],
) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(file) = translations.first().and_then(|translation| translation.files.first()) else {
        return warnings;
    };
    let name = Path::new(file)
        .file_name()
        .map_or_else(|| file.clone(), |name| name.to_string_lossy().into_owned());
    let over = |what: &str| match own_file {
        Some(own) => format!("write `{what}` into {own}"),
        None => format!("write `{what}` into a qctl.yml with `include: [{name}]` beside it"),
    };
    if let Some(first) = tried_once.first() {
        warnings.push(format!(
            "{file}: what fails is tried once, as before, and then kept in `<queue>.dead` ({}); to have retries, {}, or change \
             what `qctl config import {file}` writes",
            some_of(tried_once),
            over(&format!("consumers: {{ {first}: {{ retry: {{ attempts: 5 }} }} }}"))
        ));
    }
    if console.is_some() {
        warnings.push(format!(
            "{file}: the allowed commands are not run, because neither app/console nor bin/console is there near it; {}",
            over(&format!("commands: {{ {CONSOLE}: {{ run: [php, /PATH/bin/console, --no-interaction] }} }}"))
        ));
    }
    if !has_commands && translations.iter().any(|translation| translation.allows_nothing) {
        warnings.push(format!(
            "{file}: only `echoback` may be run: without `kaliop_queueing.default.allowed_commands` its predecessor ran anything, \
             and qctl runs nothing; {}",
            over(&format!("commands: {{ {CONSOLE}: {{ run: [php, bin/console, --no-interaction], allow: [\"app:*\"] }} }}"))
        ));
    }
    if let Some((first, kind)) = asking_nobody.first() {
        let names: Vec<String> = asking_nobody.iter().map(|(name, _)| name.clone()).collect();
        warnings.push(format!(
            "{file}: no server may be asked ({}): where `kaliop_queueing.default.allowed_urls` names none, its predecessor asked \
             any, and qctl asks none; {}",
            some_of(&names),
            over(&format!("consumers: {{ {first}: {{ handler: {{ {kind}: {{ allow: [api.example.org] }} }} }} }}"))
        ));
    }
    warnings
}

fn some_of(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| name.escape_debug().to_string())
        .collect();
    match names.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}
