//! The keys of a connection entry: where the brokers are and how to log in, by URL or by parts.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::management::ManagementSettings;
use crate::error::Result;
use crate::settings::{Secret, SecretSource, Settings};

/// AMQP's port.
const PORT: u16 = 5672;
/// AMQP's port over TLS.
const TLS_PORT: u16 = 5671;
/// The heartbeat unless set: a hung broker is noticed within a minute.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long RabbitMQ lets a consumer hold a delivery unless it is set up otherwise (3.8.17 and later).
pub(super) const CONSUMER_TIMEOUT: Duration = Duration::from_mins(30);
/// The largest body unless set. RabbitMQ itself takes 128 MiB.
const MAX_BODY: u64 = 16 << 20;
/// RabbitMQ's own limit for a body.
const LARGEST_BODY: u64 = 128 << 20;

/// One broker of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// What a connection over TLS needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// The certificates to trust; without one, those of the system.
    pub(super) ca_file: Option<PathBuf>,
    /// The client's certificate chain and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// The name that the broker's certificate must carry, where it is not the host's.
    pub(super) server_name: Option<String>,
}

/// How the client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// Login and password.
    Plain,
    /// The client's certificate.
    External,
}

/// A connection entry, read.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) hosts: Vec<Host>,
    pub(super) login: String,
    pub(super) password: SecretSource,
    pub(super) vhost: String,
    pub(super) tls: Option<Tls>,
    pub(super) mechanism: Mechanism,
    /// Zero: none.
    pub(super) heartbeat: Duration,
    pub(super) frame_max: Option<u32>,
    pub(super) max_body: u64,
    /// `None`: the broker lets a delivery be held for ever.
    pub(super) consumer_timeout: Option<Duration>,
    pub(super) management: ManagementSettings,
}

impl Address {
    /// Reads the keys of a connection entry.
    pub(super) fn read(mut settings: Settings) -> Result<Self> {
        settings.text(&["driver"])?;
        let url = settings.text(&["url"])?;
        let mut parts = match &url {
            Some(url) => UrlParts::parse(url).map_err(|reason| settings.error("url", reason))?,
            None => UrlParts::default(),
        };
        let given = |settings: &Settings, keys: &[&'static str], in_url: bool| {
            let key = keys.iter().find(|key| settings.has(key)).filter(|_| in_url);
            key.map_or(Ok(()), |key| {
                Err(settings.error(key, "is said twice, by `url` and here; keep one of the two"))
            })
        };
        given(&settings, &["hosts", "host", "port"], url.is_some())?;
        given(&settings, &["login", "user", "username"], parts.login.is_some())?;
        given(&settings, &["password", "password_file"], parts.password.is_some())?;
        given(&settings, &["vhost"], parts.vhost.is_some())?;
        let tls = tls(&mut settings, parts.tls)?;
        let port = settings
            .count_within(&["port"], 1, u64::from(u16::MAX))?
            .map(|port| port as u16);
        let usual_port = port.unwrap_or(if tls.is_some() { TLS_PORT } else { PORT });
        if let Some(hosts) = settings.setting(&["hosts", "host"])? {
            let texts = hosts.texts()?;
            parts.hosts = texts
                .iter()
                .map(|text| host(text))
                .collect::<Result<_, _>>()
                .map_err(|reason| hosts.error(reason))?;
            if parts.hosts.is_empty() {
                return Err(hosts.error("names no host; name at least one"));
            }
        }
        let login = settings.text(&["login", "user", "username"])?;
        let password = settings.secret("password")?;
        let vhost = settings.text(&["vhost"])?;
        let heartbeat = match settings.limit_duration(&["heartbeat"])? {
            Some(heartbeat) => heartbeat.unwrap_or(Duration::ZERO),
            None => parts.heartbeat.unwrap_or(HEARTBEAT),
        };
        if heartbeat > Duration::ZERO && (heartbeat < Duration::from_secs(1) || heartbeat > Duration::from_hours(18)) {
            return Err(settings.error("heartbeat", "must be between 1s and 18h, or 0 for none"));
        }
        let frame_max = settings
            .count_within(&["frame_max"], 4096, 1 << 20)?
            .map(|size| size as u32);
        let max_body = settings.size(&["max_body"])?.unwrap_or(MAX_BODY);
        if max_body == 0 || max_body > LARGEST_BODY {
            return Err(settings.error("max_body", "must be between 1 and 128M, RabbitMQ's own limit"));
        }
        let consumer_timeout = settings
            .limit_duration(&["consumer_timeout"])?
            .unwrap_or(Some(CONSUMER_TIMEOUT));
        let mechanism = settings
            .choice(
                &["mechanism"],
                &[("plain", Mechanism::Plain), ("external", Mechanism::External)],
            )?
            .unwrap_or(Mechanism::Plain);
        if mechanism == Mechanism::External && tls.as_ref().is_none_or(|tls| tls.identity.is_none()) {
            return Err(settings.error("mechanism", "external needs `tls:` with cert_file and key_file"));
        }
        let management = ManagementSettings::read(&mut settings)?;
        settings.check_unknown()?;
        let hosts = if parts.hosts.is_empty() {
            vec![("localhost".to_owned(), None)]
        } else {
            parts.hosts
        };
        Ok(Self {
            hosts: hosts
                .into_iter()
                .map(|(name, port)| Host {
                    name,
                    port: port.unwrap_or(usual_port),
                })
                .collect(),
            login: parts.login.or(login).unwrap_or_else(|| "guest".to_owned()),
            password: parts
                .password
                .map(|password| SecretSource::Inline(Secret::new(password)))
                .or(password)
                .unwrap_or_else(|| SecretSource::Inline(Secret::new("guest"))),
            vhost: parts.vhost.or(vhost).unwrap_or_else(|| "/".to_owned()),
            tls,
            mechanism,
            heartbeat,
            frame_max: frame_max.or(parts.frame_max),
            max_body,
            consumer_timeout,
            management,
        })
    }

