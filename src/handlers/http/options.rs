//! The options of a request: which there are, and what they mean. One table, which the documentation shows.

use super::curl;
use super::wish::{
    Wish, bearer_token, body, connect_timeout, connect_timeout_ms, cookie, custom_method, encoding, follow, form, get,
    header_lines, headers, json, login, max_redirects, method, no_body, nothing, only_basic, password, post,
    post_fields, referer, timeout, timeout_ms, user_agent, username, verify_host, verify_peer,
};
use crate::wire::json::Json;

/// An option that a message may have.
pub(super) struct HttpOption {
    /// cURL's number.
    pub(super) number: Option<u32>,
    /// Its readable name.
    pub(super) name: Option<&'static str>,
    /// What it means.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the documentation, which a test compares")
    )]
    pub(super) meaning: &'static str,
    /// Reads its value.
    read: fn(&mut Wish, &Json) -> Result<(), String>,
}

const fn option(
    number: u32,
    name: &'static str,
    meaning: &'static str,
    read: fn(&mut Wish, &Json) -> Result<(), String>,
) -> HttpOption {
    HttpOption {
        number: if number == 0 { None } else { Some(number) },
        name: if name.is_empty() { None } else { Some(name) },
        meaning,
        read,
    }
}

/// All there are.
#[rustfmt::skip]
pub(super) static OPTIONS: &[HttpOption] = &[
    option(0, "method", "The method, such as `PUT`. Without it: `POST` where there is a body, else `GET`.", method),
    option(10036, "", "As `method`.", custom_method),
    option(80, "", "True: `GET`. Not together with a body.", get),
    option(47, "", "True: `POST`, also without a body.", post),
    option(44, "", "True: `HEAD`.", no_body),
    option(0, "headers", "An object of names and values, or a list of lines `Name: value`. Headers of the connection (`Host`, `Content-Length`, `Transfer-Encoding`, `Connection` …) are refused.", headers),
    option(10023, "", "A list of lines `Name: value`; `Name;` has an empty value, `Name:` is not sent.", header_lines),
    option(0, "body", "The body, as text. Its type is what `headers` say.", body),
    option(0, "json", "The body, any JSON; its type is `application/json`.", json),
    option(0, "form", "The body, an object of fields; its type is `application/x-www-form-urlencoded`.", form),
    option(10015, "", "The body, as text; its type is `application/x-www-form-urlencoded` unless a header says otherwise. (PHP's array, which would be a multipart form, is refused.)", post_fields),
    option(13, "timeout", "Seconds for the whole request. Never more than the handler's `timeout`; 0 is the handler's.", timeout),
    option(155, "", "The same in milliseconds.", timeout_ms),
    option(78, "connect_timeout", "Seconds for a connection, at most 10; 0 is the usual.", connect_timeout),
    option(156, "", "The same in milliseconds.", connect_timeout_ms),
    option(52, "follow", "False: no redirect is followed. True: as many as the handler's `redirects`.", follow),
    option(68, "max_redirects", "At most so many. Never more than the handler's `redirects`; -1 is the handler's.", max_redirects),
    option(10018, "user_agent", "The header `User-Agent`. Without it: `qctl/VERSION`.", user_agent),
    option(10016, "referer", "The header `Referer`.", referer),
    option(10022, "cookie", "The header `Cookie`.", cookie),
    option(10005, "", "`USER:PASSWORD` of a login (HTTP Basic).", login),
    option(10173, "username", "The user of a login (HTTP Basic).", username),
    option(10174, "password", "Its password.", password),
    option(10220, "bearer_token", "The header `Authorization: Bearer …`.", bearer_token),
    option(107, "", "1 (Basic) or -1 and -17 (any): Basic is what is spoken. Others are refused.", only_basic),
    option(10102, "accept_encoding", "Taken; answers are always asked for as they are (`identity`).", encoding),
    option(64, "", "True is taken: certificates are always verified. False is refused.", verify_peer),
    option(81, "", "2, 1 or true is taken: names are always verified. 0 is refused.", verify_host),
    option(45, "", "Taken and means nothing: 400 and above always fails.", nothing),
    option(19913, "", "Taken and means nothing: the answer is kept for who waits for a reply.", nothing),
    option(19914, "", "Taken and means nothing.", nothing),
    option(42, "", "Taken and means nothing: headers are not part of what is kept.", nothing),
    option(41, "", "Taken and means nothing.", nothing),
    option(43, "", "Taken and means nothing.", nothing),
    option(84, "", "Taken and means nothing: HTTP/1.1 is spoken.", nothing),
    option(99, "", "Taken and means nothing.", nothing),
    option(121, "", "Taken and means nothing.", nothing),
];

/// Whether an option of this name or number can be asked for.
pub(super) fn find(written: &str) -> Option<&'static HttpOption> {
    let number = written.parse().ok().or_else(|| curl::number_of(written));
    OPTIONS.iter().find(|option| match number {
        Some(number) => option.number == Some(number),
        None => option.name == Some(written),
    })
}

