//! The forms of values on the command line: durations, sizes, pairs, moments. Pure, and strict: what is not understood is
//! an error that shows a right example.

use std::time::Duration;

/// A duration: bare seconds (`90`, `0.5`) or with units (`5m`, `1h 30m`).
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let wrong = || format!("'{text}' is not a duration; write seconds such as 90, or 5m, 1h30m");
    if text.starts_with(|first: char| first.is_ascii_digit()) && text.parse::<f64>().is_ok() {
        let seconds: f64 = text.parse().map_err(|_| wrong())?;
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    humantime::parse_duration(text).map_err(|_| wrong())
}

/// A ttl in whole seconds or with units; the old spelling `-ttl=60` arrives here as `tl=60`.
pub fn ttl(text: &str) -> Result<Duration, String> {
    let text = text.strip_prefix("tl=").unwrap_or(text);
    duration(text)
}

/// A size of memory: a bare number is megabytes, otherwise `256M`, `1G`, `512KiB`.
pub fn memory(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let wrong = || format!("'{text}' is not a size; write megabytes such as 256, or 256M, 1G");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let shift = match unit {
        "" if text.ends_with(|last: char| last.is_ascii_digit()) => 20,
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `NAME=VALUE`; the name must not be empty.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not of the form NAME=VALUE")),
    }
}

/// `NAME` or `NAME=VALUE`, as options of a queued command are given; the name may have dashes in front. Returned as typed.
pub fn option(text: &str) -> Result<String, String> {
    let name = text.split('=').next().unwrap_or(text);
    if name.trim_start_matches('-').is_empty() {
        return Err(format!("'{text}' is not of the form NAME=VALUE"));
    }
    Ok(text.to_owned())
}

/// A header, `NAME=VALUE`. Those that qctl itself sets and believes are not for senders to write.
pub fn header(text: &str) -> Result<(String, String), String> {
    const OWN: &str = "x-qctl-";
    let (name, value) = pair(text)?;
    if name.len() > 255 || name.chars().any(|char| char.is_control() || char.is_whitespace()) {
        return Err(format!(
            "'{name}' is not a header's name: it has no spaces and at most 255 bytes"
        ));
    }
    if name
        .get(..OWN.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(OWN))
    {
        return Err(format!(
            "headers beginning with {OWN} are qctl's own facts about a message, such as its attempts; choose another name"
        ));
    }
    Ok((name, value))
}

/// A message id: not empty, and what brokers carry.
pub fn message_id(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an id is not empty; leave the option out to have one made".to_owned());
    }
    if text.len() > 255 || text.chars().any(char::is_control) {
        return Err("an id has at most 255 bytes and no control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A media type, told apart from a file name given to the wrong flag.
pub fn content_type(text: &str) -> Result<String, String> {
    let well_formed = text
        .split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty() && !kind.contains(['.', ' ']))
        || text.starts_with("vnd.");
    if well_formed && text.bytes().all(|byte| (b' '..127).contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is not a media type such as application/json"))
    }
}

/// A threshold of a monitor: `CRITICAL` or `WARNING:CRITICAL`, each in the unit that `parse` reads.
pub fn threshold<T: Copy + PartialOrd>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Threshold<T>, String> {
    let (warning, critical) = match text.split_once(':') {
        Some((warning, critical)) => (Some(parse(warning)?), parse(critical)?),
        None => (None, parse(text)?),
    };
    if warning.is_some_and(|warning| warning > critical) {
        return Err(format!(
            "'{text}' warns above its critical value; write WARNING:CRITICAL"
        ));
    }
    Ok(Threshold { warning, critical })
}

/// Above `warning` a monitor warns, above `critical` it alarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold<T> {
    /// Above this the check exits 1.
    pub warning: Option<T>,
    /// Above this it exits 2.
    pub critical: T,
}

/// A count of messages; 0 is for no limit.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not a count; write 1 or more, or 0 for no limit"))
}

/// Messages a second; 0 is for no limit.
pub fn rate(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not a number of messages a second; write 1 or more, or 0 for no limit"))
}

/// [`Threshold`] of a count.
pub fn count_threshold(text: &str) -> Result<Threshold<u64>, String> {
    threshold(text, |part| {
        part.parse()
            .map_err(|_| format!("'{part}' is not a count; write 100, or 50:100 for WARNING:CRITICAL"))
    })
}

