//! Which file is the configuration: the first one found, and only if whoever wrote it may decide what runs.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::settings::Environment;

/// A larger file is no configuration; `--config` of a log or a device would else fill the memory.
const LARGEST: u64 = 8 << 20;

/// All that finding a configuration depends on, so that nothing is read behind the caller's back.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The current folder; `None` where there is none any more.
    pub folder: Option<PathBuf>,
    /// The user's id.
    pub user: u32,
    /// Where variables are looked up, `${VAR}` in the files too.
    pub environment: Environment,
    /// The file that serves the whole system.
    pub system_file: PathBuf,
    /// The qctl program itself.
    pub program: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            folder: std::env::current_dir().ok(),
            user: rustix::process::geteuid().as_raw(),
            environment: Environment::of_process(),
            system_file: PathBuf::from("/etc/qctl/qctl.yml"),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("qctl")),
        }
    }

    /// Where the user's configuration is: `$XDG_CONFIG_HOME/qctl/qctl.yml`, else `~/.config/qctl/qctl.yml`.
    pub fn user_file(&self) -> Option<PathBuf> {
        Some(self.base("XDG_CONFIG_HOME", ".config")?.join("qctl/qctl.yml"))
    }

    /// Where state is kept unless said otherwise: `$XDG_STATE_HOME/qctl`, else `~/.local/state/qctl`; `None` without a
    /// home.
    pub fn state_folder(&self) -> Option<PathBuf> {
        Some(self.base("XDG_STATE_HOME", ".local/state")?.join("qctl"))
    }

    /// The path as seen from anywhere.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        let path = match &self.folder {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        };
        // Without the dots of `./qctl.yml`.
        path.components().collect()
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    /// The base folders' specification has relative paths ignored.
    fn base(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let absolute = |name: &str| self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))
    }
}

/// How a file came to be the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--config` named it.
    Option,
    /// `$QCTL_CONFIG` names it.
    Variable,
    /// It is `./qctl.yml`.
    Folder,
    /// It is the user's.
    User,
    /// It is the system's.
    System,
}

impl Origin {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Option => "--config",
            Self::Variable => "$QCTL_CONFIG",
            Self::Folder => "the current folder",
            Self::User => "the user's configuration",
            Self::System => "the system's configuration",
        }
    }

    /// Nobody named the file, it just lies there: then its owner and mode are looked at.
    pub(super) fn is_found_by_chance(self) -> bool {
        self == Self::Folder
    }
}

/// The configuration file in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The file, as errors name it.
    pub file: PathBuf,
    /// How it came to be the one.
    pub origin: Origin,
}

/// Finds the file: `--config`, `$QCTL_CONFIG`, `./qctl.yml`, the user's, the system's. `None`: there is no file.
pub fn locate(surroundings: &Surroundings, explicit: Option<&Path>) -> Result<Option<Located>> {
    if let Some(file) = explicit {
        return named(surroundings, file, Origin::Option).map(Some);
    }
    if let Some(file) = surroundings.variable("QCTL_CONFIG") {
        return named(surroundings, Path::new(&file), Origin::Variable).map(Some);
    }
    let here = surroundings.folder.as_ref().map(|_| PathBuf::from("./qctl.yml"));
    let candidates = [
        (here, Origin::Folder),
        (surroundings.user_file(), Origin::User),
        (Some(surroundings.system_file.clone()), Origin::System),
    ];
    for (file, origin) in candidates {
        let Some(file) = file else { continue };
        // The entry itself counts, not what it points to: a dangling link is a mistake to be told, not to be passed over.
        match surroundings.absolute(&file).symlink_metadata() {
            Ok(_) => return Ok(Some(Located { file, origin })),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(unreadable(&file, &error)),
        }
    }
    Ok(None)
}

/// The files that are looked for when none is named, in this order.
pub fn candidates(surroundings: &Surroundings) -> Vec<PathBuf> {
    let here = surroundings.folder.as_ref().map(|folder| folder.join("qctl.yml"));
    let system = Some(surroundings.system_file.clone());
    [here, surroundings.user_file(), system].into_iter().flatten().collect()
}

