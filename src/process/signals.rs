//! Signals: their names, and whether they are ignored.

use std::borrow::Cow;
use std::fs;

/// The names of the signals 1 to 31 on Linux, in order.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of a signal, such as `SIGKILL`; `signal 40` where it has none.
pub fn signal_name(signal: i32) -> Cow<'static, str> {
    usize::try_from(signal)
        .ok()
        .and_then(|number| NAMES.get(number.checked_sub(1)?))
        .map_or_else(|| Cow::Owned(format!("signal {signal}")), |name| Cow::Borrowed(*name))
}

/// The number of a signal, by a name such as `TERM` or `SIGTERM`.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    let at = NAMES.iter().position(|known| known.strip_prefix("SIG") == Some(bare))?;
    i32::try_from(at + 1).ok()
}

/// Whether this process was started with a signal ignored, as `nohup` does with SIGHUP.
pub fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|mask| (1..=64).contains(&signal) && mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{is_ignored, signal_name, signal_number};

    #[test]
    fn signals_are_named() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(signal_name(-3), "signal -3");
        assert_eq!(signal_name(40), "signal 40");
        assert_eq!(signal_number("TERM"), Some(15));
        assert_eq!(signal_number("sigquit"), Some(3));
        assert_eq!((signal_number("SIG"), signal_number("")), (None, None));
    }

    #[test]
    fn a_disposition_is_read() {
        // The runtime of this language ignores it.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGCHLD) && !is_ignored(0));
    }
}
