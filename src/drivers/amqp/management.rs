//! RabbitMQ's management API, where there is one: what AMQP itself cannot tell.

use crate::error::Result;
use crate::settings::Settings;

/// Where the management API is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ManagementSettings {
    /// Its URL; without one, the usual port of the broker's host is tried.
    pub(super) url: Option<String>,
    /// It is not to be asked.
    pub(super) off: bool,
}

impl ManagementSettings {
    /// Reads `management: URL` or `management: false`.
    pub(super) fn read(settings: &mut Settings) -> Result<Self> {
        let Some(setting) = settings.setting(&["management"])? else {
            return Ok(Self::default());
        };
        if let Ok(on) = setting.boolean() {
            return Ok(Self { url: None, off: !on });
        }
        let url = setting.text()?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(setting.error("must be a URL such as http://broker:15672, or false"));
        }
        Ok(Self {
            url: Some(url),
            off: false,
        })
    }
}
