//! What a redirect makes of a request: pure.

use reqwest::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::fence::Fence;

/// What goes to another server too; anything else may be meant for the first alone.
const OPEN: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "content-encoding",
    "content-language",
    "content-type",
    "user-agent",
    "traceparent",
    "tracestate",
];

/// One request on its way.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Where an answer leads; `None`: nowhere.
pub(super) fn location(status: StatusCode, headers: &HeaderMap) -> Option<&[u8]> {
    let leads = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    headers.get(LOCATION).filter(|_| leads).map(HeaderValue::as_bytes)
}

impl Hop {
    /// The next request, or why there is none. The whole fence is held against it.
    pub(super) fn next(self, status: StatusCode, location: &[u8], fence: &Fence) -> Result<Self, String> {
        let from = self.url.host_str().unwrap_or_default();
        let refused = |reason: String| format!("{from} leads elsewhere with {}: {reason}", status.as_u16());
        let joined = std::str::from_utf8(location)
            .ok()
            .and_then(|location| self.url.join(location).ok())
            .ok_or_else(|| refused("what it names is no URL".to_owned()))?;
        let url = fence.check(joined.as_str()).map_err(refused)?;
        if self.url.scheme() == "https" && url.scheme() == "http" {
            return Err(refused("from https to http, which is not followed".to_owned()));
        }
        let mut next = Self { url, ..self.clone() };
        let becomes_get = match status.as_u16() {
            303 => next.method != Method::HEAD,
            301 | 302 => next.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body.clear();
            for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
                next.headers.remove(name);
            }
        }
        if next.url.origin() != self.url.origin() {
            let kept = next.headers.iter().filter(|(name, _)| OPEN.contains(&name.as_str()));
            next.headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        }
        Ok(next)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
    use reqwest::{Method, StatusCode};

    use super::Hop;
    use crate::web::{Entry, Fence, Private};

    fn fence() -> Fence {
        Fence {
            allow: ["a.example", "b.example", "127.0.0.1"]
                .map(|host| Entry::host(host).unwrap())
                .to_vec(),
            private: Private::Refuse,
        }
    }

    fn hop(method: Method, url: &str) -> Hop {
        let headers = [
            ("authorization", "Bearer x"),
            ("x-api-key", "y"),
            ("content-type", "text/plain"),
            ("accept", "*/*"),
        ];
        Hop {
            method,
            url: url.parse().unwrap(),
            headers: headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect::<HeaderMap>(),
            body: b"body".to_vec(),
        }
    }

    fn next(method: Method, url: &str, status: u16, location: &str) -> Result<Hop, String> {
        hop(method, url).next(StatusCode::from_u16(status).unwrap(), location.as_bytes(), &fence())
    }

    #[test]
    fn methods_change_as_the_standard_says() {
        for (method, status, expected, with_body) in [
            (Method::POST, 301, Method::GET, false),
            (Method::POST, 302, Method::GET, false),
            (Method::POST, 303, Method::GET, false),
            (Method::POST, 307, Method::POST, true),
            (Method::POST, 308, Method::POST, true),
            (Method::PUT, 302, Method::PUT, true),
            (Method::PUT, 303, Method::GET, false),
            (Method::HEAD, 303, Method::HEAD, true),
        ] {
            let next = next(method.clone(), "http://a.example/x", status, "/y").unwrap();
            assert_eq!(
                (next.method, !next.body.is_empty()),
                (expected, with_body),
                "{method} {status}"
            );
            assert_eq!(next.url.as_str(), "http://a.example/y");
            assert_eq!(next.headers.contains_key("content-type"), with_body);
            assert!(next.headers.contains_key("authorization"), "the same server");
        }
    }

    #[test]
    fn what_is_meant_for_one_server_does_not_go_to_another() {
        for (from, to) in [
            ("http://a.example/", "http://b.example/"),
            ("http://a.example/", "//b.example/"),
            ("http://a.example/", "http://a.example:81/"),
            ("http://a.example/", "https://a.example/"),
        ] {
            let next = next(Method::POST, from, 307, to).unwrap();
            assert!(
                !next.headers.contains_key("authorization") && !next.headers.contains_key("x-api-key"),
                "{to}"
            );
            assert!(
                next.headers.contains_key("content-type") && next.headers.contains_key("accept"),
                "{to}"
            );
        }
    }

    #[test]
    fn the_fence_is_held_against_each_hop() {
        for (from, to, reason) in [
            ("http://a.example/", "http://evil.example/", "not allowed"),
            ("http://a.example/", "http://127.0.0.1/", "private address"),
            ("http://a.example/", "http://b.example@evil.example/", "login"),
            ("http://a.example/", "file:///etc/passwd", "must begin with http"),
            ("http://a.example/", "gopher://a.example/", "must begin with http"),
            ("https://a.example/", "http://a.example/", "from https to http"),
            ("http://a.example/", "http://[", "no URL"),
        ] {
            let error = next(Method::GET, from, 302, to).unwrap_err();
            assert!(
                error.contains(reason) && error.starts_with("a.example leads"),
                "{to}: {error}"
            );
        }
        assert!(
            hop(Method::GET, "http://a.example/")
                .next(StatusCode::FOUND, b"\xff", &fence())
                .is_err()
        );
    }
}