/// [`Threshold`] of an age.
pub fn age_threshold(text: &str) -> Result<Threshold<Duration>, String> {
    threshold(text, duration)
}

/// A moment, in milliseconds since 1970: RFC 3339, a local date or date and time, or a duration ago (`2h`).
pub fn moment(text: &str, now: jiff::Timestamp) -> Result<i64, String> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return local
            .to_zoned(jiff::tz::TimeZone::system())
            .map(|zoned| zoned.timestamp().as_millisecond())
            .map_err(|error| error.to_string());
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return date
            .to_zoned(jiff::tz::TimeZone::system())
            .map(|zoned| zoned.timestamp().as_millisecond())
            .map_err(|error| error.to_string());
    }
    // Some tools want the past with a minus.
    let ago = duration(text.strip_prefix('-').unwrap_or(text))
        .map_err(|_| format!("'{text}' is not a time; write 2026-01-31T08:00, 2026-01-31, or 2h for two hours ago"))?;
    Ok(now
        .as_millisecond()
        .saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
}

/// [`moment`] counted from now.
pub fn moment_from_now(text: &str) -> Result<i64, String> {
    moment(text, jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, millis) in [
            ("0", 0),
            ("90", 90_000),
            ("0.5", 500),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-1", "abc", "5 parsecs", "inf", "NaN", "1e400", "m5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_old_ttl_spelling_is_understood() {
        assert_eq!(ttl("tl=60"), Ok(Duration::from_mins(1)));
        assert_eq!(ttl("60"), Ok(Duration::from_mins(1)));
        assert!(ttl("tl").is_err());
    }

    #[test]
    fn bare_memory_is_megabytes() {
        for (text, bytes) in [
            ("256", 256 << 20),
            ("256M", 256 << 20),
            ("256MB", 256 << 20),
            ("256MiB", 256 << 20),
            ("1g", 1 << 30),
            ("512K", 512 << 10),
            ("100B", 100),
            ("0", 0),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-5",
            "5 apples",
            "99999999999999999999",
            "18446744073709551615",
        ] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_and_options() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
        for text in ["v", "f=", "--dd=1", "-d"] {
            assert_eq!(option(text), Ok(text.to_owned()));
        }
        for text in ["", "=x", "-", "--", "--=x"] {
            assert!(option(text).is_err(), "{text}");
        }
    }

    #[test]
    fn headers_and_ids() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(header("x-qctlish="), Ok(("x-qctlish".to_owned(), String::new())));
        for text in [
            "a",
            "=b",
            " =b",
            "a b=c",
            "a\n=b",
            "x-qctl-attempt=1",
            "X-Qctl-Reason=x",
        ] {
            assert!(header(text).is_err(), "{text}");
        }
        assert!(header(&format!("{}=v", "é".repeat(128))).is_err());
        assert_eq!(message_id("order 7"), Ok("order 7".to_owned()));
        for text in ["", "a\nb", &"x".repeat(256)] {
            assert!(message_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_name_is_no_media_type() {
        assert!(content_type("application/json").is_ok());
        assert!(content_type("vnd.php.serialized").is_ok());
        for text in ["file.yml", "/etc/qctl.yml", "./x/y", "", "a/"] {
            assert!(content_type(text).is_err(), "{text}");
        }
    }

    #[test]
    fn thresholds_have_one_or_two_values() {
        assert_eq!(
            count_threshold("5"),
            Ok(Threshold {
                warning: None,
                critical: 5
            })
        );
        assert_eq!(
            count_threshold("2:5"),
            Ok(Threshold {
                warning: Some(2),
                critical: 5
            })
        );
        assert!(count_threshold("5:2").is_err());
        assert!(count_threshold("x").is_err());
        assert!(age_threshold("1m:1h").is_ok());
    }

    #[test]
    fn moments() {
        let now = "2026-01-31T12:00:00Z".parse::<jiff::Timestamp>().expect("a timestamp");
        assert_eq!(
            moment("2026-01-31T08:00:00Z", now),
            Ok(now.as_millisecond() - 4 * 3_600_000)
        );
        assert_eq!(moment("2h", now), Ok(now.as_millisecond() - 2 * 3_600_000));
        assert_eq!(moment("-2h", now), moment("2h", now));
        assert!(moment("2026-01-31", now).is_ok());
        assert!(moment("yesterdayish", now).is_err());
    }
}
