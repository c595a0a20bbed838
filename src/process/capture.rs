//! What is kept of a child's output, in bounded memory however much it prints: its head, its tail, and its lines as they
//! come.

/// The most that is kept of the end of a child's standard error.
pub const TAIL_LIMIT: usize = 2048;

/// A log line is cut after so many bytes.
const LINE_LIMIT: usize = 8192;

/// The head of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The first bytes.
    pub bytes: Vec<u8>,
    /// More came than was kept.
    pub truncated: bool,
}

impl Captured {
    /// Takes the next bytes of the stream and keeps at most `limit` in all.
    pub fn feed(&mut self, chunk: &[u8], limit: usize) {
        if limit == 0 {
            return;
        }
        let room = limit - self.bytes.len().min(limit);
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.truncated |= chunk.len() > room;
    }
}

/// The end of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        if chunk.len() >= TAIL_LIMIT {
            self.cut |= chunk.len() > TAIL_LIMIT || !self.bytes.is_empty();
            self.bytes.clear();
            self.bytes.extend_from_slice(&chunk[chunk.len() - TAIL_LIMIT..]);
            return;
        }
        self.bytes.extend_from_slice(chunk);
        // Trimmed only now and then, so that a child that prints byte by byte does not move the whole tail each time.
        if self.bytes.len() > 4 * TAIL_LIMIT {
            self.trim();
        }
    }

    fn trim(&mut self) {
        if self.bytes.len() > TAIL_LIMIT {
            self.bytes.drain(..self.bytes.len() - TAIL_LIMIT);
            self.cut = true;
        }
    }

    /// The last whole lines as clean text.
    pub(super) fn text(mut self) -> String {
        self.trim();
        let mut kept = self.bytes.as_slice();
        if self.cut
            && let Some(end) = kept.iter().position(|byte| *byte == b'\n')
            && end + 1 < kept.len()
        {
            kept = &kept[end + 1..];
        }
        let mut text = clean(kept, true);
        if text.len() > TAIL_LIMIT {
            // Replacement characters are longer than the bytes they stand for.
            let start = text.ceil_char_boundary(text.len() - TAIL_LIMIT);
            text.drain(..start);
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// The last lines of what was kept whole.
pub fn last_lines(bytes: &[u8]) -> String {
    let mut tail = Tail::default();
    tail.feed(bytes);
    tail.text()
}

/// Cuts a stream into lines for the log.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// The line was too long: the rest of it is skipped.
    skipping: bool,
}

impl Lines {
    pub(super) fn feed(&mut self, mut chunk: &[u8], sink: &mut dyn FnMut(&str)) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.extend(&chunk[..end], sink);
            self.finish(sink);
            chunk = &chunk[end + 1..];
        }
        self.extend(chunk, sink);
    }

    /// The stream has ended: what is left is its last line.
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(&str)) {
        if !std::mem::take(&mut self.skipping) {
            emit(&self.partial, "", sink);
        }
        self.partial.clear();
    }

    fn extend(&mut self, part: &[u8], sink: &mut dyn FnMut(&str)) {
        if self.skipping {
            return;
        }
        let room = LINE_LIMIT - self.partial.len();
        self.partial.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            emit(&self.partial, " […]", sink);
            self.partial.clear();
            self.skipping = true;
        }
    }
}

fn emit(line: &[u8], ending: &str, sink: &mut dyn FnMut(&str)) {
    let mut text = clean(line, false);
    text.truncate(text.trim_end().len());
    if !text.is_empty() || !ending.is_empty() {
        text.push_str(ending);
        sink(&text);
    }
}

/// The text without control characters: nothing a child prints may move the cursor of whoever reads the log.
fn clean(bytes: &[u8], newlines: bool) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || *character == '\t' || (newlines && *character == '\n'))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Captured, LINE_LIMIT, Lines, TAIL_LIMIT, Tail};

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, &mut |line| seen.push(line.to_owned()));
        }
        lines.finish(&mut |line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn the_head_is_kept_and_the_rest_is_told() {
        let mut head = Captured::default();
        head.feed(b"abc", 4);
        assert!(!head.truncated);
        head.feed(b"d", 4);
        assert!(!head.truncated);
        head.feed(b"e", 4);
        assert_eq!((head.bytes.as_slice(), head.truncated), (&b"abcd"[..], true));
        let mut nothing = Captured::default();
        nothing.feed(b"abc", 0);
        assert_eq!(nothing, Captured::default());
    }

    #[test]
    fn the_tail_holds_the_last_whole_lines() {
        let mut tail = Tail::default();
        for number in 0..100_000 {
            tail.feed(format!("line {number}\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.len() <= TAIL_LIMIT && text.ends_with("line 99999") && text.starts_with("line "));
        let mut tail = Tail::default();
        tail.feed(b"before");
        tail.feed(&vec![b'x'; 3 * TAIL_LIMIT]);
        assert_eq!(tail.text(), "x".repeat(TAIL_LIMIT));
        let mut tail = Tail::default();
        tail.feed(b"one\ntwo\x1b[2J\n");
        assert_eq!(tail.text(), "one\ntwo[2J");
        let mut tail = Tail::default();
        tail.feed(&[0xff; TAIL_LIMIT]);
        assert!(tail.text().len() <= TAIL_LIMIT);
    }

    #[test]
    fn lines_survive_any_cutting_into_chunks() {
        assert_eq!(lines(&[b"a", b"b\nc", b"\r\n", b"\n", b"last"]), ["ab", "c", "last"]);
        assert_eq!(lines(&[b"\x1b[31mred\x07\n"]), ["[31mred"]);
    }

    #[test]
    fn a_long_line_is_cut_once() {
        let long = vec![b'y'; 3 * LINE_LIMIT];
        let seen = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], format!("{} […]", "y".repeat(LINE_LIMIT)));
        assert_eq!(seen[1], "next");
    }
}