/// What a message asks for, or why that is refused.
pub(super) fn read(options: &[(String, Json)]) -> Result<Wish, String> {
    let mut wish = Wish::default();
    let mut seen: Vec<*const HttpOption> = Vec::new();
    for (written, value) in options {
        let option = find(written).ok_or_else(|| refused(written))?;
        if seen.contains(&std::ptr::from_ref(option)) {
            return Err(format!(
                "the option {} is given twice, by name and by number",
                shown(written)
            ));
        }
        seen.push(option);
        (option.read)(&mut wish, value).map_err(|reason| format!("the option {}: {reason}", shown(written)))?;
    }
    Ok(wish)
}

/// The name of an option as it is spoken of.
fn shown(written: &str) -> String {
    let named = written
        .parse()
        .ok()
        .and_then(|number| Some((number, curl::name_of(number)?)));
    match named {
        Some((number, name)) => format!("CURLOPT_{name} ({number})"),
        None => format!("{:?}", written.chars().take(60).collect::<String>()),
    }
}

fn refused(written: &str) -> String {
    let is_url = matches!(written, "url" | "10002" | "CURLOPT_URL");
    let why = if is_url {
        "the URL is what `url` of the body says"
    } else {
        "a message may not set it"
    };
    format!("the option {} is refused: {why}", shown(written))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fmt::Write as _;

    use super::{OPTIONS, curl, read};
    use crate::wire::json::Json;

    fn refusal(options: &str) -> String {
        let Json::Map(options) = Json::parse(options.as_bytes()).unwrap() else {
            panic!("{options}")
        };
        read(&options).map(drop).unwrap_err()
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused_by_name() {
        for (number, name) in [
            (10002, "URL"),
            (10004, "PROXY"),
            (10262, "PRE_PROXY"),
            (181, "PROTOCOLS"),
            (182, "REDIR_PROTOCOLS"),
            (10318, "PROTOCOLS_STR"),
            (10001, "WRITEDATA"),
            (10009, "READDATA"),
            (10029, "HEADERDATA"),
            (10031, "COOKIEFILE"),
            (10082, "COOKIEJAR"),
            (10062, "INTERFACE"),
            (10203, "RESOLVE"),
            (10243, "CONNECT_TO"),
            (10231, "UNIX_SOCKET_PATH"),
            (10264, "ABSTRACT_UNIX_SOCKET"),
            (3, "PORT"),
            (46, "UPLOAD"),
            (54, "PUT"),
            (10211, "DNS_SERVERS"),
            (10065, "CAINFO"),
            (105, "UNRESTRICTED_AUTH"),
        ] {
            let reason = refusal(&format!("{{\"{number}\":\"http://evil/\"}}"));
            assert!(
                reason.starts_with(&format!("the option CURLOPT_{name} ({number}) is refused")),
                "{reason}"
            );
            assert!(refusal(&format!("{{\"CURLOPT_{name}\":1}}")).contains("is refused"));
        }
        assert_eq!(
            refusal("{\"10002\":\"x\"}"),
            "the option CURLOPT_URL (10002) is refused: the URL is what `url` of the body says"
        );
        for other in ["url", "99999", "-1", "010002x", "", "proxy", "TIMEOUT", "\\u001b[2J"] {
            let reason = refusal(&format!("{{\"{other}\":1}}"));
            assert!(reason.contains("is refused") && !reason.contains('\u{1b}'), "{reason}");
        }
        // No other spelling of a number gets past its name.
        for other in ["010002", "+10002"] {
            assert!(
                refusal(&format!("{{\"{other}\":\"http://evil/\"}}")).contains("CURLOPT_URL"),
                "{other}"
            );
        }
    }

    #[test]
    fn an_option_is_given_once() {
        assert!(refusal("{\"timeout\":1,\"13\":2}").contains("given twice"));
        assert!(refusal("{\"body\":\"a\",\"json\":1}").contains("has a body already"));
    }

    /// The page shows this table, word for word.
    #[test]
    fn the_documentation_shows_all_options() {
        let mut table = String::from("| option | cURL's | meaning |\n| --- | --- | --- |\n");
        for option in OPTIONS {
            let name = option.name.map_or_else(String::new, |name| format!("`{name}`"));
            let number = option.number.map_or_else(String::new, |number| {
                format!("{number} `CURLOPT_{}`", curl::name_of(number).unwrap())
            });
            writeln!(table, "| {name} | {number} | {} |", option.meaning).unwrap();
        }
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md");
        let text = std::fs::read_to_string(&page).unwrap();
        let (before, rest) = text.split_once("<!-- options -->\n").unwrap();
        let (shown, after) = rest.split_once("<!-- end of options -->").unwrap();
        if std::env::var_os("QCTL_BLESS").is_some() {
            let text = format!("{before}<!-- options -->\n{table}<!-- end of options -->{after}");
            std::fs::write(&page, text).unwrap();
        } else {
            assert_eq!(
                shown, table,
                "write it anew with QCTL_BLESS=1 cargo test --lib the_documentation_shows"
            );
        }
    }
}
