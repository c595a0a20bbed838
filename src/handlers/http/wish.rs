//! What a message asks for beyond its URL.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::handlers::fenced::header;
use crate::web::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use crate::wire::json::Json;

/// So many headers are taken of a message …
const MOST_HEADERS: usize = 100;
/// … and so many bytes in them.
const HEADER_BYTES: usize = 64 << 10;
/// What stands for itself in a form.
const FIELD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the options come to.
#[derive(Debug, Default)]
pub(super) struct Wish {
    method: Option<Method>,
    get: bool,
    post: bool,
    head: bool,
    body: Option<Vec<u8>>,
    /// Of the body, where no header says it.
    body_type: Option<&'static str>,
    headers: HeaderMap,
    /// Not to be sent.
    without: Vec<HeaderName>,
    user: Option<String>,
    password: Option<String>,
    bearer: Option<String>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    follow: Option<bool>,
    max_redirects: Option<u32>,
}

impl Wish {
    /// The request for this URL.
    pub(super) fn request(mut self, url: String, keep: usize) -> Result<Request, String> {
        if self.get && self.body.is_some() {
            return Err("GET is asked for, and there is a body".to_owned());
        }
        let method = match self.method.take() {
            Some(method) => method,
            None if self.head => Method::HEAD,
            None if self.post || self.body.is_some() => Method::POST,
            None => Method::GET,
        };
        if let Some(body_type) = self.body_type {
            self.headers
                .entry("content-type")
                .or_insert(HeaderValue::from_static(body_type));
        }
        let login = match (self.user, self.password, self.bearer) {
            (None, None, None) => None,
            (None, None, Some(token)) => Some(format!("Bearer {token}")),
            (Some(user), password, None) => {
                if user.contains(':') {
                    return Err("the user of a login holds a colon".to_owned());
                }
                Some(basic(&user, &password.unwrap_or_default()))
            }
            (None, Some(_), _) => return Err("there is a password and no user".to_owned()),
            (Some(_), _, Some(_)) => return Err("there are two logins, a user and a bearer token".to_owned()),
        };
        if let Some(login) = login {
            let (name, value) = header("authorization", &login)?;
            if self.headers.insert(name, value).is_some() {
                return Err("there are two logins, one of them a header".to_owned());
            }
        }
        for name in &self.without {
            self.headers.remove(name);
        }
        let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        if self.headers.len() > MOST_HEADERS || self.headers.iter().map(bytes).sum::<usize>() > HEADER_BYTES {
            return Err(format!(
                "there are more than {MOST_HEADERS} headers, or {} KiB of them",
                HEADER_BYTES >> 10
            ));
        }
        Ok(Request {
            method,
            url,
            headers: self.headers,
            body: self.body.unwrap_or_default(),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            redirects: if self.follow == Some(false) {
                Some(0)
            } else {
                self.max_redirects
            },
            keep,
        })
    }

    fn set_body(&mut self, body: Vec<u8>, body_type: Option<&'static str>) -> Result<(), String> {
        if self.body.is_some() {
            return Err("the request has a body already".to_owned());
        }
        self.body = Some(body);
        self.body_type = body_type;
        Ok(())
    }

    fn set_method(&mut self, method: Method) -> Result<(), String> {
        if self.method.is_some() {
            return Err("the request has a method already".to_owned());
        }
        self.method = Some(method);
        Ok(())
    }

    fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (name, value) = header(name, value)?;
        self.headers
            .try_append(name, value)
            .map(drop)
            .map_err(|_| "there are too many headers".to_owned())
    }

    fn set_header(&mut self, name: &str, value: &Json) -> Result<(), String> {
        let (name, value) = header(name, &text(value)?)?;
        if self.headers.insert(name, value).is_some() {
            return Err("the header is given twice".to_owned());
        }
        Ok(())
    }
}