fn named(surroundings: &Surroundings, file: &Path, origin: Origin) -> Result<Located> {
    match surroundings.absolute(file).metadata() {
        Ok(_) => Ok(Located {
            file: file.to_owned(),
            origin,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::config(format!(
            "the configuration file {} that {} names does not exist; `qctl init` writes a first one",
            file.display(),
            origin.name()
        ))),
        Err(error) => Err(unreadable(file, &error)),
    }
}

/// A folder that this user may not look into holds no configuration for this user: `HOME` is often still another one's.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

pub(super) fn unreadable(file: &Path, error: &io::Error) -> Error {
    Error::config(format!(
        "{}: cannot be read ({error}); check the path and who may read it",
        file.display()
    ))
}

/// Reads a configuration file. `trusted_by`: refuse it unless this user or root wrote it.
pub(super) fn read(shown: &Path, file: &Path, trusted_by: Option<u32>) -> Result<String> {
    let fail = |error: &io::Error| unreadable(shown, error);
    let link = file.symlink_metadata().map_err(|error| fail(&error))?;
    let target = file.metadata().map_err(|error| fail(&error))?;
    if target.is_dir() {
        return Err(Error::config(format!("{}: is a folder, not a file", shown.display())));
    }
    if trusted_by.is_some() && !target.is_file() {
        return Err(Error::config(format!("{}: is not a regular file", shown.display())));
    }
    let opened = File::open(file).map_err(|error| fail(&error))?;
    if let Some(user) = trusted_by {
        // The open file is asked, so that it cannot be exchanged between the question and the reading.
        let target = opened.metadata().map_err(|error| fail(&error))?;
        for metadata in [&link, &target] {
            if let Some(reason) = distrust(metadata, user) {
                return Err(refused(shown, &reason));
            }
        }
    }
    let mut bytes = Vec::new();
    opened
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::config(format!(
            "{}: is larger than {} MiB, which no configuration is; name another file",
            shown.display(),
            LARGEST >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        Error::config(format!(
            "{}: is not a text file (byte {} is not UTF-8); a YAML file is wanted",
            shown.display(),
            error.utf8_error().valid_up_to()
        ))
    })
}

/// Why a file is not to be trusted.
fn distrust(metadata: &Metadata, user: u32) -> Option<String> {
    const EVERYONE_WRITES: u32 = 0o002;
    let owner = metadata.uid();
    if owner != user && owner != 0 {
        return Some(format!("it belongs to another user (id {owner})"));
    }
    // The mode of a symbolic link says nothing.
    (!metadata.is_symlink() && metadata.mode() & EVERYONE_WRITES != 0).then(|| "everyone may write it".to_owned())
}

fn refused(shown: &Path, reason: &str) -> Error {
    let file = shown.display();
    Error::not_allowed(format!(
        "{file} is not used: {reason}, and a configuration decides what may run; `chown $(id -un) {file}` and `chmod o-w \
         {file}` if you trust it, or name a file with --config"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};

    use super::{Origin, Surroundings, locate, read};
    use crate::ErrorKind;
    use crate::settings::Environment;

    fn surroundings(root: &Path, variables: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            folder: Some(root.join("work")),
            user: rustix::process::geteuid().as_raw(),
            environment: Environment::of(variables.iter().copied()),
            system_file: root.join("etc/qctl.yml"),
            program: PathBuf::from("qctl"),
        }
    }

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}\n").unwrap();
    }

    #[test]
    fn the_first_file_found_is_the_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let home = root.join("home");
        let xdg = root.join("xdg");
        fs::create_dir_all(root.join("work")).unwrap();
        let explicit = root.join("explicit.yml");
        let variable = root.join("variable.yml");
        write(&explicit);
        write(&variable);
        let bare = surroundings(root, &[]);
        let with_home = surroundings(root, &[("HOME", home.to_str().unwrap())]);
        let with_xdg = surroundings(
            root,
            &[
                ("HOME", home.to_str().unwrap()),
                ("XDG_CONFIG_HOME", xdg.to_str().unwrap()),
                ("QCTL_CONFIG", ""),
            ],
        );
        let with_variable = surroundings(root, &[("QCTL_CONFIG", variable.to_str().unwrap())]);
        let found = |surroundings: &Surroundings, explicit: Option<&Path>| {
            locate(surroundings, explicit)
                .unwrap()
                .map(|located| (located.origin, located.file))
        };
        assert_eq!(found(&bare, None), None);
        write(&root.join("etc/qctl.yml"));
        assert_eq!(
            found(&with_home, None),
            Some((Origin::System, root.join("etc/qctl.yml")))
        );
        write(&home.join(".config/qctl/qctl.yml"));
        assert_eq!(
            found(&with_home, None),
            Some((Origin::User, home.join(".config/qctl/qctl.yml")))
        );
        assert_eq!(found(&with_xdg, None).unwrap().0, Origin::System);
        write(&xdg.join("qctl/qctl.yml"));
        assert_eq!(found(&with_xdg, None), Some((Origin::User, xdg.join("qctl/qctl.yml"))));
        assert_eq!(found(&bare, None).unwrap().0, Origin::System);
        write(&root.join("work/qctl.yml"));
        assert_eq!(
            found(&with_xdg, None),
            Some((Origin::Folder, PathBuf::from("./qctl.yml")))
        );
        assert_eq!(found(&with_variable, None), Some((Origin::Variable, variable)));
        assert_eq!(found(&with_variable, Some(&explicit)), Some((Origin::Option, explicit)));
        assert_eq!(
            found(&bare, Some(Path::new("../explicit.yml"))).unwrap().0,
            Origin::Option
        );
        // Relative base folders are ignored, as their specification has it.
        let relative = surroundings(root, &[("XDG_CONFIG_HOME", "xdg"), ("HOME", "home")]);
        assert_eq!(relative.user_file(), None);
        assert_eq!(relative.state_folder(), None);
    }

    #[test]
    fn a_named_file_must_be_there() {
        let root = tempfile::tempdir().unwrap();
        let error = locate(&surroundings(root.path(), &[]), Some(Path::new("/nowhere/q.yml"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error
                .to_string()
                .contains("/nowhere/q.yml that --config names does not exist"),
            "{error}"
        );
        let error = locate(&surroundings(root.path(), &[("QCTL_CONFIG", "gone.yml")]), None).unwrap_err();
        assert!(
            error.to_string().contains("gone.yml that $QCTL_CONFIG names"),
            "{error}"
        );
    }

    #[test]
    fn files_of_others_are_not_trusted() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("qctl.yml");
        write(&file);
        let me = rustix::process::geteuid().as_raw();
        let shown = Path::new("./qctl.yml");
        assert_eq!(read(shown, &file, Some(me)).unwrap(), "{}\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let error = read(shown, &file, Some(me)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAllowed);
        for part in [
            "./qctl.yml",
            "everyone may write it",
            "decides what may run",
            "chmod o-w",
            "--config",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        read(shown, &file, None).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        // Whoever reads, the file belongs to the one who runs this test: root's is trusted by all.
        let other = me + 1;
        match read(shown, &file, Some(other)) {
            Ok(_) => assert_eq!(me, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotAllowed);
                assert!(error.to_string().contains("belongs to another user"), "{error}");
            }
        }
        if me == 0 {
            std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
            let error = read(shown, &file, Some(0)).unwrap_err();
            assert!(error.to_string().contains("another user (id 12345)"), "{error}");
            std::os::unix::fs::chown(&file, Some(0), None).unwrap();
            // A link laid by another, to a file of one's own.
            let link = root.path().join("link.yml");
            symlink(&file, &link).unwrap();
            read(shown, &link, Some(0)).unwrap();
            std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
            assert_eq!(read(shown, &link, Some(0)).unwrap_err().kind(), ErrorKind::NotAllowed);
        }
    }

    #[test]
    fn what_is_no_text_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("q.yml");
        let said = |path: &Path| read(path, path, None).unwrap_err().to_string();
        assert!(said(&file).contains("cannot be read"));
        assert!(said(root.path()).contains("is a folder"));
        fs::write(&file, [0x7f, b'E', b'L', b'F', 0xff, 0xfe, 0]).unwrap();
        assert!(said(&file).contains("byte 4 is not UTF-8"));
        assert!(said(Path::new("/dev/zero")).contains("larger than 8 MiB"));
        symlink("nowhere", root.path().join("dangling.yml")).unwrap();
        assert!(said(&root.path().join("dangling.yml")).contains("cannot be read"));
    }
}
