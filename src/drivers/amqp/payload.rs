//! The inside of a frame, looked through in place: what is no text becomes text, and what is nested too deep becomes bytes.
//! Nothing of that changes its length. What cannot be followed to its end is left as it is, for the client library to refuse.

use std::ops::Range;

/// Tables and lists within each other up to this depth are left as they are.
const DEEPEST: usize = 64;
/// The flag of the table of headers.
pub(super) const HEADERS: usize = 1 << 13;

/// Looks through a method frame's payload; whether something was changed.
pub(super) fn mend_method(payload: &mut [u8]) -> bool {
    let mut payload = Payload::of(payload);
    let _ = payload.method();
    payload.changed
}

/// The same for a content header's.
pub(super) fn mend_header(payload: &mut [u8]) -> bool {
    let mut payload = Payload::of(payload);
    let _ = payload.header();
    payload.changed
}

/// Where a content header's payload has its table of headers, the length in front of it included.
pub(super) fn headers_within(payload: &mut [u8]) -> Option<Range<usize>> {
    let whole = payload.len();
    let mut payload = Payload::of(payload);
    payload.skip(12)?;
    let flags = payload.number::<2>()?;
    if flags & HEADERS == 0 {
        return None;
    }
    for _ in (14..16).filter(|bit| flags & (1 << bit) != 0) {
        payload.short()?;
    }
    let start = whole - payload.left.len();
    payload.long()?;
    Some(start..whole - payload.left.len())
}

/// Bytes walked through from their beginning; `None` where they end too early.
struct Payload<'a> {
    left: &'a mut [u8],
    changed: bool,
}

impl<'a> Payload<'a> {
    fn of(left: &'a mut [u8]) -> Self {
        Self { left, changed: false }
    }

    /// The methods that hold text which others have written.
    fn method(&mut self) -> Option<()> {
        match (self.number::<2>()?, self.number::<2>()?) {
            // basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key.
            (60, 60) => {
                self.short()?;
                self.skip(9)?;
                self.short()?;
                self.short()
            }
            // basic.return: code, text, exchange, routing key.
            (60, 50) => {
                self.skip(2)?;
                self.short()?;
                self.short()?;
                self.short()
            }
            // basic.get-ok: delivery tag, redelivered, exchange, routing key.
            (60, 71) => {
                self.skip(9)?;
                self.short()?;
                self.short()
            }
            // connection.close and channel.close: code, and a text that the broker cuts at 252 bytes, whatever is there.
            (10, 50) | (20, 40) => {
                self.skip(2)?;
                self.short()
            }
            _ => Some(()),
        }
    }

    /// The properties of a message.
    fn header(&mut self) -> Option<()> {
        self.skip(12)?;
        let flags = self.number::<2>()?;
        // From the highest bit on; strings but for headers, delivery mode, priority and timestamp.
        for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
            match bit {
                13 => self.table(0)?,
                12 | 11 => self.skip(1)?,
                6 => self.skip(8)?,
                _ => self.short()?,
            }
        }
        Some(())
    }

    fn table(&mut self, depth: usize) -> Option<()> {
        let mut inside = self.long()?;
        while !inside.left.is_empty() {
            inside.short()?;
            inside.value(depth)?;
        }
        self.changed |= inside.changed;
        Some(())
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        let mut inside = self.long()?;
        while !inside.left.is_empty() {
            inside.value(depth)?;
        }
        self.changed |= inside.changed;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let kind = &mut self.take(1)?[0];
        if matches!(*kind, b'F' | b'A') && depth == DEEPEST {
            // Both begin with their length, as a byte array does.
            *kind = b'x';
            self.changed = true;
        }
        match *kind {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'u' | b'U' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'l' | b'L' | b'd' | b'T' => self.skip(8),
            // Long strings are any bytes.
            b'S' | b'x' => self.long().map(drop),
            b'F' => self.table(depth + 1),
            b'A' => self.list(depth + 1),
            _ => None,
        }
    }

    /// A short string.
    fn short(&mut self) -> Option<()> {
        let length = self.number::<1>()?;
        let text = self.take(length)?;
        let changed = make_text(text);
        self.changed |= changed;
        Some(())
    }

    /// What stands behind a length of four bytes.
    fn long(&mut self) -> Option<Payload<'a>> {
        let length = self.number::<4>()?;
        self.take(length).map(Payload::of)
    }

    fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(BYTES)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn take(&mut self, count: usize) -> Option<&'a mut [u8]> {
        self.left.split_off_mut(..count)
    }
}