/// The login of HTTP Basic.
pub(in crate::handlers) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn text(value: &Json) -> Result<String, String> {
    match value {
        Json::Text(_) | Json::Int(_) | Json::Float(_) => Ok(value.to_php_string().unwrap_or_default()),
        other => Err(format!("must be text, not {}", other.kind())),
    }
}

/// True or false, also as PHP's 0 and 1.
fn truth(value: &Json) -> Result<bool, String> {
    match value {
        Json::Bool(value) => Ok(*value),
        Json::Int(0) => Ok(false),
        Json::Int(1) => Ok(true),
        Json::Text(text) if text == "0" || text == "1" => Ok(text == "1"),
        _ => Err("must be true or false".to_owned()),
    }
}

fn whole(value: &Json) -> Result<i64, String> {
    let number = match value {
        Json::Int(number) => Some(*number),
        Json::Bool(value) => Some(i64::from(*value)),
        Json::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "must be a whole number".to_owned())
}

/// Some of this unit; 0 is as if nothing had been said.
fn time(value: &Json, unit: fn(u64) -> Duration) -> Result<Option<Duration>, String> {
    // A day is longer than any handler waits, and short enough to count with.
    const MOST: u64 = 86_400_000;
    if let Json::Float(seconds) = value
        && (0.0..=MOST as f64).contains(seconds)
    {
        return Ok(Some(unit(1).mul_f64(*seconds)).filter(|time| !time.is_zero()));
    }
    let number = u64::try_from(whole(value)?).map_err(|_| "must not be negative".to_owned())?;
    Ok((number > 0).then(|| unit(number.min(MOST))))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands in a table with others")]
pub(super) fn nothing(_: &mut Wish, _: &Json) -> Result<(), String> {
    Ok(())
}

pub(super) fn method(wish: &mut Wish, value: &Json) -> Result<(), String> {
    let name = text(value)?.to_ascii_uppercase();
    named_method(wish, &name)
}

pub(super) fn custom_method(wish: &mut Wish, value: &Json) -> Result<(), String> {
    named_method(wish, &text(value)?)
}

fn named_method(wish: &mut Wish, name: &str) -> Result<(), String> {
    let short = name.len() <= 32;
    let method = Method::from_bytes(name.as_bytes()).ok().filter(|_| short);
    let method = method.ok_or_else(|| "must be a method such as PUT".to_owned())?;
    if method.as_str().eq_ignore_ascii_case("CONNECT") || method.as_str().eq_ignore_ascii_case("TRACE") {
        return Err(format!("the method {method} is refused"));
    }
    wish.set_method(method)
}

pub(super) fn get(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.get = truth(value)?;
    Ok(())
}

pub(super) fn post(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.post = truth(value)?;
    Ok(())
}

pub(super) fn no_body(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.head = truth(value)?;
    Ok(())
}

pub(super) fn headers(wish: &mut Wish, value: &Json) -> Result<(), String> {
    match value {
        Json::Map(entries) => entries
            .iter()
            .try_for_each(|(name, value)| wish.add_header(name, &text(value)?)),
        value => header_lines(wish, value),
    }
}

pub(super) fn header_lines(wish: &mut Wish, value: &Json) -> Result<(), String> {
    // A PHP array that had gaps comes as an object.
    let lines: Vec<&Json> = match value {
        Json::List(lines) => lines.iter().collect(),
        Json::Map(lines) if lines.iter().all(|(key, _)| key.parse::<u32>().is_ok()) => {
            lines.iter().map(|(_, line)| line).collect()
        }
        other => return Err(format!("must be a list of lines, not {}", other.kind())),
    };
    for line in lines {
        let line = text(line)?;
        match line.split_once(':') {
            Some((name, value)) if !value.trim().is_empty() => {
                wish.add_header(name, value.trim_matches([' ', '\t']))?;
            }
            Some((name, _)) => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a line has no name".to_owned())?;
                wish.without.push(name);
            }
            None => match line.strip_suffix(';') {
                Some(name) => wish.add_header(name, "")?,
                None => return Err("a line is not of the form `Name: value`".to_owned()),
            },
        }
    }
    Ok(())
}