    /// Where it leads, without the password.
    pub(super) fn endpoint(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::shown).collect();
        self.shown(&hosts.join(","))
    }

    /// Where it leads by way of this broker.
    pub(super) fn endpoint_at(&self, host: &Host) -> String {
        self.shown(&host.shown())
    }

    fn shown(&self, hosts: &str) -> String {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        let vhost = self.vhost.replace('%', "%25").replace('/', "%2f");
        match self.mechanism {
            Mechanism::Plain => format!("{scheme}://{}@{hosts}/{vhost}", self.login),
            // The certificate says who it is.
            Mechanism::External => format!("{scheme}://{hosts}/{vhost}"),
        }
    }
}

impl Host {
    pub(super) fn shown(&self) -> String {
        if self.name.contains(':') {
            format!("[{}]:{}", self.name, self.port)
        } else {
            format!("{}:{}", self.name, self.port)
        }
    }
}

fn tls(settings: &mut Settings, by_scheme: bool) -> Result<Option<Tls>> {
    let Some(setting) = settings.setting(&["tls", "ssl"])? else {
        return Ok(by_scheme.then(Tls::default));
    };
    if !setting.is_map() {
        // `ssl: true` and `ssl: false` of the predecessors.
        return match (setting.boolean()?, by_scheme) {
            (false, true) => Err(setting.error("is false, and the URL begins with amqps; keep one of the two")),
            (on, _) => Ok(on.then(Tls::default)),
        };
    }
    let mut map = setting.settings()?;
    let ca_file = map.file_path(&["ca_file", "cafile"])?;
    let certificate = map.file_path(&["cert_file", "local_cert"])?;
    let key = map.file_path(&["key_file", "local_pk"])?;
    let server_name = map.text(&["server_name", "peer_name"])?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(map.missing("key_file", "the key of the certificate in cert_file")),
        (None, Some(_)) => return Err(map.missing("cert_file", "the certificate of the key in key_file")),
    };
    map.finish()?;
    Ok(Some(Tls {
        ca_file,
        identity,
        server_name,
    }))
}

type HostAndPort = (String, Option<u16>);

/// What a URL says.
#[derive(Default)]
struct UrlParts {
    tls: bool,
    hosts: Vec<HostAndPort>,
    login: Option<String>,
    password: Option<String>,
    vhost: Option<String>,
    heartbeat: Option<Duration>,
    frame_max: Option<u32>,
}

