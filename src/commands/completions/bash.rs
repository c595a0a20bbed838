//! Completion in bash. Bash cuts words at colons and equals signs, leaves quotes on them, and inserts an answer as it is;
//! so qctl is given the line, and answers with what is to be put in, quoted as the line wants it.

use std::ffi::OsString;
use std::io::{Error, Write};
use std::path::Path;

use clap::Command;
use clap_complete::engine;
use clap_complete::env::EnvCompleter;

use crate::cli::typed::Typed;

const SCRIPT: &str = r#"# Completion of qctl in bash: asks qctl itself, which knows the names of the configuration.
_qctl() {
    local reply line=${COMP_LINE:0:${COMP_POINT:-${#COMP_LINE}}}
    COMPREPLY=()
    while IFS= read -r reply; do
        [[ -n $reply ]] && COMPREPLY+=("$reply")
    done <<< "$(VARIABLE=bash QCTL_COMPLETE_LINE=$line QCTL_COMPLETE_BREAKS=$COMP_WORDBREAKS qctl -- qctl 2> /dev/null)"
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2> /dev/null
    fi
    return 0
}
complete -o bashdefault -o nosort -F _qctl qctl 2> /dev/null || complete -o bashdefault -F _qctl qctl
"#;

/// The completer for a line of bash.
pub(super) struct Bash<'a>(pub &'a Typed);

impl EnvCompleter for Bash<'_> {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        variable: &str,
        _name: &str,
        _bin: &str,
        _completer: &str,
        script: &mut dyn Write,
    ) -> Result<(), Error> {
        script.write_all(SCRIPT.replace("VARIABLE", variable).as_bytes())
    }

    fn write_complete(
        &self,
        tree: &mut Command,
        words: Vec<OsString>,
        here: Option<&Path>,
        answer: &mut dyn Write,
    ) -> Result<(), Error> {
        let current = words.len().saturating_sub(1);
        for candidate in engine::complete(tree, words, current, here)? {
            if let Some(insertion) = candidate
                .get_value()
                .to_str()
                .and_then(|value| insertion(self.0, value))
            {
                writeln!(answer, "{insertion}")?;
            }
        }
        Ok(())
    }
}

/// What bash is to put in for a whole word; `None`: it does not continue what stands there, or is no single line.
fn insertion(typed: &Typed, word: &str) -> Option<String> {
    let kept = typed.current().get(..typed.kept)?;
    let rest = word.strip_prefix(kept)?;
    if rest.is_empty() || rest.contains(char::is_control) {
        return None;
    }
    Some(match typed.quote {
        Some('\'') => rest.replace('\'', r"'\''"),
        Some(_) => escaped(rest, |character| matches!(character, '"' | '\\' | '$' | '`')),
        None => escaped(rest, |character| {
            character.is_ascii() && !character.is_ascii_alphanumeric() && !"_@%+=:,./^~-".contains(character)
        }),
    })
}

fn escaped(text: &str, special: impl Fn(char) -> bool) -> String {
    text.chars()
        .flat_map(|character| {
            special(character)
                .then_some('\\')
                .into_iter()
                .chain(std::iter::once(character))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Typed, insertion};

    #[test]
    fn what_is_put_in_is_quoted_as_the_line_wants_it() {
        for (line, word, expected) in [
            ("qctl ma", "mail", Some("mail")),
            ("qctl app:ca", "app:cache clear", Some(r"cache\ clear")),
            ("qctl --driver=h", "--driver=here", Some("here")),
            ("qctl 'my q", "my queue's", Some(r"my queue'\''s")),
            ("qctl \"my q", "my $queue", Some(r"my \$queue")),
            ("qctl x:", "y:z", None),
            ("qctl x", "x\ny", None),
            ("qctl é", "été;", Some(r"été\;")),
        ] {
            let typed = Typed::line(line, " \"'=:");
            assert_eq!(insertion(&typed, word).as_deref(), expected, "{line} {word}");
        }
    }
}