pub(super) fn body(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_body(text(value)?.into_bytes(), None)
}

pub(super) fn json(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_body(value.encode_objects().into_bytes(), Some("application/json"))
}

pub(super) fn form(wish: &mut Wish, value: &Json) -> Result<(), String> {
    let fields = match value {
        Json::Map(fields) => fields.as_slice(),
        Json::List(items) if items.is_empty() => &[],
        other => return Err(format!("must be an object of fields, not {}", other.kind())),
    };
    let mut body = String::new();
    for (name, value) in fields {
        let value = value
            .to_php_string()
            .ok_or_else(|| format!("a field is {}, not a scalar", value.kind()))?;
        if !body.is_empty() {
            body.push('&');
        }
        body.extend(utf8_percent_encode(name, FIELD));
        body.push('=');
        body.extend(utf8_percent_encode(&value, FIELD));
    }
    wish.set_body(body.into_bytes(), Some("application/x-www-form-urlencoded"))
}

pub(super) fn post_fields(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_body(text(value)?.into_bytes(), Some("application/x-www-form-urlencoded"))
}

pub(super) fn timeout(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.timeout, time(value, Duration::from_secs)?);
    Ok(())
}

pub(super) fn timeout_ms(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.timeout, time(value, Duration::from_millis)?);
    Ok(())
}

pub(super) fn connect_timeout(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.connect_timeout, time(value, Duration::from_secs)?);
    Ok(())
}

pub(super) fn connect_timeout_ms(wish: &mut Wish, value: &Json) -> Result<(), String> {
    sooner(&mut wish.connect_timeout, time(value, Duration::from_millis)?);
    Ok(())
}

/// Of two limits the lower one.
fn sooner(limit: &mut Option<Duration>, other: Option<Duration>) {
    *limit = match (*limit, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

pub(super) fn follow(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.follow = Some(truth(value)?);
    Ok(())
}

pub(super) fn max_redirects(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.max_redirects = match whole(value)? {
        -1 => None,
        number => Some(u32::try_from(number).map_err(|_| "must be -1, 0 or more".to_owned())?),
    };
    Ok(())
}

pub(super) fn user_agent(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_header("user-agent", value)
}

pub(super) fn referer(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_header("referer", value)
}

pub(super) fn cookie(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.set_header("cookie", value)
}

pub(super) fn login(wish: &mut Wish, value: &Json) -> Result<(), String> {
    let login = text(value)?;
    let (user, password) = login.split_once(':').unwrap_or((&login, ""));
    wish.user = Some(user.to_owned());
    wish.password = Some(password.to_owned());
    Ok(())
}

pub(super) fn username(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.user = Some(text(value)?);
    Ok(())
}

pub(super) fn password(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.password = Some(text(value)?);
    Ok(())
}

pub(super) fn bearer_token(wish: &mut Wish, value: &Json) -> Result<(), String> {
    wish.bearer = Some(text(value)?);
    Ok(())
}

pub(super) fn only_basic(_: &mut Wish, value: &Json) -> Result<(), String> {
    match whole(value)? {
        1 | -1 | -17 => Ok(()),
        _ => Err("only Basic (1) is spoken".to_owned()),
    }
}

pub(super) fn encoding(wish: &mut Wish, value: &Json) -> Result<(), String> {
    if !matches!(value, Json::Null | Json::Bool(_)) {
        text(value)?;
    }
    wish.add_header("accept-encoding", "identity")
}

pub(super) fn verify_peer(_: &mut Wish, value: &Json) -> Result<(), String> {
    if truth(value)? {
        Ok(())
    } else {
        Err("certificates are always verified".to_owned())
    }
}

pub(super) fn verify_host(_: &mut Wish, value: &Json) -> Result<(), String> {
    match whole(value)? {
        1 | 2 => Ok(()),
        _ => Err("the names of certificates are always verified".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
