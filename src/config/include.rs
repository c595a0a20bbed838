//! Reads the configuration file and what it includes.

use std::path::{Path, PathBuf};

use super::find::{self, Located, Surroundings};
use super::predecessors::symfony::imports;
use super::predecessors::{Dialect, ForeignFile, looks_like_symfony, recognise};
use crate::error::{Error, Result};
use crate::settings::{Setting, Settings, Source, Tags};

/// Includes within includes end here.
const DEEPEST: usize = 8;
/// More files than this come from a pattern that was not meant.
const MOST_FILES: usize = 1000;

/// The files of a configuration.
#[derive(Default)]
pub(super) struct Loaded {
    /// In the order read: each before what it includes.
    pub(super) files: Vec<PathBuf>,
    /// The top-level map of each that is qctl's own.
    pub(super) roots: Vec<Settings>,
    /// Those that are predecessors', each behind what it imports.
    pub(super) foreign: Vec<ForeignFile>,
}

/// Reads a file and all that it includes, directly and indirectly. `known`: whose the file is, where its shape need not say
/// it.
pub(super) fn read(surroundings: &Surroundings, located: &Located, known: Option<Dialect>) -> Result<Loaded> {
    let mut reader = Reader {
        surroundings,
        trusted_by: located.origin.is_found_by_chance().then_some(surroundings.user),
        loaded: Loaded::default(),
        read: Vec::new(),
        open: Vec::new(),
    };
    reader.file(&located.file, None, known)?;
    Ok(reader.loaded)
}

struct Reader<'a> {
    surroundings: &'a Surroundings,
    trusted_by: Option<u32>,
    loaded: Loaded,
    /// The true paths of the files read.
    read: Vec<PathBuf>,
    /// The files whose includes are now being read, outermost first: true path and shown path.
    open: Vec<(PathBuf, PathBuf)>,
}

