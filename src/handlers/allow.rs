//! Which queued commands may run, and as what program: pure matching, no I/O.

/// Everything a queued command may run. The built-in `echoback` is always part of it.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// The entries of `commands:`, in the order written; the first whose `allow` matches runs it.
    pub entries: Vec<CommandEntry>,
}

/// One entry of `commands:`.
#[derive(Clone, Debug)]
pub struct CommandEntry {
    /// Its key.
    pub name: String,
    /// Program and leading arguments; the queued command's name follows them.
    pub run: Vec<String>,
    /// The command names it takes.
    pub allow: Vec<Pattern>,
    /// Further environment variables of the child.
    pub env: Vec<(String, String)>,
    /// The child's working directory.
    pub cwd: Option<String>,
    /// What becomes of arguments that begin with a dash.
    pub dash_arguments: DashArguments,
}

/// What becomes of arguments that begin with a dash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DashArguments {
    /// The message is refused.
    #[default]
    Refuse,
    /// `--` is put before the arguments.
    Separator,
    /// They are passed as they are.
    Allow,
}

/// A name to compare with: exact, with `*`, or `regexp:…` anchored at both ends.
#[derive(Clone, Debug)]
pub struct Pattern {}

impl Pattern {
    /// Reads a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Err("a pattern must not be empty".to_owned());
        }
        Ok(Self {})
    }
}
