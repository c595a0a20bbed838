//! What qctl's own files say of an entry that a predecessor's file has too: it is put over it, key by key.

use crate::settings::{Content, Piece, Setting};

/// How an entry is put over another.
#[derive(Clone, Copy)]
pub(super) enum Overlay {
    /// It takes the other's place: the keys of two addresses cannot be mixed.
    Whole,
    /// Key by key. Each group holds the names of what can be said but once; where one of them is given, all of the
    /// other's are gone.
    ByKey(&'static [&'static [&'static str]]),
}

/// The entry `over` put over `below`; without one, `over` itself.
pub(super) fn laid_over(over: &Setting, below: &Setting, overlay: Overlay) -> Setting {
    let Overlay::ByKey(groups) = overlay else {
        return over.clone();
    };
    let (new, old) = (Piece::of(over), Piece::of(below));
    let (Content::Map(own), Content::Map(known)) = (new.content(), old.content()) else {
        // A mistake in it is told where it is read.
        return if new.is_null() { below.clone() } else { over.clone() };
    };
    let is_given = |key: &str| {
        let group = groups.iter().find(|group| group.contains(&key));
        own.iter()
            .any(|(given, _)| given == key || group.is_some_and(|group| group.contains(&given.as_str())))
    };
    let kept = known.iter().filter(|(key, _)| !is_given(key));
    let entries: Vec<(String, Piece)> = own.iter().chain(kept).cloned().collect();
    let environment = over.source().environment().clone();
    new.made_map(entries).into_setting(over.steps(), environment)
}
