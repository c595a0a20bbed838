//! Finds the console of the application that a configuration belongs to: what ran the queued commands.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// As old applications have it, and newer ones.
const PLACES: [&str; 2] = ["app/console", "bin/console"];
/// How far above a file of the configuration the application's folder may be: `config/packages/prod/`.
const HIGHEST: usize = 4;

/// The console nearest above this file. It must belong to whoever the configuration belongs to, or to root, and not
/// everyone may write it: for it is about to decide what runs, and nobody has named it.
pub(super) fn find(file: &Path) -> Option<PathBuf> {
    let owner = file.metadata().ok()?.uid();
    let folders = file.parent()?.ancestors().take(HIGHEST);
    let candidates = folders.flat_map(|folder| PLACES.map(|place| folder.join(place)));
    candidates.into_iter().find(|console| {
        console.metadata().is_ok_and(|found| {
            found.is_file() && (found.uid() == owner || found.uid() == 0) && found.mode() & 0o002 == 0
        })
    })
}
