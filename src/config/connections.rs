//! `connections:`: a URL or a map of keys, handed to the driver that its scheme or `driver:` names.

use super::decode::Tables;
use super::model::ConnectionEntry;
use super::names::{check_name, those_there_are};
use crate::error::Result;
use crate::queue::DriverSpec;
use crate::settings::{Setting, Settings, Value};

pub(super) fn connection(name: &str, setting: &Setting, tables: Tables) -> Result<ConnectionEntry> {
    check_name(setting, "a connection", name)?;
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
    tables.driver_for_scheme(&scheme.to_ascii_lowercase()).ok_or_else(|| {
        let end = those_there_are(scheme, schemes());
        settings.error("url", format!("no driver takes URLs of the scheme `{scheme}`{end}"))
    })
}
