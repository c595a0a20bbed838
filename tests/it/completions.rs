//! Completions: what a shell is told.

use crate::support::{Place, Test};

const CONFIG: &str = "
connections: { here: 'sqlite://./queue.db' }
producers: { mail: { queue: mail }, import: { queue: import } }
consumers: { mailer: { queue: mail, handler: { exec: { run: [cat] } } } }
commands: { console: { run: [echo], allow: ['app:send'] } }
";

#[test]
fn every_shell_has_a_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        Test::new()
            .args(["completions", shell])
            .stdout_contains("QCTL_COMPLETE")
            .check();
    }
    Test::new()
        .args(["completions", "dos"])
        .code(2)
        .stderr_contains("bash")
        .check();
}

fn complete(place: &Place, words: &[&str]) -> String {
    place
        .run(["--"])
        .args(words)
        .env("QCTL_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_IFS", "\n")
        .any_stdout()
        .check()
        .stdout
}

#[test]
fn names_complete_from_the_configuration_and_open_nothing() {
    let place = Place::with_config(CONFIG);
    for (words, expected) in [
        (&["qctl", "queuecommand", ""][..], &["mail", "import"][..]),
        (&["qctl", "queuemessage", "im"], &["import"]),
        (&["qctl", "consumer", ""], &["mailer"]),
        (&["qctl", "managequeue", "info", ""], &["mailer", "mail", "import"]),
        (&["qctl", "managequeue", "-i", ""], &["here"]),
        (&["qctl", "managedriver", "check", ""], &["here"]),
        (&["qctl", "queuecommand", "mail", ""], &["echoback"]),
        (&["qctl", "managequeue", "pur"], &["purge"]),
        (&["qctl", "--conn"], &["--connect-timeout"]),
    ] {
        let found = complete(&place, words);
        for name in expected {
            assert!(
                found.lines().any(|line| line == *name),
                "{words:?}: {name} is missing in {found:?}"
            );
        }
    }
    assert!(!place.path("queue.db").exists(), "completing must not open a store");
}

#[test]
fn a_broken_configuration_completes_quietly() {
    let place = Place::with_config("producers: [");
    complete(&place, &["qctl", "queuecommand", ""]);
}

#[test]
fn manual_pages_are_printed() {
    Test::new()
        .args(["man"])
        .stdout_contains(".TH qctl 1")
        .stdout_contains("Exit codes")
        .check();
    Test::new()
        .args(["man", "managequeue-peek"])
        .stdout_contains("\\-\\-state")
        .check();
    Test::new()
        .args(["man", "frobnicate"])
        .code(66)
        .stderr_contains("no manual page is called `frobnicate`")
        .check();
}
