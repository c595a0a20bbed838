//! The line that `echoback` prints.

use jiff::civil::DateTime;

/// The line, with its newline at the end. Control characters of the text are shown as escapes, so that it stays one line
/// whoever wrote it.
pub fn line(time: DateTime, pid: u32, host: &str, text: &str) -> String {
    let text: String = text
        .chars()
        .flat_map(|letter| {
            let escaped = letter.is_control().then(|| letter.escape_default());
            let plain = (!letter.is_control()).then_some(letter);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    format!(
        "It is {} - {}:{:03} and process with pid {pid} on host {host} says: {text}\n",
        time.strftime("%Y/%m/%d"),
        time.strftime("%H:%M:%S"),
        time.millisecond()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::civil::date;

    #[test]
    fn the_line_has_its_traditional_form() {
        let time = date(2026, 3, 4).at(5, 6, 7, 89_000_000);
        let expected = "It is 2026/03/04 - 05:06:07:089 and process with pid 42 on host box says: hello world\n";
        assert_eq!(super::line(time, 42, "box", "hello world"), expected);
        let two_lines = super::line(time, 42, "box", "a\nb\u{1b}[2J");
        assert!(two_lines.ends_with("says: a\\nb\\u{1b}[2J\n"), "{two_lines:?}");
    }
}
