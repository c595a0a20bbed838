//! Which URLs may be asked: pure.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;

use super::ranges::Private;

/// No longer URL is taken.
const LONGEST_URL: usize = 16 << 10;

/// Something that is allowed.
#[derive(Clone)]
pub enum Entry {
    /// A host by its normalised name, on this port or on any.
    Host {
        /// As a parsed URL has it: lower case, in ASCII, an IPv6 address in brackets.
        name: String,
        /// `None`: any.
        port: Option<u16>,
    },
    /// Whatever this says of a whole normalised URL.
    Matching(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl Entry {
    /// A host: `HOST` or `HOST:PORT`.
    pub fn host(written: &str) -> Result<Self, String> {
        let meant = || {
            "must be the name of a host such as `api.example.org`, or HOST:PORT, or `regexp:…` for a whole URL"
                .to_owned()
        };
        if written.contains('*') {
            return Err(
                "has a `*`, which is not understood here; name each host, or write `regexp:…` for a whole URL"
                    .to_owned(),
            );
        }
        if written.is_empty() || written.contains(|c: char| "/\\?#@".contains(c) || c.is_whitespace() || c.is_control())
        {
            return Err(meant());
        }
        let (name, port) = if let Ok(IpAddr::V6(address)) = written.parse() {
            (format!("[{address}]"), None)
        } else if let Some((name, port)) = written.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            let plain = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = plain.then(|| port.parse().ok()).flatten().filter(|port| *port > 0);
            (name.to_owned(), Some(port.ok_or_else(meant)?))
        } else {
            (written.to_owned(), None)
        };
        if name.contains(':') && !name.starts_with('[') {
            return Err(meant());
        }
        let url = Url::parse(&format!("http://{name}/")).map_err(|_| meant())?;
        let name = url.host_str().filter(|_| url.port().is_none() && url.path() == "/");
        Ok(Self::Host {
            name: name.ok_or_else(meant)?.to_owned(),
            port,
        })
    }

    fn allows(&self, url: &Url) -> bool {
        match self {
            Self::Host { name, port } => {
                url.host_str() == Some(name) && port.is_none_or(|port| url.port_or_known_default() == Some(port))
            }
            Self::Matching(matches) => matches(url.as_str()),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => write!(f, "Host({name}, {port:?})"),
            Self::Matching(_) => f.write_str("Matching"),
        }
    }
}

/// What may be asked. An empty one lets nothing through.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// What is allowed.
    pub allow: Vec<Entry>,
    /// What becomes of addresses that are not the internet's.
    pub private: Private,
}

impl Fence {
    /// The URL as it will be requested, or why it is not. The reason names the host and nothing else of the URL, which may
    /// hold secrets.
    pub fn check(&self, written: &str) -> Result<Url, String> {
        let url = normalised(written)?;
        let host = url.host_str().unwrap_or_default();
        if !self.allow.iter().any(|entry| entry.allows(&url)) {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(format!(
                "the URL is not allowed: nothing in `allow` is {host}{port} or matches it"
            ));
        }
        match literal(&url).filter(|address| !self.private.allows(*address)) {
            Some(address) => Err(refused_address(host, address)),
            None => Ok(url),
        }
    }
}

/// The reason of an address that may not be connected to.
pub(super) fn refused_address(host: &str, address: IpAddr) -> String {
    format!(
        "{host} is at the private address {address}, which is not connected to; `private: allow`, or a list of ranges, \
         changes that"
    )
}

