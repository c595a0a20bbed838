//! Files whose change means something: a deploy's symlink, a configuration.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What is seen of one file: the file a link leads to, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sight {
    Missing,
    There {
        link: Option<PathBuf>,
        device: u64,
        inode: u64,
        size: u64,
        changed: (i64, i64),
    },
}

/// A set of files, as last seen.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    known: Vec<Sight>,
    /// Seen otherwise at the last look: told only when it is still so at the next one.
    fresh: Option<Vec<Sight>>,
}

impl Watched {
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let mut watched = Self {
            paths: paths.to_owned(),
            known: Vec::new(),
            fresh: None,
        };
        watched.known = watched.look();
        watched
    }

    /// Takes what there is now as known.
    pub(super) fn settle(&mut self) {
        self.known = self.look();
        self.fresh = None;
    }

    /// The file that has changed. A file in the middle of being replaced is not there, or not whole: a change is told when two
    /// looks after each other see the same and the file is there.
    pub(super) fn changed(&mut self) -> Option<&PathBuf> {
        if self.paths.is_empty() {
            return None;
        }
        let seen = self.look();
        let same = self.fresh.as_ref() == Some(&seen);
        let at = (0..seen.len()).find(|&at| seen[at] != self.known[at] && seen[at] != Sight::Missing);
        self.fresh = Some(seen);
        at.filter(|_| same).map(|at| &self.paths[at])
    }

    /// Whether anything is otherwise than it was, at rest or not.
    pub(super) fn differs(&self) -> bool {
        self.look() != self.known
    }

    fn look(&self) -> Vec<Sight> {
        self.paths
            .iter()
            .map(|path| match fs::metadata(path) {
                Ok(facts) => Sight::There {
                    link: fs::read_link(path).ok(),
                    device: facts.dev(),
                    inode: facts.ino(),
                    // A folder's own size and time change with every file in it, which is nothing new.
                    size: if facts.is_dir() { 0 } else { facts.size() },
                    changed: if facts.is_dir() {
                        (0, 0)
                    } else {
                        (facts.mtime(), facts.mtime_nsec())
                    },
                },
                Err(_) => Sight::Missing,
            })
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_swapped_link_is_told_once_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("one")).unwrap();
        fs::create_dir(path("two")).unwrap();
        symlink(path("one"), path("current")).unwrap();
        let mut watched = Watched::new(&[path("current")]);
        assert_eq!(watched.changed(), None);
        // Something is written below it.
        fs::write(path("one/file"), "x").unwrap();
        assert_eq!((watched.changed().cloned(), watched.changed().cloned()), (None, None));
        fs::remove_file(path("current")).unwrap();
        assert_eq!((watched.changed().cloned(), watched.changed().cloned()), (None, None));
        symlink(path("two"), path("current")).unwrap();
        assert_eq!(watched.changed(), None);
        assert_eq!(watched.changed(), Some(&path("current")));
        watched.settle();
        assert_eq!((watched.changed().cloned(), watched.changed().cloned()), (None, None));
    }
}
