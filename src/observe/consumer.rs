//! What is told of a consumer.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Page;
use crate::consumer::{Limits, Meter, Pulse, Reading, State};

/// Without a sign of life for so long, a consumer is taken for one that hangs.
const SILENT_AT_MOST: Duration = Duration::from_secs(10);

/// What tells one consumer's figures from another's.
#[derive(Clone, Debug)]
pub struct ConsumerLabels {
    /// Its name in the configuration.
    pub consumer: String,
    /// The queue that it takes from.
    pub queue: String,
    /// The kind of its handler.
    pub handler: String,
}

/// Tells of a consumer.
#[derive(Debug)]
pub struct ConsumerPage {
    meter: Meter,
    pulse: Pulse,
    figures: Registry,
    process: Registry,
}

impl ConsumerPage {
    /// Of the consumer with these signs of life and this meter.
    pub fn new(labels: ConsumerLabels, limits: &Limits, meter: Meter, pulse: Pulse) -> Self {
        let all = [
            ("consumer", labels.consumer),
            ("queue", labels.queue),
            ("handler", labels.handler),
        ];
        let all = all.map(|(name, value)| (name.into(), value.into()));
        let mut figures = Registry::with_prefix_and_labels("qctl_consumer", all.into_iter());
        figures.register_collector(Box::new(Figures {
            meter: meter.clone(),
            limits: set_limits(limits),
        }));
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        Self {
            meter,
            pulse,
            figures,
            process,
        }
    }
}

impl Page for ConsumerPage {
    fn metrics(&self) -> String {
        let mut text = String::with_capacity(8 * 1024);
        let written = encode_registry(&mut text, &self.figures)
            .and_then(|()| encode_registry(&mut text, &self.process))
            .and_then(|()| encode_eof(&mut text));
        written.expect("a String takes all that is written");
        text
    }

    fn health(&self) -> Result<(), String> {
        health(self.pulse.silent_for())
    }

    fn readiness(&self) -> Result<(), String> {
        self.health()?;
        readiness(&self.meter.reading().state)
    }
}

fn health(silent_for: Option<Duration>) -> Result<(), String> {
    match silent_for {
        Some(silence) if silence >= SILENT_AT_MOST => Err(format!(
            "the consumer has given no sign of life for {} s",
            silence.as_secs()
        )),
        _ => Ok(()),
    }
}

fn readiness(state: &State) -> Result<(), String> {
    match state {
        State::Consuming => Ok(()),
        State::Starting => Err("not connected yet".to_owned()),
        State::Away(reason) => Err(format!("not connected: {reason}")),
        State::Stopping => Err("stopping".to_owned()),
    }
}

