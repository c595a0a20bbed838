//! What the Kaliop bundle keeps in `parameters:` and `services:`: who may run what, and which service takes messages.

use super::console;
use super::entries::Taker;
use super::options::Remains;
use super::parameters::Parameters;
use super::patterns;
use super::symfony::SymfonyFiles;
use crate::config::consumers::handler_of_service;
use crate::config::decode::Tables;
use crate::error::Result;
use crate::handlers::allow::ECHOBACK;
use crate::handlers::http::is_host;
use crate::settings::{Content, Piece};

/// All its parameters begin so.
pub(super) const PREFIX: &str = "kaliop_queueing.";
const ALLOWED_COMMANDS: &str = "kaliop_queueing.default.allowed_commands";
const ALLOWED_URLS: &str = "kaliop_queueing.default.allowed_urls";
const WORKERS: &str = "kaliop_queueing.default.workers.list";
const DRIVER: &str = "kaliop_queueing.default.driver";
/// The entry of `commands:` that they become.
pub(in crate::config) const CONSOLE: &str = "console";
/// A service that stands for another one of these ends here.
const LONGEST_CHAIN: usize = 16;

const LISTS: &[(&str, &str)] = &[(
    "kaliop_queueing.default.allowed_services",
    "it belongs to the handler `service`, whose `allow` has the same form, and which needs a worker program (docs/workers.md)",
)];

/// The `commands:` that the allowed commands come to; `None`: there is no list.
pub(super) fn commands(parameters: &Parameters, files: &SymfonyFiles) -> Result<Option<Piece>> {
    let Some(written) = parameters.get(ALLOWED_COMMANDS) else {
        return Ok(None);
    };
    let list = parameters.resolve(ALLOWED_COMMANDS, written)?;
    let mut allow = Vec::new();
    for element in elements(&list) {
        let text = element.setting().text()?;
        // qctl has that one itself.
        if !ECHOBACK.contains(&text.as_str()) {
            let pattern = patterns::translated(&text).map_err(|message| element.error(message))?;
            allow.push(element.made_text(pattern.replace("${", "$${")));
        }
    }
    let console = files.paths.iter().find_map(|file| console::find(file));
    let run = console.as_deref().and_then(std::path::Path::to_str).map(|console| {
        let words = ["php", &console.replace("${", "$${"), "--no-interaction"];
        let words = words.map(|word| list.made_text(word)).to_vec();
        ("run", list.made(Content::List(words)))
    });
    let allow = ("allow", list.made(Content::List(allow)));
    Ok(Some(list.made_map(run.into_iter().chain([allow]))))
}

fn elements(list: &Piece) -> Vec<Piece> {
    match list.content() {
        Content::List(elements) => elements.clone(),
        _ if list.is_null() => Vec::new(),
        _ => vec![list.clone()],
    }
}

/// The `allow:` of HTTP handlers that the allowed URLs come to; `None`: there is no list. What has never allowed anything,
/// because it is no host's name, is told of.
pub(super) fn urls(parameters: &Parameters, remains: &mut Remains) -> Result<Option<Piece>> {
    let Some(written) = parameters.get(ALLOWED_URLS) else {
        return Ok(None);
    };
    let list = parameters.resolve(ALLOWED_URLS, written)?;
    let mut allow = Vec::new();
    for element in elements(&list) {
        let text = element.setting().text()?;
        let pattern = match text.strip_prefix("regexp:") {
            Some(expression) => patterns::searched(expression).map_err(|message| element.error(message))?,
            None if is_host(&text) => text,
            None => {
                let why = "it is no host's name, and has never allowed anything; name a host, as `example.org`";
                remains.add(ALLOWED_URLS, &element, why);
                continue;
            }
        };
        allow.push(element.made_text(pattern.replace("${", "$${")));
    }
    Ok(Some(list.made(Content::List(allow))))
}

/// The `workers:` that the list of workers comes to. One whose consumer is not taken over is told of.
pub(super) fn workers(parameters: &Parameters, consumers: &[Taker], remains: &mut Remains) -> Result<Option<Piece>> {
    let Some(written) = parameters.get(WORKERS) else {
        return Ok(None);
    };
    let list = parameters.resolve(WORKERS, written)?;
    let Content::Map(entries) = list.content() else {
        return Ok(None);
    };
    let is_there = |name: Option<&str>| name.is_none_or(|name| consumers.iter().any(|taker| taker.name == name));
    let (kept, left): (Vec<_>, Vec<_>) = entries
        .iter()
        .cloned()
        .partition(|(_, worker)| is_there(worker.get("queue_name").and_then(Piece::as_text)));
    for (name, worker) in left {
        remains.add(&format!("{WORKERS}.{name}"), &worker, "its consumer is not taken over");
    }
    Ok((!kept.is_empty()).then(|| list.made_map(kept)))
}

/// Tells of the bundle's other parameters that are not taken over.
pub(super) fn remains(parameters: &Parameters, remains: &mut Remains) -> Result<()> {
    for (name, why) in LISTS {
        if let Some(piece) = parameters.get(name) {
            remains.add(name, piece, *why);
        }
    }
    if let Some(piece) = parameters.get(DRIVER)
        && parameters.resolve(DRIVER, piece)?.as_text() != Some("rabbitmq")
    {
        remains.add(DRIVER, piece, "each entry names its own connection");
    }
    Ok(())
}

/// The handler that a consumer's callback comes to; `urls` are what HTTP requests may go to.
pub(super) fn handler(callback: &Piece, services: Option<&Piece>, urls: Option<&Piece>, tables: Tables) -> Piece {
    let written = callback.as_text().unwrap_or_default();
    let service = followed(written, services);
    match handler_of_service(&service) {
        // For XML-RPC there was no list: which servers may be called is for people to say.
        Some(kind @ ("http" | "xmlrpc")) if tables.handler(kind).is_some() => {
            let nothing = || callback.made(Content::List(Vec::new()));
            let allow = urls.filter(|_| kind == "http").cloned().unwrap_or_else(nothing);
            callback.made_map([(kind, callback.made_map([("allow", allow)]))])
        }
        // Nothing says which program is to call the application's services.
        Some("service") => elsewhere(
            callback,
            &format!("the service {written} (the handler `service` needs a worker program, see docs/workers.md)"),
        ),
        Some(kind) if tables.handler(kind).is_some() => callback.made_text(kind),
        Some(kind) => elsewhere(
            callback,
            &format!("the service {written} (`handler: {kind}` is not in this version yet)"),
        ),
        None => elsewhere(callback, &format!("the service {written}")),
    }
}

/// The handler of what only the predecessor's own application can run.
pub(super) fn elsewhere(place: &Piece, by: &str) -> Piece {
    place.made_map([(
        "elsewhere",
        place.made_map([("by", place.made_text(by.replace("${", "$${")))]),
    )])
}

/// The service that an alias, or the child of a definition, comes down to.
fn followed(service: &str, services: Option<&Piece>) -> String {
    let mut name = service.trim_start_matches('@').to_owned();
    for _ in 0..LONGEST_CHAIN {
        let Some(definition) = services.and_then(|services| services.get(&name)) else {
            break;
        };
        let next = match definition.as_text() {
            Some(alias) if alias.starts_with('@') => Some(alias),
            Some(_) => None,
            None => ["alias", "parent"]
                .iter()
                .find_map(|key| definition.get(key)?.as_text()),
        };
        match next {
            Some(next) => name = next.trim_start_matches('@').to_owned(),
            None => break,
        }
    }
    name
}
