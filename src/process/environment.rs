//! A child's environment: an allow list from the parent's, and what is added to it. Everything else stays behind, so that
//! secrets (`AMQP_URL`, …) and what is meant for this process alone (`NOTIFY_SOCKET`, `LISTEN_FDS`, …) never pass.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// The variable that marks every process started on a consumer's behalf with its owner's token.
pub const OWNER: &str = "QCTL_OWNER";

/// What passes from the parent, besides `LC_*`.
const INHERITED: [&str; 9] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
];

/// Where programs are looked for when the parent has no `PATH` (crontab, systemd, containers).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The complete environment of a child. Its values may be secret: `Debug` shows only the names.
#[derive(Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// No variable at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// What a child may have of this process's environment: `PATH` (or a default one), `HOME`, `USER`, `LOGNAME`, `SHELL`,
    /// `LANG`, `LANGUAGE`, `LC_*`, `TZ` and `TMPDIR`.
    pub fn inherited() -> Self {
        Self::allowed(std::env::vars_os())
    }

    fn allowed(parent: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self {
            variables: parent
                .into_iter()
                .filter(|(name, _)| {
                    name.to_str()
                        .is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
                })
                .collect(),
        };
        if environment.get("PATH").is_none_or(OsStr::is_empty) {
            environment.set("PATH", DEFAULT_PATH);
        }
        environment
    }

    /// Sets a variable, in place of one of the same name. What no environment can hold (a name that is empty or holds `=`,
    /// a NUL byte) is left out; the answer says whether it was set.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> bool {
        let (name, value) = (name.into(), value.into());
        let bytes = name.as_encoded_bytes();
        if bytes.is_empty()
            || bytes.iter().any(|byte| matches!(byte, b'=' | 0))
            || value.as_encoded_bytes().contains(&0)
        {
            return false;
        }
        match self.variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name, value)),
        }
        true
    }

    /// A variable's value.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.variables.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::{OsStr, OsString};

    use super::Environment;

    fn parent(variables: &[(&str, &str)]) -> Environment {
        Environment::allowed(
            variables
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value))),
        )
    }

    #[test]
    fn only_the_allow_list_passes() {
        let environment = parent(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("AMQP_URL", "amqp://secret"),
            ("NOTIFY_SOCKET", "/run/x"),
            ("LISTEN_FDS", "1"),
            ("QCTL_OWNER", "outer"),
            ("LD_PRELOAD", "x.so"),
        ]);
        let names: Vec<_> = environment.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [OsStr::new("PATH"), OsStr::new("LC_ALL")]);
    }

    #[test]
    fn a_missing_or_empty_path_is_filled_in() {
        for environment in [parent(&[]), parent(&[("PATH", "")])] {
            assert!(
                environment
                    .get("PATH")
                    .is_some_and(|path| path.to_str().is_some_and(|path| path.contains("/usr/bin")))
            );
        }
    }

    #[test]
    fn what_no_environment_can_hold_is_left_out() {
        let mut environment = Environment::empty();
        assert!(!environment.set("", "x") && !environment.set("A=B", "x") && !environment.set("A", "x\0y"));
        assert!(environment.set("A", "1") && environment.set("A", "2"));
        assert_eq!(environment.get("A"), Some(OsStr::new("2")));
        assert_eq!(environment.iter().count(), 1);
    }

    #[test]
    fn values_are_not_printed() {
        let mut environment = Environment::empty();
        environment.set("TOKEN", "hush");
        assert_eq!(format!("{environment:?}"), "[\"TOKEN\"]");
    }
}
