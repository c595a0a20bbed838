//! The only file that prints. Standard output is data, standard error is talk; a reader that went away is no error.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table as Grid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::{Error, Result};

/// The form of what is printed on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document, stable.
    Json,
}

/// Prints data and talk in the form asked for.
#[derive(Debug)]
pub struct Output {
    format: Format,
    quiet: bool,
    talk_as_json: bool,
    reader_left: Cell<bool>,
}

impl Output {
    /// An output of this form; `quiet` drops the talk, though not errors; `talk_as_json` makes each remark a line of JSON, so
    /// that it does not disturb JSON log lines on the same stream.
    pub fn new(format: Format, quiet: bool, talk_as_json: bool) -> Self {
        Self {
            format,
            quiet,
            talk_as_json,
            reader_left: Cell::new(false),
        }
    }

    /// Whether JSON is wanted.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether talk is dropped.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether people watch standard error, so that progress may be drawn there.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Data: a line on standard output.
    pub fn line(&self, text: impl Display) -> Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Data: bytes on standard output, exactly as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        if self.reader_left.get() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.reader_left.set(true);
                Ok(())
            }
            Err(error) => Err(Error::general("standard output cannot be written").because(error)),
        }
    }

    /// Data: one JSON document.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Error::bug("a report cannot be written as JSON").because(error))?;
        self.line(text)
    }

    /// Data: JSON where that is wanted, otherwise what `text` makes of it.
    pub fn report<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.is_json() {
            return self.json(value);
        }
        let text = text(value);
        if text.is_empty() {
            Ok(())
        } else {
            self.line(text.trim_end_matches('\n'))
        }
    }

    /// Talk: a remark on standard error, dropped by `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            self.talk("INFO", &text.to_string());
        }
    }

    /// Talk: a warning on standard error, dropped by `--quiet`.
    pub fn warn(&self, text: impl Display) {
        if !self.quiet {
            self.talk("WARN", &format!("qctl: warning: {text}"));
        }
    }

    /// Bytes of another program's standard error, exactly as they are.
    pub fn stderr_bytes(&self, bytes: &[u8]) {
        // Nobody is left to tell when standard error cannot be written.
        let _ = io::stderr().lock().write_all(bytes);
    }

    /// An error, in one line on standard error; `--quiet` does not drop it.
    pub fn error(&self, error: &Error) {
        self.talk("ERROR", &format!("qctl: {}", one_line(&error.to_string())));
    }

    fn talk(&self, level: &str, text: &str) {
        if self.talk_as_json {
            let timestamp = jiff::Timestamp::now().to_string();
            let line = serde_json::json!({ "timestamp": timestamp, "level": level, "fields": { "message": text } });
            talk(format_args!("{line}\n"));
        } else {
            talk(format_args!("{text}\n"));
        }
    }
}