/// The limits that are set: name and value.
fn set_limits(limits: &Limits) -> Vec<(&'static str, f64)> {
    let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
    let count = |limit: Option<u64>| limit.map(|limit| limit as f64);
    [
        ("messages", count(limits.messages)),
        ("seconds", seconds(limits.time)),
        ("idle_seconds", seconds(limits.idle)),
        ("memory_bytes", count(limits.memory)),
        ("failures_in_a_row", count(limits.failures)),
        ("until_empty", limits.until_empty.then_some(1.0)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

struct Figures {
    meter: Meter,
    limits: Vec<(&'static str, f64)>,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

const NONE: Option<&prometheus_client::metrics::exemplar::Exemplar<NoLabelSet, f64>> = None;

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let reading = self.meter.reading();
        let mut put = Put(&mut encoder);
        put.counter("messages_begun", "Messages given to the handler", reading.begun)?;
        put.counters(
            "settlements",
            "Messages settled, by what became of them",
            "outcome",
            &[
                ("done", reading.done),
                ("retry", reading.retried),
                ("dead_letter", reading.dead_lettered),
                ("release", reading.released),
            ],
        )?;
        put.counter(
            "settlements_lost",
            "Messages whose settlement was lost with a connection; they come back by themselves",
            reading.unsettled,
        )?;
        put.counter(
            "messages_swallowed",
            "Messages that a listener would not have handled",
            reading.swallowed,
        )?;
        put.counter(
            "events_unheard",
            "Events that a listener did not hear, and was not told again",
            reading.unheard,
        )?;
        put.counter("retries", "Failed attempts that are made again", reading.retried)?;
        put.histogram(&reading)?;
        put.gauge(
            "in_flight",
            "Messages with the handler now",
            None,
            reading.in_flight as f64,
        )?;
        let is_connected = matches!(reading.state, State::Consuming | State::Stopping);
        put.gauge(
            "connected",
            "1 while connected to the broker",
            None,
            f64::from(u8::from(is_connected)),
        )?;
        put.counter("reconnects", "Connections made after one was lost", reading.reconnects)?;
        if let Some(since_1970) = reading
            .last_settled
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        {
            put.gauge(
                "last_message_timestamp",
                "When a message was settled last, since 1970",
                Some(&Unit::Seconds),
                since_1970.as_secs_f64(),
            )?;
        }
        put.gauges("limit", "The limits that end it", "limit", &self.limits)
    }
}

/// The process itself.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        encoder
            .encode_descriptor("qctl_build", "The version of qctl", None, MetricType::Info)?
            .encode_info(&build)?;
        let Some(memory) = resident_memory() else {
            return Ok(());
        };
        Put(&mut encoder).gauge(
            "process_resident_memory",
            "Resident memory of the process",
            Some(&Unit::Bytes),
            memory as f64,
        )
    }
}

/// In bytes.
fn resident_memory() -> Option<u64> {
    let figures = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = figures.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Writes one metric after the other.
struct Put<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Put<'_, '_> {
    fn describe(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(self.0.encode_descriptor(name, help, unit, kind)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.describe(name, help, None, MetricType::Counter, |mut metric| {
            metric.encode_counter(&value, NONE)
        })
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        self.describe(name, help, None, MetricType::Counter, |mut metric| {
            for (word, value) in values {
                labelled(&mut metric, &[(label, *word)], |mut one| {
                    one.encode_counter(value, NONE)
                })?;
            }
            Ok(())
        })
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.describe(name, help, unit, MetricType::Gauge, |mut metric| {
            metric.encode_gauge(&value)
        })
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, f64)]) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        self.describe(name, help, None, MetricType::Gauge, |mut metric| {
            for (word, value) in values {
                labelled(&mut metric, &[(label, *word)], |mut one| one.encode_gauge(value))?;
            }
            Ok(())
        })
    }

    fn histogram(&mut self, reading: &Reading) -> fmt::Result {
        let classes: Vec<(f64, u64)> = reading
            .took
            .iter()
            .map(|(bound, count)| (bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64()), *count))
            .collect();
        let count = classes.iter().map(|(_, count)| count).sum();
        let sum = reading.took_in_all.as_secs_f64();
        let help = "How long the handler took for a message";
        self.describe(
            "handler",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
            |mut metric| metric.encode_histogram::<NoLabelSet>(sum, count, &classes, None),
        )
    }
}

fn labelled<S: EncodeLabelSet>(
    metric: &mut MetricEncoder<'_>,
    labels: &S,
    write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    write(metric.encode_family(labels)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ConsumerLabels, ConsumerPage, Limits, Meter, Page, Pulse, State, health, readiness};

    #[test]
    fn silence_is_no_health() {
        assert_eq!(health(None), Ok(()));
        assert_eq!(health(Some(Duration::from_millis(9999))), Ok(()));
        let reason = "the consumer has given no sign of life for 10 s";
        assert_eq!(health(Some(Duration::from_secs(10))), Err(reason.to_owned()));
    }

    #[test]
    fn only_who_consumes_is_ready() {
        assert_eq!(readiness(&State::Consuming), Ok(()));
        assert_eq!(
            readiness(&State::Away("gone".to_owned())),
            Err("not connected: gone".to_owned())
        );
        assert!(readiness(&State::Starting).is_err() && readiness(&State::Stopping).is_err());
    }

    /// Names are a promise to those who have drawn their dashboards.
    #[test]
    fn the_names_of_the_figures() {
        let labels = ConsumerLabels {
            consumer: "mail \"x\"".to_owned(),
            queue: "q\\1".to_owned(),
            handler: "exec".to_owned(),
        };
        let limits = Limits {
            messages: Some(7),
            ..Limits::default()
        };
        let meter = Meter::counting();
        let text = ConsumerPage::new(labels, &limits, meter, Pulse::default()).metrics();
        let here = r#"consumer="mail \"x\"",queue="q\\1",handler="exec""#;
        for line in [
            format!("qctl_consumer_messages_begun_total{{{here}}} 0"),
            format!("qctl_consumer_settlements_total{{{here},outcome=\"dead_letter\"}} 0"),
            format!("qctl_consumer_settlements_lost_total{{{here}}} 0"),
            format!("qctl_consumer_retries_total{{{here}}} 0"),
            format!("qctl_consumer_handler_seconds_bucket{{{here},le=\"0.001\"}} 0"),
            format!("qctl_consumer_handler_seconds_count{{{here}}} 0"),
            format!("qctl_consumer_in_flight{{{here}}} 0.0"),
            format!("qctl_consumer_connected{{{here}}} 0.0"),
            format!("qctl_consumer_reconnects_total{{{here}}} 0"),
            format!("qctl_consumer_limit{{{here},limit=\"messages\"}} 7.0"),
            format!("qctl_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "# TYPE process_resident_memory_bytes gauge".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    }
}
