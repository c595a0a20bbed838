//! `qctl echoback`.

use crate::support::{Place, Test};

fn is_line(line: &str, text: &str) -> bool {
    // It is YYYY/mm/dd - HH:MM:SS:mmm and process with pid P on host H says: TEXT
    let Some(rest) = line.strip_prefix("It is ") else {
        return false;
    };
    let Some((time, rest)) = rest.split_once(" and process with pid ") else {
        return false;
    };
    let Some((pid, rest)) = rest.split_once(" on host ") else {
        return false;
    };
    let shape: String = time
        .chars()
        .map(|char| if char.is_ascii_digit() { '9' } else { char })
        .collect();
    shape == "9999/99/99 - 99:99:99:999" && pid.parse::<u32>().is_ok() && rest.ends_with(&format!(" says: {text}\n"))
}

#[test]
fn it_prints_one_line_of_the_known_form() {
    let line = Test::new()
        .args(["echoback", "hello world"])
        .any_stdout()
        .check()
        .stdout;
    assert!(is_line(&line, "hello world"), "{line}");
}

#[test]
fn it_appends_to_a_file_and_prints_nothing() {
    let place = Place::new();
    place.run(["echoback", "one", "-f", "out.txt"]).check();
    place.run(["echoback", "two", "--file=out.txt"]).check();
    let text = place.read("out.txt");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert!(
        lines.len() == 2 && is_line(lines[0], "one") && is_line(lines[1], "two"),
        "{text}"
    );
}

#[test]
fn it_needs_neither_home_nor_a_right_configuration() {
    Test::new()
        .config("[")
        .without_env("HOME")
        .args(["echoback", "x"])
        .stdout_contains("says: x")
        .check();
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    for (file, code) in [("/nonexistent/out", 65), ("/dev/full", 75), ("/sys/qctl-out", 77)] {
        Test::new()
            .args(["echoback", "x", "-f", file])
            .code(code)
            .stderr_contains(&format!("qctl: {file} cannot be written; "))
            .check();
    }
}
