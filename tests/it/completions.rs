//! Completions: what a shell is told.

use crate::support::{Place, Test};

const CONFIG: &str = "
connections: { here: 'sqlite://./queue.db', other: 'sqlite://./other.db' }
default: here
producers: { mail: { queue: mail }, import: { queue: import }, 'my mail': { queue: mail } }
consumers: { mailer: { queue: mail, handler: { exec: { run: [cat] } } } }
commands: { console: { run: [echo], allow: ['app:send', 'app:cache:clear', 'app:cache:warm'] } }
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

/// What real bash has to offer at a TAB behind `line`, which is cut into words at `COMP_WORDBREAKS` as bash does it.
fn complete(place: &Place, line: &str, words: &[&str]) -> Vec<String> {
    const ASK: &str = r#"
        eval "$(qctl completions bash)"
        COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
        COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p qctl | sed 's/.* -F \([^ ]*\) .*/\1/')
        "$function" qctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_qctl"));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
    // The place's own environment, with bash in qctl's stead.
    let mut command = std::process::Command::new("bash");
    let ours = place.command();
    command.current_dir(ours.get_current_dir().unwrap()).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .env("PATH", path)
        .args(["--norc", "-c", ASK, "bash", line])
        .args(words);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{line}: {stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|reply| !reply.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_names_from_the_configuration_and_opens_nothing() {
    let place = Place::with_config(CONFIG);
    place.write("other.yml", CONFIG.replace("mail", "post"));
    let queue = "queuecommand";
    for (line, words, expected) in [
        (
            "qctl queuecommand ",
            &["qctl", queue, ""][..],
            &["import", "mail", "my\\ mail"][..],
        ),
        ("qctl queuemessage im", &["qctl", "queuemessage", "im"], &["import"]),
        ("qctl consumer ", &["qctl", "consumer", ""], &["mailer"]),
        (
            "qctl managequeue info mail",
            &["qctl", "managequeue", "info", "mail"],
            &["mail", "mail.dead", "mailer"],
        ),
        (
            "qctl managequeue -i ",
            &["qctl", "managequeue", "-i", ""],
            &["here", "other"],
        ),
        (
            "qctl managedriver check ",
            &["qctl", "managedriver", "check", ""],
            &["here", "other"],
        ),
        // Words that bash cuts: only what is behind the cut is put in.
        (
            "qctl queuecommand mail app:ca",
            &["qctl", queue, "mail", "app", ":", "ca"],
            &["cache:clear", "cache:warm"],
        ),
        (
            "qctl queuecommand mail app:cache:c",
            &["qctl", queue, "mail", "app", ":", "cache", ":", "c"],
            &["clear"],
        ),
        (
            "qctl queuecommand mail app:",
            &["qctl", queue, "mail", "app", ":"],
            &["cache:clear", "cache:warm", "send"],
        ),
        (
            "qctl managequeue --connection=ot",
            &["qctl", "managequeue", "--connection", "=", "ot"],
            &["other"],
        ),
        ("qctl --output=", &["qctl", "--output", "="], &["json", "table"]),
        // Names that the shell would split.
        ("qctl queuecommand my", &["qctl", queue, "my"], &["my\\ mail"]),
        ("qctl queuecommand 'my", &["qctl", queue, "'my"], &["my mail"]),
        (
            "qctl queuecommand my\\ mail ec",
            &["qctl", queue, "my\\ mail", "ec"],
            &["echoback"],
        ),
        // The configuration that the line names.
        (
            "qctl --config other.yml consumer ",
            &["qctl", "--config", "other.yml", "consumer", ""],
            &["poster"],
        ),
        (
            "qctl consumer --config=other.yml p",
            &["qctl", "consumer", "--config", "=", "other.yml", "p"],
            &["poster"],
        ),
        // One name for one verb; an alias once it is begun.
        (
            "qctl managequeue de",
            &["qctl", "managequeue", "de"],
            &["declare", "delete"],
        ),
        (
            "qctl managequeue re",
            &["qctl", "managequeue", "re"],
            &["redrive", "release", "resume"],
        ),
        ("qctl managequeue cre", &["qctl", "managequeue", "cre"], &["create"]),
        ("qctl --conn", &["qctl", "--conn"], &["--connect-timeout"]),
        // What is behind a queued command is not qctl's.
        (
            "qctl queuecommand mail app:send --dry",
            &["qctl", queue, "mail", "app", ":", "send", "--dry"],
            &[],
        ),
        (
            "qctl queuecommand mail app:send oth",
            &["qctl", queue, "mail", "app", ":", "send", "oth"],
            &["other.yml"],
        ),
        (
            "qctl managequeue list >oth",
            &["qctl", "managequeue", "list", ">", "oth"],
            &["other.yml"],
        ),
    ] {
        let mut found = complete(&place, line, words);
        found.sort_unstable();
        assert_eq!(found, expected, "{line}");
    }
    assert!(!place.path("queue.db").exists(), "completing must not open a store");
}

#[test]
fn an_empty_word_offers_every_verb_by_its_own_name_and_no_flags() {
    let place = Place::new();
    let found = complete(&place, "qctl managequeue ", &["qctl", "managequeue", ""]);
    assert!(found.contains(&"declare".to_owned()), "{found:?}");
    for other in ["create", "retry", "list-available", "--connection", "--help"] {
        assert!(!found.contains(&other.to_owned()), "{other} in {found:?}");
    }
}

#[test]
fn a_broken_configuration_completes_quietly() {
    let place = Place::with_config("producers: [");
    let found = complete(&place, "qctl queuecommand ", &["qctl", "queuecommand", ""]);
    assert!(found.iter().all(|reply| reply.starts_with('-')), "{found:?}");
    assert!(complete(&place, "qctl queuecommand m", &["qctl", "queuecommand", "m"]).is_empty());
}

/// The other shells hand over their words, some with the quotes still on.
#[test]
fn other_shells_are_answered_too() {
    let place = Place::with_config(CONFIG);
    for (shell, word, expected) in [
        ("zsh", "'my", "my mail\n"),
        ("zsh", "im", "import\n"),
        ("fish", "my\\ ", "my mail\n"),
        ("elvish", "im", "import\n"),
    ] {
        let text = place
            .run(["--", "qctl", "queuecommand", word])
            .env("QCTL_COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", "2")
            .any_stdout()
            .check()
            .stdout;
        assert_eq!(text.trim_end(), expected.trim_end(), "{shell} {word}");
    }
    let aliased = place.run(["--", "qctl", "queuecommand", "mail", "app:s", "behind"]);
    aliased
        .env("QCTL_COMPLETE", "zsh")
        .env("_CLAP_COMPLETE_INDEX", "3")
        .env("_CLAP_IFS", "\n")
        .stdout("app\\:send")
        .check();
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
