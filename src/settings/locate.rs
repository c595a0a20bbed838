//! Finds the line of a key, by reading the text again: done only when an error is made, so that reading stays fast.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::parse::MERGE_KEY;
use super::path::{Path, Segment};

/// The line of this path's key or list element, from 1; of the nearest place above it where there is no such key.
pub(super) fn line(text: &str, path: &Path) -> Option<usize> {
    let segments = path.segments();
    (1..=segments.len()).rev().find_map(|length| {
        // A key that is not written where it was read came in through a merge.
        [false, true].into_iter().find_map(|merged| {
            let found = RefCell::new(None);
            seek(text, &segments[..length], merged, Aim::Place, &found)
        })
    })
}

/// The scalar at this path exactly as written, such as `1.10` where the value is the number 1.1.
pub(super) fn raw(text: &str, path: &Path) -> Option<String> {
    [false, true].into_iter().find_map(|merged| {
        let found = RefCell::new(None);
        seek(text, path.segments(), merged, Aim::Scalar, &found);
        found.into_inner()
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Aim {
    Place,
    Scalar,
}

/// The parser tells where it is only through an error: so the search ends with one on purpose, when it is there.
fn seek(text: &str, rest: &[Segment], merged: bool, aim: Aim, found: &RefCell<Option<String>>) -> Option<usize> {
    let error = Seek {
        rest,
        merged,
        aim,
        found,
    }
    .deserialize(serde_yaml::Deserializer::from_str(text))
    .err()?;
    found
        .borrow()
        .is_some()
        .then(|| error.location().map(|place| place.line()))?
}

#[derive(Clone, Copy)]
struct Seek<'a> {
    rest: &'a [Segment],
    merged: bool,
    aim: Aim,
    found: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.rest.is_empty() {
            return deserializer.deserialize_any(self);
        }
        match self.aim {
            Aim::Place => {
                self.found.replace(Some(String::new()));
                deserializer.deserialize_any(Refuse)
            }
            Aim::Scalar => deserializer.deserialize_str(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        if self.rest.is_empty() && self.aim == Aim::Scalar {
            self.found.replace(Some(value.to_owned()));
            return Err(E::custom("found"));
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let here = match &self.rest[0] {
                // The list of a merge: each of its maps may hold the key.
                Segment::Key(_) => self.merged.then_some(self),
                Segment::Index(wanted) => (*wanted == index).then(|| Self {
                    rest: &self.rest[1..],
                    ..self
                }),
            };
            let more = match here {
                Some(seek) => elements.next_element_seed(seek)?,
                None => elements.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if more.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Segment::Key(wanted) = &self.rest[0] else {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while let Some(matched) = entries.next_key_seed(KeyProbe { seek: self, wanted })? {
            match matched {
                KeyMatch::No => {
                    entries.next_value::<IgnoredAny>()?;
                }
                KeyMatch::Yes => entries.next_value_seed(Self {
                    rest: &self.rest[1..],
                    ..self
                })?,
                KeyMatch::Merge => entries.next_value_seed(self)?,
            }
        }
        Ok(())
    }
}

enum KeyMatch {
    No,
    Yes,
    Merge,
}

struct KeyProbe<'a> {
    seek: Seek<'a>,
    wanted: &'a str,
}

impl<'de> DeserializeSeed<'de> for KeyProbe<'_> {
    type Value = KeyMatch;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<KeyMatch, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyProbe<'_> {
    type Value = KeyMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<KeyMatch, E> {
        if key == self.wanted {
            if self.seek.rest.len() == 1 && self.seek.aim == Aim::Place {
                self.seek.found.replace(Some(String::new()));
                return Err(E::custom("found"));
            }
            return Ok(KeyMatch::Yes);
        }
        Ok(if key == MERGE_KEY && self.seek.merged {
            KeyMatch::Merge
        } else {
            KeyMatch::No
        })
    }
}

/// Takes nothing at all: whatever stands here is where the error is.
struct Refuse;

impl Visitor<'_> for Refuse {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::path::Path;
    use super::{line, raw};

    const TEXT: &str = "\
# a comment
first: 1
base: &base
  shared: 1.10
  other: x
map:
  # another
  inner:

    deep: [a, b,
      c]
  <<: *base
list:
  - name: x
  -
    name: 0x1F
merged: { <<: [*base] }
";

    #[test]
    fn lines_are_those_of_the_key_or_element() {
        for (path, expected) in [
            (Path::default().key("first"), Some(2)),
            (Path::default().key("map"), Some(6)),
            (Path::default().key("map").key("inner"), Some(8)),
            (Path::default().key("map").key("inner").key("deep"), Some(10)),
            (Path::default().key("map").key("inner").key("deep").index(2), Some(11)),
            (Path::default().key("map").key("shared"), Some(4)),
            (Path::default().key("merged").key("other"), Some(5)),
            (Path::default().key("list").index(0), Some(14)),
            (Path::default().key("list").index(0).key("name"), Some(14)),
            (Path::default().key("list").index(1).key("name"), Some(16)),
            // The nearest place above what is not there.
            (Path::default().key("map").key("absent").key("deeper"), Some(6)),
            (Path::default().key("first").key("absent"), Some(2)),
            (Path::default().key("absent"), None),
            (Path::default(), None),
        ] {
            assert_eq!(line(TEXT, &path), expected, "{path}");
        }
    }

    #[test]
    fn scalars_are_found_as_written() {
        assert_eq!(
            raw(TEXT, &Path::default().key("base").key("shared")).as_deref(),
            Some("1.10")
        );
        assert_eq!(
            raw(TEXT, &Path::default().key("map").key("shared")).as_deref(),
            Some("1.10")
        );
        let name = Path::default().key("list").index(1).key("name");
        assert_eq!(raw(TEXT, &name).as_deref(), Some("0x1F"));
        assert_eq!(raw(TEXT, &Path::default().key("list")), None);
    }
}
