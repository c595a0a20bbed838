//! `connections:`: a URL or a map of keys, handed to the driver that its scheme or `driver:` names.

use super::decode::Tables;
use super::model::ConnectionEntry;
use super::names::{check_name, those_there_are};
use super::offered;
use crate::error::Result;
use crate::queue::DriverSpec;
use crate::settings::{Setting, Settings, Value};

/// Keys of connections to RabbitMQ as predecessors write them: parts of an address, without a URL.
const PARTS: &[&str] = &["host", "port", "login", "user", "password", "password_file", "vhost"];
/// The driver that these belong to.
const PARTS_DRIVER: &str = "amqp";
/// Drivers that configurations may name before qctl has them, by name and scheme.
const PLANNED: &[(&str, &str)] = &[("stomp", "stomp"), ("stomp", "stomps"), ("sqs", "sqs")];

pub(super) fn connection(name: &str, setting: &Setting, tables: Tables) -> Result<ConnectionEntry> {
    check_name(setting, "a connection", name)?;
    if setting.is_map() {
        check_homeless(setting.settings()?, tables)?;
    }
    read(name, setting, tables)
}

/// Without `url` and `driver` nobody knows whose keys these are: most likely one of the two is there, misspelt.
fn check_homeless(mut settings: Settings, tables: Tables) -> Result<()> {
    if ["url", "driver"].iter().chain(PARTS).any(|key| settings.has(key)) {
        return Ok(());
    }
    settings.setting(&["url"])?;
    settings.setting(&["driver"])?;
    for spec in tables.drivers {
        for offered in offered::by_driver(spec, tables) {
            settings.setting(&[&offered.key])?;
        }
    }
    settings.check_unknown()
}

/// A connection as written, its name unchecked.
pub(super) fn read(name: &str, setting: &Setting, tables: Tables) -> Result<ConnectionEntry> {
    let settings = match setting.written() {
        Value::Text(_) => setting.short_form("url"),
        Value::Map(_) => setting.settings()?,
        _ => {
            return Err(setting.error(format!(
                "must be a URL such as sqlite:///var/lib/qctl/queue.db, or a map of keys, not {}",
                setting.quoted()
            )));
        }
    };
    entry(name, settings, tables)
}

/// A connection of these settings; they still hold `driver` or `url`, which choose the driver.
pub(super) fn entry(name: &str, mut settings: Settings, tables: Tables) -> Result<ConnectionEntry> {
    let driver = driver(&mut settings, tables)?;
    let connector = (driver.parse)(settings.clone())?;
    Ok(ConnectionEntry {
        name: name.to_owned(),
        driver,
        connector,
        settings,
    })
}

fn driver(settings: &mut Settings, tables: Tables) -> Result<&'static DriverSpec> {
    let named = settings.text(&["driver"])?;
    let url = settings.clone().text(&["url"])?;
    let by_name = match &named {
        None => None,
        Some(name) => Some(tables.driver(name).ok_or_else(|| {
            if PLANNED.iter().any(|(planned, _)| planned == name) {
                return settings.error("driver", not_yet(name, tables));
            }
            let end = those_there_are(name, tables.drivers.iter().map(|spec| spec.name));
            settings.error("driver", format!("no driver is called `{}`{end}", name.escape_debug()))
        })?),
    };
    let by_scheme = match &url {
        None => None,
        Some(url) => Some(by_scheme(settings, url, tables)?),
    };
    match (by_name, by_scheme) {
        (Some(by_name), Some(by_scheme)) if !std::ptr::eq(by_name, by_scheme) => Err(settings.error(
            "driver",
            format!(
                "is {}, and the URL is one of the driver {}; remove one of the two",
                by_name.name, by_scheme.name
            ),
        )),
        (Some(driver), _) | (None, Some(driver)) => Ok(driver),
        (None, None) if PARTS.iter().any(|key| settings.has(key)) => tables
            .driver(PARTS_DRIVER)
            .ok_or_else(|| settings.error("", not_yet(PARTS_DRIVER, tables))),
        (None, None) => {
            let names: Vec<&str> = tables.drivers.iter().map(|spec| spec.name).collect();
            Err(settings.missing(
                "url",
                format!(
                    "say where messages are, as `url: sqlite:///path/queue.db`, or with `driver:` ({}) and its keys",
                    names.join(", ")
                ),
            ))
        }
    }
}

fn by_scheme(settings: &Settings, url: &str, tables: Tables) -> Result<&'static DriverSpec> {
    let schemes = || tables.drivers.iter().flat_map(|spec| spec.schemes.iter().copied());
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    };
    // What is no URL may be a password that slipped: it is not quoted.
    let Some((scheme, _)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        let all: Vec<String> = schemes().map(|scheme| format!("{scheme}:")).collect();
        return Err(settings.error("url", format!("must be a URL that begins with {}", all.join(", "))));
    };
    let scheme = &scheme.to_ascii_lowercase();
    tables.driver_for_scheme(scheme).ok_or_else(|| {
        if let Some((planned, _)) = PLANNED.iter().find(|(_, known)| known == scheme) {
            return settings.error("url", not_yet(planned, tables));
        }
        let end = those_there_are(scheme, schemes());
        settings.error("url", format!("no driver takes URLs of the scheme `{scheme}`{end}"))
    })
}

fn not_yet(driver: &str, tables: Tables) -> String {
    let names: Vec<&str> = tables.drivers.iter().map(|spec| spec.name).collect();
    format!(
        "needs the driver {driver}, which this version of qctl does not have yet; there is {}",
        names.join(", ")
    )
}