impl UrlParts {
    /// Reads `amqp[s]://[login[:password]@]host[:port][,host[:port]…][/vhost][?heartbeat=…&frame_max=…]`.
    fn parse(url: &str) -> Result<Self, String> {
        const FORM: &str = "must be amqp://LOGIN@HOST:PORT/VHOST, the vhost `/` written as %2f";
        // What stands there may be a part of a password.
        const BROKEN: &str = "has an `@` behind the host: in a login or password `/`, `?`, `#`, `@` and `%` are written %2f, %3f, \
                              %23, %40 and %25, or the password stands in a key of its own (`password`, `password_file`)";
        let (scheme, rest) = url.split_once("://").ok_or(FORM)?;
        if rest
            .split_once(['/', '?', '#'])
            .is_some_and(|(_, behind)| behind.contains('@'))
        {
            return Err(BROKEN.to_owned());
        }
        let (rest, query) = rest
            .split_once('?')
            .map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest
            .split_once('/')
            .map_or((rest, ""), |(authority, path)| (authority, path));
        if path.contains('/') {
            return Err("holds a vhost with a `/` in it, which is written as %2f".to_owned());
        }
        let mut parts = Self {
            tls: scheme.eq_ignore_ascii_case("amqps"),
            ..Self::default()
        };
        let hosts = match authority.rsplit_once('@') {
            None => authority,
            Some((user, hosts)) => {
                let (login, password) = user
                    .split_once(':')
                    .map_or((user, None), |(login, password)| (login, Some(password)));
                parts.login = Some(decoded(login)?).filter(|login| !login.is_empty());
                parts.password = password.map(decoded).transpose()?;
                hosts
            }
        };
        if hosts.is_empty() {
            return Err(FORM.to_owned());
        }
        parts.hosts = hosts.split(',').map(host).collect::<Result<_, _>>()?;
        // A URL that ends with a bare `/` means the vhost of that name to most programs, and an empty one to none.
        parts.vhost = (!path.is_empty()).then(|| decoded(path)).transpose()?;
        for pair in query
            .iter()
            .flat_map(|query| query.split('&'))
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                value
                    .parse::<u32>()
                    .map_err(|_| format!("says `{name}={value}`, which is not a number"))
            };
            match name {
                "heartbeat" => parts.heartbeat = Some(Duration::from_secs(u64::from(number()?))),
                "frame_max" => parts.frame_max = Some(number()?).filter(|size| *size >= 4096),
                _ => {
                    return Err(format!(
                        "has the parameter `{}`; only heartbeat and frame_max are known there, the rest are keys of their own",
                        name.escape_debug()
                    ));
                }
            }
        }
        Ok(parts)
    }
}

fn decoded(text: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "holds percent signs that do not spell UTF-8".to_owned())
}

/// `host`, `host:port`, `[ipv6]` or `[ipv6]:port`.
fn host(text: &str) -> Result<HostAndPort, String> {
    let text = text.trim();
    if text.contains('@') {
        return Err("names a host with an `@` in it; login and password are keys of their own".to_owned());
    }
    let bad = || {
        format!(
            "names the host `{}`; write HOST, HOST:PORT or [IPV6]:PORT",
            text.escape_debug()
        )
    };
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, after) = rest.split_once(']').ok_or_else(bad)?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or_else(bad)?),
        };
        (name, port)
    } else {
        match text.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (text, None),
        }
    };
    let port = port
        .map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad))
        .transpose()?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '/' || c == '@') {
        return Err(bad());
    }
    Ok((name.to_owned(), port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{Host, UrlParts, host};

    type Said = (Vec<(String, Option<u16>)>, [Option<String>; 3]);

    fn parts(url: &str) -> Said {
        let parts = UrlParts::parse(url).unwrap();
        (parts.hosts, [parts.login, parts.password, parts.vhost])
    }

    #[test]
    fn urls_say_hosts_login_and_vhost() {
        let one = |name: &str, port| vec![(name.to_owned(), port)];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("amqp://h"), (one("h", None), [None, None, None]));
        assert_eq!(
            parts("amqp://a%40b:p%3aw@h:1/%2f"),
            (one("h", Some(1)), [some("a@b"), some("p:w"), some("/")])
        );
        assert_eq!(parts("amqp://h/").1[2], None, "a bare slash is the usual vhost");
        assert_eq!(parts("amqp://u@h1:1,h2,[::1]:3/v").0.len(), 3);
        assert_eq!(parts("amqp://[::1]").0, one("::1", None));
        assert!(UrlParts::parse("amqps://h").unwrap().tls);
        assert_eq!(
            UrlParts::parse("amqp://h?heartbeat=5").unwrap().heartbeat,
            Some(Duration::from_secs(5))
        );
        for bad in [
            "amqp:h",
            "amqp://",
            "amqp://h:0",
            "amqp://h:x",
            "amqp://h/a/b",
            "amqp://h?x=1",
            "amqp://%ff@h",
            "amqp://h,",
        ] {
            assert!(UrlParts::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_shown_as_they_are_written() {
        for text in ["h:1", "[::1]:2"] {
            let (name, port) = host(text).unwrap();
            let shown = Host {
                name,
                port: port.unwrap(),
            }
            .shown();
            assert_eq!(shown, text);
        }
    }
}