/// A URL with everything in it as it will be requested.
fn normalised(written: &str) -> Result<Url, String> {
    if written.len() > LONGEST_URL {
        return Err(format!(
            "the URL has {} bytes; no more than {LONGEST_URL} are taken",
            written.len()
        ));
    }
    // Parsers drop some of them in silence, others do not: what was meant is anybody's guess.
    if written.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("the URL holds spaces or control characters, which must be written with %".to_owned());
    }
    let mut url = Url::parse(written).map_err(|error| format!("the URL cannot be read: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme: String = url.scheme().chars().take(20).collect();
        return Err(format!("a URL must begin with http:// or https://, not with {scheme}:"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL holds a login before an `@`, which is not taken there; there are options or keys for it"
                .to_owned(),
        );
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err("the URL has no host or no port that can be connected to".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

/// The address that a URL has in place of a name. The client does not look such a one up.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{any, proptest};

    use super::{Entry, Fence};
    use crate::web::Private;

    fn fence(hosts: &[&str], private: Private) -> Fence {
        Fence {
            allow: hosts.iter().map(|host| Entry::host(host).unwrap()).collect(),
            private,
        }
    }

    fn refusal(fence: &Fence, url: &str) -> String {
        match fence.check(url) {
            Ok(asked) => panic!("{url} was let through as {asked}"),
            Err(reason) => reason,
        }
    }

    #[test]
    fn hosts_are_compared_as_they_will_be_asked() {
        let fence = fence(
            &[
                "Good.example",
                "with-port.example:8080",
                "bücher.example",
                "[2606:4700::1]",
            ],
            Private::Refuse,
        );
        for (url, asked) in [
            ("http://good.example", "http://good.example/"),
            ("HTTPS://GOOD.EXAMPLE:444/x?y=1#z", "https://good.example:444/x?y=1"),
            ("http://g%6fod.example/", "http://good.example/"),
            (
                "http://good.example\\@evil.example/",
                "http://good.example/@evil.example/",
            ),
            ("http:good.example/", "http://good.example/"),
            ("http://with-port.example:8080/", "http://with-port.example:8080/"),
            ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
            ("http://ｇｏｏｄ.example/", "http://good.example/"),
            ("http://[2606:4700:0::1]/", "http://[2606:4700::1]/"),
        ] {
            assert_eq!(fence.check(url).map(String::from).as_deref(), Ok(asked), "{url}");
        }
        for url in [
            "http://evil.example/",
            "http://good.example.evil.example/",
            "http://evil.example/good.example",
            "http://evil.example\\good.example",
            "http://evil.example?good.example",
            "http://evil.example#@good.example",
            "http://notgood.example",
            "http://sub.good.example",
            "http://good.example./",
            "http://with-port.example/",
            "http://with-port.example:80801/",
            "http://good@evil.example/",
            "http://good.example@evil.example/",
            "http://good.example:80@evil.example/",
            "http://good.example%40evil.example/",
            "http://good.example\t.evil.example/",
            "http://good.example/ x",
            "\u{1}http://good.example/",
            "http://good\u{ad}.example\n/",
            "http://",
            "http:///",
            "http://good.example:0/",
            "good.example",
            "//good.example/",
            "",
            "file:///etc/passwd",
            "gopher://good.example/",
            "ftp://good.example/",
            "unix:///run/x.sock",
            "data:text/plain,x",
            "javascript:x",
        ] {
            refusal(&fence, url);
        }
    }

    #[test]
    fn spellings_of_an_address_are_one() {
        let all = Fence {
            allow: vec![Entry::Matching(Arc::new(|_: &str| true))],
            private: Private::Refuse,
        };
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://0/",
            "http://169.254.169.254/latest/meta-data",
            "http://１２７.0.0.1/",
        ] {
            let reason = refusal(&all, url);
            assert!(reason.contains("private address"), "{url}: {reason}");
        }
        assert!(all.check("http://8.8.8.8/").is_ok());
        // To be named and to be private are two questions.
        let named = |private| fence(&["127.0.0.1"], private);
        assert!(refusal(&named(Private::Refuse), "http://127.0.0.1/").contains("private address"));
        assert!(named(Private::Allow).check("http://2130706433/").is_ok());
        let only = Private::Only(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(named(only).check("http://127.0.0.1:9/").is_ok());
        assert!(refusal(&named(Private::Allow), "http://127.0.0.2/").contains("not allowed"));
    }

    #[test]
    fn an_empty_fence_lets_nothing_through() {
        assert!(refusal(&Fence::default(), "http://example.org/").contains("nothing in `allow`"));
    }

    #[test]
    fn reasons_hold_nothing_of_the_url_but_its_host() {
        for url in [
            "http://user:hunter2@evil.example/",
            "http://evil.example/hunter2?token=hunter2",
            "ftp://user:hunter2@evil.example/",
            "http://hunter2 hunter2",
        ] {
            let reason = refusal(&Fence::default(), url);
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn what_is_no_host_is_no_entry() {
        for written in [
            "",
            "http://good.example",
            "good.example/path",
            "user@good.example",
            "*.example",
            "good.example:",
            "good.example:0",
            "good.example:99999",
            "good.example:80:80",
            "a b",
            "[::1",
        ] {
            assert!(Entry::host(written).is_err(), "{written}");
        }
        for (written, url) in [
            ("::1", "http://[::1]:5/"),
            ("[::1]:80", "http://[::1]/"),
            ("127.1", "http://127.0.0.1/"),
        ] {
            assert!(fence(&[written], Private::Allow).check(url).is_ok(), "{written}");
        }
    }

    proptest! {
        /// Whatever comes before and behind, what is let through goes to the host that is allowed.
        #[test]
        fn what_is_let_through_goes_where_it_may(
            before in "(http|https|HTTP|ftp|file)?(:|:/|://|:///|:\\\\)?[@:./a%#?\\\\\t-]{0,4}",
            host in "(good\\.example|evil\\.example|127\\.1|0x7f\\.1|GOOD\\.example)",
            behind in "[@:./a%#?\\\\\t-]{0,4}(good\\.example|evil\\.example)?/?",
        ) {
            let fence = fence(&["good.example"], Private::Refuse);
            if let Ok(url) = fence.check(&format!("{before}{host}{behind}")) {
                proptest::prop_assert_eq!(url.host_str(), Some("good.example"));
                proptest::prop_assert!(matches!(url.scheme(), "http" | "https"));
                proptest::prop_assert!(url.username().is_empty() && url.password().is_none());
                // Read again, it is the same: nobody behind sees another URL.
                proptest::prop_assert_eq!(fence.check(url.as_str()), Ok(url.clone()));
                let parsed: axum::http::Uri = url.as_str().parse().unwrap();
                proptest::prop_assert_eq!(parsed.host(), Some("good.example"));
            }
        }

        #[test]
        fn no_url_and_no_entry_panics(url in any::<String>(), entry in any::<String>()) {
            let allow = Entry::host(&entry).into_iter().collect();
            let _ = Fence { allow, private: Private::Refuse }.check(&url);
        }
    }
}