/// Data of a handler: writes some of these bytes on standard output and says how many, waiting for a slow reader. It goes past
/// the standard library's buffer, so that what is said to be written is.
pub fn write_some(bytes: &[u8]) -> io::Result<usize> {
    let stdout = rustix::stdio::stdout();
    loop {
        match rustix::io::write(stdout, bytes) {
            // Whoever shares it may have told it not to wait.
            Err(Errno::AGAIN) => {
                let mut ready = [PollFd::new(&stdout, PollFlags::OUT)];
                match poll(&mut ready, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Data: a help text, whose colours are kept where standard output shows them.
pub fn help(styled: &str) {
    let mut stdout = anstream::AutoStream::auto(io::stdout());
    // A reader that has seen enough is no error, and there is nobody to tell of any other.
    let _ = stdout.write_all(styled.as_bytes()).and_then(|()| stdout.flush());
}

/// Talk: what is wrong with the command line.
pub fn usage_error(text: &str) {
    talk(format_args!("{text}"));
}

fn talk(text: std::fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// The text with line breaks and other control characters replaced, fit for one line of a log.
pub fn one_line(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// Bytes for a person: as text, without the control bytes that could drive a terminal; line breaks and tabs stay.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|char| {
            if char.is_control() && char != '\n' && char != '\t' {
                '\u{fffd}'
            } else {
                char
            }
        })
        .collect()
}

/// The start of a body on one line of at most `width` characters.
pub fn preview(bytes: &[u8], width: usize) -> String {
    // No character has more than four bytes, so the rest of a big body need not be looked at.
    let head = &bytes[..bytes.len().min(width * 4 + 4)];
    let text = one_line(&printable(head));
    if text.chars().count() > width || head.len() < bytes.len() {
        let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
        short.push('…');
        short
    } else {
        text
    }
}

/// A body for JSON: text with `utf-8`, anything else in base64.
pub fn encoded(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => ("base64", STANDARD.encode(bytes)),
    }
}

/// A plain table: columns parted by two spaces, fitted to the terminal, unfitted where it is piped.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut grid = grid();
    if !header.is_empty() {
        grid.set_header(header.iter().map(|title| title.to_uppercase()));
    }
    for row in rows {
        grid.add_row(row.iter().map(|cell| printable(cell.as_bytes())));
    }
    for column in grid.column_iter_mut() {
        column.set_padding((0, 2));
    }
    grid.trim_fmt()
}

/// Facts, one a line: a name and what is to be said of it.
pub fn facts(rows: impl IntoIterator<Item = (String, String)>) -> String {
    table(&[], rows.into_iter().map(|(name, value)| vec![name, value]))
}

fn grid() -> Grid {
    let mut grid = Grid::new();
    grid.load_style(NOTHING);
    match terminal_width() {
        Some(width) => {
            grid.set_content_arrangement(ContentArrangement::Dynamic);
            grid.set_width(width);
        }
        None => {
            grid.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    grid
}

fn terminal_width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns >= 20)
}

/// A duration for a person: the two largest units.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 && !duration.is_zero() {
        return format!("{}ms", duration.as_millis().max(1));
    }
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    parts[first..parts.len().min(first + 2)]
        .iter()
        .filter(|(count, unit)| *count > 0 || (first == 3 && *unit == "s"))
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Seconds for a person.
pub fn human_seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}

/// Bytes for a person.
pub fn human_bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Milliseconds since 1970 for a person, in the local time zone.
pub fn human_time(milliseconds: i64) -> String {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(timestamp) => timestamp
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => milliseconds.to_string(),
    }
}

/// Milliseconds since 1970 for a program.
pub fn rfc3339(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |timestamp| format!("{timestamp:.3}"))
}

/// A number where it is known, a dash where it is not.
pub fn known(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_are_no_text_are_base64() {
        assert_eq!(encoded(&[0xff, 0xfe]), ("base64", "//4=".to_owned()));
        assert_eq!(encoded("é".as_bytes()), ("utf-8", "é".to_owned()));
    }

    #[test]
    fn control_bytes_do_not_reach_a_terminal() {
        assert_eq!(
            printable(b"a\x1b[31mb\r\nc\td\x07"),
            "a\u{fffd}[31mb\u{fffd}\nc\td\u{fffd}"
        );
        assert_eq!(one_line("a\nb\r\n"), "a b");
        assert_eq!(preview(b"line one\nline two", 12), "line one li…");
        assert_eq!(preview(b"short", 12), "short");
        assert_eq!(preview(&vec![b'x'; 1 << 20], 4), "xxx…");
    }

    #[test]
    fn durations_show_two_units() {
        for (millis, expected) in [
            (0, "0s"),
            (5, "5ms"),
            (1000, "1s"),
            (61_000, "1m 1s"),
            (3_600_000, "1h"),
            (3_661_000, "1h 1m"),
            (90_061_000, "1d 1h"),
        ] {
            assert_eq!(human_duration(Duration::from_millis(millis)), expected);
        }
    }
}
