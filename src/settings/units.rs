//! Durations such as `1h30m` and sizes such as `256M`, in the configuration and on the command line.

use std::time::Duration;

/// The longest duration that is taken: a hundred years. Anything more is a slip, and would overflow clocks.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

const DURATION_UNITS: &[(&[&str], u64)] = &[
    (&["ms", "msec", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "secs", "second", "seconds"], 1_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hr", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

/// Reads `5m`, `1h30m`, `250ms`, `1.5h`, `30d`, or bare seconds. The error says what was meant to be there.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let meant = || {
        format!(
            "must be a duration such as 250ms, 90s, 5m, 1h30m or 30d, or bare seconds, not `{}`",
            quoted(text)
        )
    };
    let trimmed = text.trim();
    if trimmed.starts_with('-') && trimmed[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("must not be negative: `{}`", quoted(text)));
    }
    if let Some(seconds) = decimal(trimmed, 1_000_000_000) {
        return checked(seconds, text);
    }
    let mut rest = trimmed;
    let mut total: u128 = 0;
    if rest.is_empty() {
        return Err(meant());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(meant)?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, milliseconds) = DURATION_UNITS
            .iter()
            .find(|(names, _)| names.contains(&unit))
            .ok_or_else(meant)?;
        let nanoseconds = decimal(number, u128::from(*milliseconds) * 1_000_000).ok_or_else(meant)?;
        total = total.saturating_add(nanoseconds);
        rest = after.trim_start();
    }
    checked(total, text)
}

/// Reads `256M`, `1MiB`, `16K`, `1.5G`, or bare bytes. `K`, `M`, `G`, `T` (also `KiB` …) count in 1024s; `kB`, `MB`,
/// `GB`, `TB` in 1000s. The error says what was meant to be there.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let meant = || {
        format!(
            "must be a size such as 16K, 256M or 1GiB, or bare bytes, not `{}`",
            quoted(text)
        )
    };
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1_u128 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(meant()),
    };
    let bytes = decimal(number, factor).ok_or_else(meant)?;
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| format!("is too large: `{}`", quoted(text)))
}

/// `number` times `factor`, the digits after a decimal point included; `None` if it is not a plain number.
fn decimal(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || number.ends_with('.') {
        return None;
    }
    // Too many digits are too large, which the callers' limits then say.
    let whole = whole.parse::<u128>().unwrap_or(u128::MAX).saturating_mul(factor);
    let fraction = &fraction[..fraction.len().min(18)];
    let share = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u128>().ok()?.saturating_mul(factor) / 10_u128.pow(fraction.len() as u32)
    };
    Some(whole.saturating_add(share))
}

fn checked(nanoseconds: u128, text: &str) -> Result<Duration, String> {
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(u64::MAX);
    let duration = Duration::new(seconds, (nanoseconds % 1_000_000_000) as u32);
    if duration > LONGEST {
        return Err(format!("is too long: `{}` is more than 100 years", quoted(text)));
    }
    Ok(duration)
}

/// Foreign text fit for an error: short, and without what could steer a terminal.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
        .escape_debug()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{parse_duration, parse_size};

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("5", 5_000),
            ("0.25", 250),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("30d", 2_592_000_000),
            ("1.5h", 5_400_000),
            (" 10 s ", 10_000),
            ("2 weeks", 1_209_600_000),
            ("100000000", 100_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            " ",
            "soon",
            "5x",
            "m",
            "5 5",
            "1.2.3s",
            "5m3",
            ".5s",
            "5.",
            "1e3",
            "-5m",
            "-1",
            "5M",
            "9999999999999",
            "99999999999999999999999999999999999999999999999999d",
            "5m\u{1b}[2J",
            "∞",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(!error.contains('\u{1b}'), "{error}");
        }
        assert!(parse_duration("soon").unwrap_err().contains("5m, 1h30m"));
        assert!(parse_duration("-1").unwrap_err().contains("negative"));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("16K", 16 << 10),
            ("256M", 256 << 20),
            ("1MiB", 1 << 20),
            ("1 GiB", 1 << 30),
            ("1.5k", 1536),
            ("10MB", 10_000_000),
            ("2kB", 2000),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1X", "-1", "1.5.1M", "99999999999999999999", "8388608T", "1e6"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }

        #[test]
        fn whole_milliseconds_come_back(milliseconds in 0_u64..3_000_000_000_000) {
            let expected = Ok(Duration::from_millis(milliseconds));
            proptest::prop_assert_eq!(parse_duration(&format!("{milliseconds}ms")), expected.clone());
            let seconds = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            proptest::prop_assert_eq!(parse_duration(&seconds), expected);
        }
    }
}
