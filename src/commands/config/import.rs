//! `qctl config import`: writes a predecessor's configuration in qctl's own form.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::commands::{Outcome, new_file};
use crate::config::{self, Predecessor, Surroundings};
use crate::context::Context;
use crate::error::Result;
use crate::output::one_line;

/// Arguments of `qctl config import`.
#[derive(Args, Debug)]
#[command(
    after_help = "What is left out, and why, stands in the comments. A secret that was a parameter becomes a variable, and no \
value of a variable is written. A password that stands in the file itself is written as it is; a FILE is made so that only its \
owner can read it.

Examples:
  qctl config import -o qctl.yml app/config/config.yml
  qctl config import --from ko-worker config.yml"
)]
pub(super) struct ImportArgs {
    /// Where to write; - is standard output (default: -)
    #[arg(short, long = "out", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Overwrite a file that is there
    #[arg(long, requires = "out")]
    force: bool,
    /// Whose configuration it is (default: told by its shape)
    #[arg(long, value_name = "PREDECESSOR")]
    from: Option<Predecessor>,
    /// The predecessor's file; what it imports is read too
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

impl ValueEnum for Predecessor {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

pub(super) fn run(args: &ImportArgs, context: &Context) -> Result<Outcome> {
    let imported = config::import(&Surroundings::of_process(), &args.file, args.from)?;
    let left_out = config::left_out_lines(&imported.left_out);
    let out = args.out.as_ref().filter(|out| out.as_os_str() != "-");
    match out {
        None => context.output.bytes(imported.text.as_bytes())?,
        Some(path) => {
            new_file::write(path, &imported.text, new_file::Readers::Owner, args.force)?;
            let report = serde_json::json!({
                "file": path,
                "from": imported.predecessor.name(),
                "left_out": left_out,
                "unset": imported.unset,
            });
            context
                .output
                .report(&report, |_| format!("wrote {}", path.display()))?;
        }
    }
    for line in &left_out {
        context.output.note(one_line(line));
    }
    if !imported.unset.is_empty() {
        let names = imported.unset.join(", ");
        context
            .output
            .note(format_args!("qctl: set these variables before it is used: {names}"));
    }
    if imported.holds_secret && out.is_none() {
        context
            .output
            .warn("it holds a password, as the original does; keep it from others, or write it with -o");
    }
    Ok(Outcome::DONE)
}