impl Reader<'_> {
    fn file(&mut self, shown: &Path, named_by: Option<&Setting>, known: Option<Dialect>) -> Result<()> {
        let absolute = self.surroundings.absolute(shown);
        let at = |error: Error| match named_by {
            Some(setting) => Error::new(error.kind(), setting.error(&error).to_string()),
            None => error,
        };
        let truth = absolute
            .canonicalize()
            .map_err(|error| at(find::unreadable(shown, &error)))?;
        if let Some(start) = self.open.iter().position(|(open, _)| *open == truth) {
            let chain: Vec<String> = self.open[start..]
                .iter()
                .map(|(_, shown)| shown.display().to_string())
                .chain([shown.display().to_string()])
                .collect();
            let message = format!(
                "files include each other in a circle: {}; remove one of the includes",
                chain.join(" → ")
            );
            return Err(at(Error::config(message)));
        }
        // Two patterns may name one file: its second mention adds nothing.
        if self.read.contains(&truth) {
            return Ok(());
        }
        if self.open.len() > DEEPEST {
            return Err(at(Error::config(format!(
                "files are included more than {DEEPEST} deep; include them from fewer files"
            ))));
        }
        if self.read.len() >= MOST_FILES {
            return Err(at(Error::config(format!(
                "more than {MOST_FILES} files are included; narrow the pattern"
            ))));
        }
        let text = find::read(shown, &absolute, self.trusted_by).map_err(at)?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        let environment = self.surroundings.environment.clone();
        let tags = if known.is_some() || looks_like_symfony(&text) {
            Tags::PassedOver
        } else {
            Tags::Refused
        };
        let source = Source::new(shown.display().to_string(), folder, text, environment);
        let root = Settings::parse_with(source, tags)?;
        self.loaded.files.push(absolute.clone());
        self.read.push(truth.clone());
        self.open.push((truth, shown.to_owned()));
        match known.or_else(|| recognise(&root)) {
            None => self.own(shown, root)?,
            Some(Dialect::Symfony) => self.symfony(shown, absolute, root)?,
            Some(Dialect::KoWorker) => self.loaded.foreign.push(ForeignFile {
                dialect: Dialect::KoWorker,
                path: absolute,
                root,
                unread: Vec::new(),
            }),
        }
        self.open.pop();
        Ok(())
    }

    /// A file of qctl's own: what it includes stands behind it.
    fn own(&mut self, shown: &Path, mut root: Settings) -> Result<()> {
        let includes = includes(&mut root)?;
        self.loaded.roots.push(root);
        for (pattern, setting) in includes {
            for file in self.matching(shown, &pattern, &setting)? {
                self.file(&file, Some(&setting), None)?;
            }
        }
        Ok(())
    }

    /// A file of a Symfony application: what it imports stands before it, and is such a file too, whatever is in it.
    fn symfony(&mut self, shown: &Path, path: PathBuf, root: Settings) -> Result<()> {
        let mut unread = Vec::new();
        for import in imports(&root)? {
            if !import.is_readable() {
                unread.push(import.setting);
                continue;
            }
            for file in self.matching(shown, &import.resource, &import.setting)? {
                if !(import.optional && self.is_absent(&file)) {
                    self.file(&file, Some(&import.setting), Some(Dialect::Symfony))?;
                }
            }
        }
        self.loaded.foreign.push(ForeignFile {
            dialect: Dialect::Symfony,
            path,
            root,
            unread,
        });
        Ok(())
    }

    fn is_absent(&self, file: &Path) -> bool {
        self.surroundings.absolute(file).symlink_metadata().is_err()
    }

    /// The files that an include means, as errors will name them; a pattern's in the order of their names.
    fn matching(&self, including: &Path, pattern: &str, setting: &Setting) -> Result<Vec<PathBuf>> {
        let plain = pattern.trim_start_matches("./");
        let path = including.parent().unwrap_or(Path::new("")).join(plain);
        let is_pattern = |text: &str| text.contains(['*', '?']);
        let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        if is_pattern(folder) {
            return Err(setting.error(format!(
                "`{}` has a wildcard in the name of a folder; `*` and `?` work in the file's name alone",
                pattern.escape_debug()
            )));
        }
        if !is_pattern(name) {
            return Ok(vec![path]);
        }
        let shown_folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let entries = match self.surroundings.absolute(&shown_folder).read_dir() {
            Ok(entries) => entries,
            // An empty folder and none at all mean the same to those who drop files into it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(setting.error(find::unreadable(&shown_folder, &error))),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| setting.error(find::unreadable(&shown_folder, &error)))?;
            let name_of_entry = entry.file_name();
            let Some(candidate) = name_of_entry.to_str() else {
                continue;
            };
            if matches(name, candidate) && !entry.path().is_dir() {
                files.push(shown_folder.join(candidate));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn includes(root: &mut Settings) -> Result<Vec<(String, Setting)>> {
    let Some(include) = root.setting(&["include"])? else {
        return Ok(Vec::new());
    };
    include
        .list()?
        .into_iter()
        .map(|setting| {
            let pattern = setting.text()?;
            if pattern.is_empty() || pattern.contains('\0') {
                return Err(setting.error("must be the name of a file or a pattern such as conf.d/*.yml"));
            }
            Ok((pattern, setting))
        })
        .collect()
}

/// `*` is any run of characters, `?` any one; neither takes the dot that hides a file.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut resume = None;
    loop {
        match pattern.get(p) {
            Some('*') => {
                resume = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') if n < name.len() => {
                p += 1;
                n += 1;
                continue;
            }
            Some(wanted) if name.get(n) == Some(wanted) => {
                p += 1;
                n += 1;
                continue;
            }
            None if n == name.len() => return true,
            _ => {}
        }
        match resume {
            Some((after_star, taken)) if taken < name.len() => {
                resume = Some((after_star, taken + 1));
                p = after_star;
                n = taken + 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::matches;

    #[test]
    fn file_patterns() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yml~", false),
            ("*.yml", ".hidden.yml", false),
            (".*", ".hidden", true),
            ("a?c*", "abcd", true),
            ("a?c*", "ac", false),
            ("*", "anything", true),
            ("*a*b", "xaxbab", true),
            ("*a*b", "xaxba", false),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
