//! What the status of an HTTP answer means for a message, and when a server wants to be asked again.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// No server has us wait longer.
const LONGEST: Duration = Duration::from_hours(1);

/// What a status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// 2xx: done.
    Done,
    /// 408, 425, 429 and 5xx: another try may help.
    Retry,
    /// All else: no other try can help.
    Reject,
}

/// What a status means.
pub fn meaning(status: u16) -> Meaning {
    match status {
        200..=299 => Meaning::Done,
        408 | 425 | 429 | 500..=599 => Meaning::Retry,
        _ => Meaning::Reject,
    }
}

/// What the header `Retry-After` says: seconds, or a date. At most an hour; nothing where it says nothing that is to come.
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let then = DateTimeParser::new().parse_timestamp(text).ok()?;
        let now = Timestamp::try_from(now).ok()?;
        Duration::try_from(then.duration_since(now)).ok()?
    };
    Some(wait.min(LONGEST)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Meaning, meaning, retry_after};

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        for (text, expected) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("0", None),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(77)),
            ("Sun, 06 Nov 1994 08:48:20 GMT", None),
            ("Sun, 06 Nov 1994 07:49:37 GMT", None),
            ("Mon, 06 Nov 2094 07:49:37 GMT", None),
            ("Sat, 06 Nov 2094 07:49:37 GMT", Some(3600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_status_says_whether_another_try_may_help() {
        for (status, expected) in [
            (200, Meaning::Done),
            (204, Meaning::Done),
            (100, Meaning::Reject),
            (301, Meaning::Reject),
            (404, Meaning::Reject),
            (408, Meaning::Retry),
            (425, Meaning::Retry),
            (429, Meaning::Retry),
            (500, Meaning::Retry),
            (599, Meaning::Retry),
        ] {
            assert_eq!(meaning(status), expected, "{status}");
        }
    }
}
