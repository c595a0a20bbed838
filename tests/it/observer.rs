//! Looks at a consumer from outside, by requests written by hand.
#![allow(dead_code)] // not every test looks at everything

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Running, wait_for};

/// Where a consumer is observed.
#[derive(Clone, Debug)]
pub enum Observer {
    Tcp(String),
    Unix(PathBuf),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub trait Line: Read + Write + Send {}

impl<T: Read + Write + Send> Line for T {}

impl Observer {
    /// The place that a consumer tells of on its standard error.
    pub fn of(running: &Running) -> Self {
        running.wait_stderr(" is observed at ");
        let log = running.stderr();
        let told = log.split(" is observed at ").nth(1).unwrap();
        let address = told.split(": /metrics").next().unwrap();
        match address.strip_prefix("unix://") {
            Some(path) => Self::Unix(PathBuf::from(path)),
            None => Self::Tcp(address.strip_prefix("http://").unwrap().to_owned()),
        }
    }

    pub fn connect(&self) -> Box<dyn Line> {
        const PATIENCE: Option<Duration> = Some(Duration::from_secs(25));
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(PATIENCE).unwrap();
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(PATIENCE).unwrap();
                Box::new(stream)
            }
        }
    }

    /// One request; `further` is lines of its head.
    pub fn ask(&self, method: &str, path: &str, further: &str) -> Answer {
        let mut line = self.connect();
        write!(
            line,
            "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{further}\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        line.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Waits until this path has this status; returns what it says then.
    pub fn wait(&self, path: &str, status: u16) -> String {
        let mut said = String::new();
        wait_for(&format!("{path} to say {status}"), || {
            let answer = self.get(path);
            said = answer.body;
            answer.status == status
        });
        said
    }

    /// The figures, after a look whether they are well-formed.
    pub fn figures(&self) -> Figures {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Figures::read(&answer.body)
    }
}

/// Figures by name and the labels that are not the consumer's own.
#[derive(Debug)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads OpenMetrics text and fails on what is not: the order and the spelling of its lines, doubled or unannounced
    /// figures, counters without `_total`, classes that do not add up, a missing end.
    pub fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text}"));
        let mut kinds: BTreeMap<String, String> = BTreeMap::new();
        let mut current = String::new();
        let mut seen = BTreeSet::new();
        let mut figures = BTreeMap::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let words: Vec<&str> = comment.splitn(3, ' ').collect();
                let [word, name, value] = words[..] else {
                    panic!("not a comment of OpenMetrics: {line}")
                };
                assert!(["HELP", "TYPE", "UNIT"].contains(&word), "{line}");
                assert!(
                    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                    "{line}"
                );
                if current != name {
                    assert!(!kinds.contains_key(name), "{name} comes twice");
                    name.clone_into(&mut current);
                }
                match word {
                    "TYPE" => drop(kinds.insert(name.to_owned(), value.to_owned())),
                    "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                    _ => assert!(!value.is_empty(), "{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no figure: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no figure: {line}"));
            let (name, labels) = series
                .split_once('{')
                .map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
            let suffix = name
                .strip_prefix(current.as_str())
                .unwrap_or_else(|| panic!("{line} is not of {current}"));
            let allowed: &[&str] = match kinds[&current].as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_sum", "_count", "_bucket"],
                "info" => &["_info"],
                other => panic!("the type {other}"),
            };
            assert!(allowed.contains(&suffix), "{line} is no {}", kinds[&current]);
            assert!(suffix != "_total" || value >= 0.0, "{line}");
            assert!(seen.insert(series.to_owned()), "{series} comes twice");
            let further: Vec<&str> = labels
                .split(',')
                .filter(|label| !label.is_empty())
                .inspect(|label| {
                    let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
                    assert!(
                        !key.is_empty() && value.starts_with('"') && value.ends_with('"'),
                        "{line}"
                    );
                })
                .filter(|label| {
                    !["consumer", "queue", "handler"]
                        .iter()
                        .any(|own| label.starts_with(&format!("{own}=")))
                })
                .collect();
            figures.insert(
                format!(
                    "{name}{}{}",
                    if further.is_empty() { "" } else { " " },
                    further.join(",")
                ),
                value,
            );
        }
        let figures = Self(figures);
        let buckets: Vec<f64> = body
            .lines()
            .filter(|line| line.starts_with("qctl_consumer_handler_seconds_bucket"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
        assert_eq!(
            Some(figures.value("qctl_consumer_handler_seconds_bucket le=\"+Inf\"")),
            Some(figures.value("qctl_consumer_handler_seconds_count"))
        );
        figures
    }

    pub fn value(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0))
    }

    /// A whole number, by its name without `qctl_consumer_`.
    pub fn count(&self, name: &str) -> u64 {
        self.value(&format!("qctl_consumer_{name}")) as u64
    }

    pub fn outcome(&self, outcome: &str) -> u64 {
        self.count(&format!("settlements_total outcome=\"{outcome}\""))
    }
}