/// Puts `?` for every byte that is not UTF-8; whether there was one.
fn make_text(mut bytes: &mut [u8]) -> bool {
    let mut changed = false;
    while let Err(error) = std::str::from_utf8(bytes) {
        let rest = &mut bytes[error.valid_up_to()..];
        let (wrong, behind) = rest.split_at_mut(error.error_len().unwrap_or(rest.len()));
        wrong.fill(b'?');
        bytes = behind;
        changed = true;
    }
    changed
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{DEEPEST, make_text, mend_header, mend_method};

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    /// A content header with these flags and properties.
    fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
        let head = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        [&head[..], &flags.to_be_bytes(), properties].concat()
    }

    fn mended(mend: fn(&mut [u8]) -> bool, payload: &[u8]) -> Vec<u8> {
        let mut payload = payload.to_vec();
        mend(&mut payload);
        payload
    }

    #[test]
    fn only_bytes_that_are_not_utf8_are_replaced() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            ("é€".as_bytes(), "é€"),
            (b"caf\xe9", "caf?"),
            (b"\xff\xfeab\xc3", "??ab?"),
            (b"\xe2\x82", "??"),
        ] {
            let mut text = bytes.to_vec();
            assert_eq!(make_text(&mut text), bytes != expected.as_bytes());
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn text_is_mended_wherever_others_can_write_it() {
        let properties = |wrong: &[u8]| {
            let inner = long(&[&b"\x01"[..], wrong, b"t\x01"].concat());
            let table = [
                &b"\x02k"[..],
                wrong,
                b"S",
                &long(b"\xff"),
                b"\x01aF",
                &inner,
                b"\x01lA",
                &long(b"I...."),
            ]
            .concat();
            header(
                0b1011_1000_0000_1000,
                &[&b"\x02t"[..], wrong, &long(&table), b"\x02\x01\x01", wrong].concat(),
            )
        };
        assert_eq!(mended(mend_header, &properties(b"\xe9")), properties(b"?"));
        let deliver = |key: &[u8]| [&b"\0\x3c\0\x3c\x01c12345678\0\x01e\x02k"[..], key].concat();
        assert_eq!(mended(mend_method, &deliver(b"\xe9")), deliver(b"?"));
        let close = |end: &[u8]| [&b"\0\x14\0\x28\x01\x94\x0bno queue '"[..], end].concat();
        assert_eq!(mended(mend_method, &close(b"\xc3")), close(b"?"));
    }

    #[test]
    fn a_table_too_deep_is_a_byte_array() {
        let of = |levels: usize| {
            let level = |inner: Vec<u8>, _| [&b"\x01kF"[..], &long(&inner)].concat();
            header(1 << 13, &long(&(0..levels).fold(b"\x01kt\x01".to_vec(), level)))
        };
        assert_eq!(mended(mend_header, &of(DEEPEST)), of(DEEPEST));
        let found = mended(mend_header, &of(5000));
        assert_eq!(found.len(), of(5000).len());
        let kinds = found.windows(3).filter(|window| window.starts_with(b"\x01k"));
        let kinds: Vec<u8> = kinds.map(|window| window[2]).take(DEEPEST + 1).collect();
        assert_eq!(kinds, [&[b'F'; DEEPEST][..], b"x"].concat());
    }

    proptest! {
        #[test]
        fn whatever_comes_keeps_its_length(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(mended(mend_header, &bytes).len(), bytes.len());
            prop_assert_eq!(mended(mend_method, &bytes).len(), bytes.len());
        }
    }
}
