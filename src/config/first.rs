//! The text of a first configuration file, for `qctl init`.

use super::yaml::quoted;

/// What `qctl init` has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitAnswers {
    /// The URL of the connection.
    pub url: String,
    /// The name of the first queue, its producer and its consumer.
    pub queue: String,
}

impl Default for InitAnswers {
    /// An embedded store beside the configuration file, and `demo`.
    fn default() -> Self {
        Self {
            url: "sqlite://queue.db".to_owned(),
            queue: "demo".to_owned(),
        }
    }
}

/// The file's text: one connection, and a producer and a consumer of one name that can be tried at once.
pub fn first_file(answers: &InitAnswers) -> String {
    let url = quoted(&answers.url.replace("${", "$${"));
    let name = quoted(&answers.queue);
    let typed = shell_word(&answers.queue);
    format!(
        r#"# What is queued where, and what takes it. `qctl config check` tells whether all is well,
# `qctl config schema` prints a schema for your editor.

connections:
  main: {url}                   # a relative path starts at the folder of this file

# Who sends: `qctl queuecommand {typed} echoback "hello world"`
producers:
  {name}: {{}}

# Who takes: `qctl consumer {typed}`. The queue is called as the consumer; what fails for good goes to its dead-letter
# queue, the same name with `.dead` behind it.
consumers:
  {name}:
    handler: command            # a message names an allowed command; `exec` gives any body to a program of yours
    concurrency: 1              # how many messages are handled at once
    retry: {{ attempts: 5, min: 1s, max: 10m }}

# What a queued command may run, besides the built-in `echoback`. Nothing else runs.
commands: {{}}
#  console:
#    run: [php, bin/console, --no-interaction]
#    allow: ["app:*"]
"#
    )
}

/// The name as it may be typed in a shell, fit to stand in a comment.
fn shell_word(text: &str) -> &str {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if plain && !text.is_empty() { text } else { "NAME" }
}
