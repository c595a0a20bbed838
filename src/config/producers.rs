//! `producers:`: where messages go. A draft: what it names is looked up once all entries are read.

use std::time::Duration;

use super::names::{check_name, check_routing_key};
use super::queues::{ExchangeDraft, exchange};
use crate::error::Result;
use crate::settings::Setting;

/// A producer as written.
pub(super) struct ProducerDraft {
    pub(super) name: String,
    pub(super) setting: Setting,
    pub(super) connection: Option<Setting>,
    pub(super) exchange: Option<ExchangeDraft>,
    pub(super) queue: Option<String>,
    pub(super) routing_key: Option<String>,
    pub(super) ttl: Option<Duration>,
    pub(super) unsigned: bool,
}

pub(super) fn producer(name: &str, setting: &Setting) -> Result<ProducerDraft> {
    check_name(setting, "a producer", name)?;
    let mut settings = setting.settings()?;
    let connection = settings.setting(&["connection"])?;
    let exchange = match settings.setting(&["exchange", "exchange_options"])? {
        Some(setting) => Some(exchange(&setting)?),
        None => None,
    };
    let queue = match settings.setting(&["queue"])? {
        Some(setting) => {
            let queue = setting.text()?;
            check_name(&setting, "a queue", &queue)?;
            Some(queue)
        }
        None => None,
    };
    let routing_key = match settings.setting(&["routing_key", "routing-key"])? {
        Some(setting) => {
            let key = setting.text()?;
            check_routing_key(&setting, &key)?;
            Some(key)
        }
        None => None,
    };
    let ttl = settings.limit_duration(&["ttl"])?.flatten();
    let unsigned = settings.boolean(&["sign"])?.is_some_and(|sign| !sign);
    if exchange.is_some() && queue.is_some() {
        return Err(settings.error(
            "queue",
            "a producer sends to an `exchange` or to a `queue`, not to both; keep one",
        ));
    }
    if exchange.is_none() && routing_key.is_some() {
        return Err(settings.error(
            "routing_key",
            "has no effect without an `exchange`: a message sent to a queue is routed by the queue's name; remove it",
        ));
    }
    settings.finish()?;
    Ok(ProducerDraft {
        name: name.to_owned(),
        setting: setting.clone(),
        connection,
        exchange,
        queue,
        routing_key,
        ttl,
        unsigned,
    })
}
