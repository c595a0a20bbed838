//! The handler `command`: each message names a command, which is run if `commands:` allows it.

use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::accept::ContentTypes;
use super::allow::{Allowed, CommandEntry, Commands, DashArguments, ECHOBACK};
use super::children::{Children, DEFAULT_TIMEOUT, child_output};
use super::facts::Facts;
use super::workers::Workers;
use super::{HandlerContext, HandlerSpec, Mode};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::Result;
use crate::process::ChildOutput;
use crate::queue::{Lifeline, Message};
use crate::residents::{Launcher, WorkerSettings};
use crate::settings::Settings;
use crate::wire::kaliop::{ConsoleCommand, OptionValue, is_option_name};

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "command",
    about: "runs the command that the message names, if `commands:` allows it",
    example: "command: { timeout: 60s }",
    parse,
};

/// No command line is longer than this, so no body need be read that is.
const BODY_LIMIT: usize = 4 << 20;

/// The keys of `command`.
#[derive(Clone, Debug)]
pub struct CommandSettings {
    /// A process for each command, or persistent workers.
    pub mode: Mode,
    /// How long a command may run; `None`: for ever.
    pub timeout: Option<Duration>,
    /// The entries of `commands:` (or `echoback`) that it is restricted to; `None`: all of them.
    pub commands: Option<Vec<String>>,
    /// The media types it takes.
    pub content_types: ContentTypes,
    /// Where a command's output goes.
    pub output: ChildOutput,
    /// The persistent workers.
    pub workers: WorkerSettings,
}

impl Default for CommandSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Process,
            timeout: Some(DEFAULT_TIMEOUT),
            commands: None,
            content_types: ContentTypes::default(),
            output: ChildOutput::default(),
            workers: WorkerSettings::default(),
        }
    }
}

/// Runs the command that a message names.
#[derive(Debug)]
pub struct CommandHandler {
    commands: Commands,
    with_echoback: bool,
    content_types: ContentTypes,
    /// One for each entry, in the same order, and one for the built-in command.
    runners: Vec<Runner>,
    built_in: Runner,
    children: Children,
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let defaults = CommandSettings::default();
    let parsed = CommandSettings {
        mode: Mode::read(&mut settings)?,
        timeout: settings.limit_duration(&["timeout"])?.unwrap_or(defaults.timeout),
        commands: settings.texts(&["commands"])?,
        content_types: ContentTypes::read(&mut settings)?,
        output: child_output(&mut settings)?,
        workers: WorkerSettings::read(&mut settings)?,
    };
    if let Some(unknown) = unknown_entry(&parsed, &context.commands) {
        let known: Vec<&str> = context
            .commands
            .entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        let known = known.into_iter().chain([ECHOBACK[0]]).collect::<Vec<_>>().join(", ");
        return Err(settings.error(
            "commands",
            format!("names `{unknown}`, which is no entry of `commands:` ({known})"),
        ));
    }
    if let Some(entry) = without_worker(&parsed, &context.commands) {
        return Err(settings.error(
            "mode",
            format!(
                "is `worker`, and `commands.{entry}` says no program for it; add `worker: [php, worker.php]` there \
                 (docs/workers.md), or restrict this consumer with `commands: [NAME]`"
            ),
        ));
    }
    settings.finish()?;
    Ok(Arc::new(CommandHandler::new(parsed, context)))
}

fn unknown_entry<'a>(settings: &'a CommandSettings, commands: &Commands) -> Option<&'a str> {
    let known = |name: &str| name == ECHOBACK[0] || commands.entries.iter().any(|entry| entry.name == name);
    settings
        .commands
        .iter()
        .flatten()
        .map(String::as_str)
        .find(|name| !known(name))
}

/// An entry that is to be run by workers and has none.
fn without_worker<'a>(settings: &CommandSettings, commands: &'a Commands) -> Option<&'a str> {
    let concerned = commands
        .entries
        .iter()
        .filter(|entry| settings.mode == Mode::Worker && settings.takes(&entry.name));
    concerned
        .filter(|entry| entry.worker.is_none())
        .map(|entry| entry.name.as_str())
        .next()
}

impl CommandSettings {
    /// Whether it may run this entry of `commands:`, or `echoback`.
    fn takes(&self, name: &str) -> bool {
        self.commands
            .as_ref()
            .is_none_or(|names| names.iter().any(|wanted| wanted == name))
    }
}

/// What runs the commands of an entry.
#[derive(Debug)]
enum Runner {
    Process(Launcher),
    Workers(Workers),
}

/// A command as a request holds it.
#[derive(Serialize)]
struct Argv<'a> {
    argv: &'a [String],
}

/// The method of such a request.
const METHOD: &str = "command";

impl CommandHandler {
    /// A handler with these keys. Names of entries that there are not are as good as absent.
    pub fn new(settings: CommandSettings, context: &HandlerContext) -> Self {
        let entries: Vec<CommandEntry> = context
            .commands
            .entries
            .iter()
            .filter(|entry| settings.takes(&entry.name))
            .cloned()
            .collect();
        let runner = |entry: &CommandEntry| {
            let cwd = entry.cwd.clone().map(Into::into);
            if let (Mode::Worker, Some(program)) = (settings.mode, &entry.worker) {
                let key = format!("commands.{}.worker", entry.name);
                let launcher = Launcher::new(key.clone(), program.clone(), &entry.env, cwd);
                let workers = settings.workers.clone();
                return Runner::Workers(Workers::new(context, launcher, workers, settings.timeout, key));
            }
            let key = format!("commands.{}.run", entry.name);
            Runner::Process(Launcher::new(key, entry.run.clone(), &entry.env, cwd))
        };
        let echoback = vec![context.program.to_string_lossy().into_owned(), ECHOBACK[0].to_owned()];
        Self {
            runners: entries.iter().map(runner).collect(),
            built_in: Runner::Process(Launcher::new(
                "the built-in command echoback".to_owned(),
                echoback,
                &[],
                None,
            )),
            with_echoback: settings.takes(ECHOBACK[0]),
            commands: Commands { entries },
            content_types: settings.content_types,
            children: Children::new(context, settings.timeout, settings.output),
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Workers> {
        self.runners.iter().filter_map(|runner| match runner {
            Runner::Workers(workers) => Some(workers),
            Runner::Process(_) => None,
        })
    }

    fn read(&self, message: &Message) -> Result<ConsoleCommand, String> {
        ConsoleCommand::parse(self.content_types.body(message, BODY_LIMIT)?)
    }

    fn choose(&self, call: &Call) -> Result<(&Runner, Vec<String>), String> {
        let command = self.read(&call.message)?;
        let name = command.command.as_str();
        let allowed = self.commands.allowed(name).filter(|allowed| match allowed {
            Allowed::Entry(_) => true,
            Allowed::BuiltIn => self.with_echoback,
        });
        match allowed {
            Some(Allowed::Entry(entry)) => {
                let position = self
                    .commands
                    .entries
                    .iter()
                    .position(|known| std::ptr::eq(known, entry));
                let runner = position.and_then(|position| self.runners.get(position));
                let runner = runner.ok_or_else(|| format!("the command {name:?} has no program"))?;
                let mut arguments = vec![name.to_owned()];
                arguments.extend(arguments_for(Allowed::Entry(entry), &command)?);
                Ok((runner, arguments))
            }
            Some(Allowed::BuiltIn) => Ok((&self.built_in, arguments_for(Allowed::BuiltIn, &command)?)),
            None => Err(format!(
                "the command {name:?} is not allowed; the `allow` of an entry of `commands:` must name it"
            )),
        }
    }
}

/// What follows the command's name when it is run so, or why it is not run. Senders ask too, so that what a consumer would
/// reject is not even sent.
pub fn arguments_for(allowed: Allowed<'_>, command: &ConsoleCommand) -> Result<Vec<String>, String> {
    match allowed {
        Allowed::Entry(entry) => arguments_of(command, entry.dash_arguments),
        Allowed::BuiltIn => {
            check_built_in(command)?;
            arguments_of(command, DashArguments::Separator)
        }
    }
}

/// The built-in command may be queued by anyone, so what it may do is little: it takes one option, `f` or `file`, and appends
/// to files below the consumer's working directory only.
fn check_built_in(command: &ConsoleCommand) -> Result<(), String> {
    for (name, value) in &command.options {
        if !matches!(name.trim_start_matches('-'), "f" | "file") {
            return Err(format!(
                "a queued echoback takes the option `f` or `file` only, not {name:?}"
            ));
        }
        let values = match value {
            OptionValue::Text(path) => std::slice::from_ref(path),
            OptionValue::List(paths) => paths.as_slice(),
            OptionValue::Flag => {
                return Err("the option `file` of a queued echoback needs a value, as in --file=NAME".to_owned());
            }
        };
        let below = |path: &String| {
            Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        };
        if let Some(outside) = values.iter().find(|path| path.is_empty() || !below(path)) {
            return Err(format!(
                "a queued echoback writes below the consumer's working directory only, not to {outside:?}; name a relative path"
            ));
        }
    }
    Ok(())
}

/// What follows a command's name: its arguments, then its options, each option with its value as one word.
///
/// An option's own dashes are kept; without any, a letter has one dash and a longer name two. A value is glued to one dash
/// (`-fvalue`) and joined to two by `=` (`--file=value`). No option is dropped: a name that is not plain, a NUL byte, and an
/// argument that begins with a dash where these are refused, are errors.
pub fn arguments_of(command: &ConsoleCommand, dash_arguments: DashArguments) -> Result<Vec<String>, String> {
    if command.command.starts_with('-') || command.command.chars().any(char::is_control) {
        return Err(format!("{:?} is not the name of a command", command.command));
    }
    let mut options = Vec::new();
    for (name, value) in &command.options {
        if !is_option_name(name) {
            return Err(format!(
                "the option name {name:?} is not allowed: only letters, digits and `_.:-` are"
            ));
        }
        let dashed = match name.chars().count() {
            _ if name.starts_with('-') => name.clone(),
            1 => format!("-{name}"),
            _ => format!("--{name}"),
        };
        let joined = |value: &String| {
            let join = if dashed.starts_with("--") { "=" } else { "" };
            format!("{dashed}{join}{value}")
        };
        match value {
            OptionValue::Flag => options.push(dashed),
            OptionValue::Text(value) => options.push(joined(value)),
            OptionValue::List(values) => options.extend(values.iter().map(joined)),
        }
    }
    let arguments = command.arguments.iter().cloned();
    let dash = command
        .arguments
        .iter()
        .find(|argument| argument.starts_with('-') && *argument != "-");
    let words: Vec<String> = match (dash_arguments, dash) {
        (DashArguments::Refuse, Some(argument)) => {
            return Err(format!(
                "the argument {argument:?} begins with a dash, which `dash_arguments: refuse` of the entry in `commands:` \
                 forbids; with `separator` there it is passed behind `--`"
            ));
        }
        (DashArguments::Separator, Some(_)) => options.into_iter().chain(["--".to_owned()]).chain(arguments).collect(),
        _ => arguments.chain(options).collect(),
    };
    match words.iter().find(|word| word.contains('\0')) {
        Some(_) => Err("an argument or an option holds a NUL byte, which no program can be given".to_owned()),
        None => Ok(words),
    }
}

#[async_trait]
impl Handler for CommandHandler {
    fn decode(&self, message: &Message) -> Result<(), String> {
        self.read(message).map(|_| ())
    }

    fn longest_call(&self) -> Option<Duration> {
        self.children.timeout()
    }

    async fn prepare(&self, lifeline: &Lifeline) -> Result<()> {
        for runner in &self.runners {
            match runner {
                Runner::Process(launcher) => launcher.check()?,
                // They are started when the first command comes: not every entry is asked for.
                Runner::Workers(workers) => workers.prepare(lifeline).await?,
            }
        }
        if self.with_echoback
            && let Runner::Process(launcher) = &self.built_in
        {
            launcher.check()?;
        }
        self.children.prepare(lifeline).await
    }

    fn memory(&self) -> u64 {
        self.workers().map(Workers::memory).sum()
    }

    async fn handle(&self, call: Call) -> Outcome {
        match self.choose(&call) {
            Ok((Runner::Process(launcher), arguments)) => {
                self.children
                    .run(launcher, arguments, Vec::new(), &Facts::of(&call), &call)
                    .await
            }
            Ok((Runner::Workers(workers), argv)) => workers.call(METHOD, &Argv { argv: &argv }, &call).await,
            Err(reason) => Outcome::reject(reason),
        }
    }

    async fn finish(&self) {
        for workers in self.workers() {
            workers.finish().await;
        }
        self.children.finish().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{ConsoleCommand, DashArguments, arguments_of};

    fn arguments(body: &str, dash_arguments: DashArguments) -> Result<Vec<String>, String> {
        arguments_of(&ConsoleCommand::parse(body.as_bytes()).unwrap(), dash_arguments)
    }

    #[test]
    fn options_are_spelt_as_the_predecessor_did() {
        let body = r#"{"command":"a:b","arguments":["x y",2],"options":{
            "f":"t.txt","v":null,"env":"prod","force":null,"-g":"h","--long":"a=b","-word":"x","n":true,"off":false,
            "many":["1",2]}}"#;
        let expected = [
            "x y",
            "2",
            "-ft.txt",
            "-v",
            "--env=prod",
            "--force",
            "-gh",
            "--long=a=b",
            "-wordx",
            "-n1",
            "--off=",
            "--many=1",
            "--many=2",
        ];
        assert_eq!(arguments(body, DashArguments::Refuse).unwrap(), expected);
    }

    #[test]
    fn option_names_that_are_not_plain_are_refused() {
        for name in ["x; touch P; #", "", "---x", "a b", "$(id)", "a\\u0000", "é"] {
            let error = arguments(
                &format!(r#"{{"command":"a","options":{{"{name}":null}}}}"#),
                DashArguments::Allow,
            );
            assert!(error.unwrap_err().contains("option name"), "{name}");
        }
    }

    #[test]
    fn arguments_that_begin_with_a_dash_are_as_the_command_says() {
        let body = r#"{"command":"a","arguments":["-","--env=x"],"options":{"v":null}}"#;
        assert!(arguments(body, DashArguments::Refuse).unwrap_err().contains("--env=x"));
        assert_eq!(
            arguments(body, DashArguments::Separator).unwrap(),
            ["-v", "--", "-", "--env=x"]
        );
        assert_eq!(arguments(body, DashArguments::Allow).unwrap(), ["-", "--env=x", "-v"]);
        let plain = r#"{"command":"a","arguments":["-","b"],"options":{"v":null}}"#;
        for dash_arguments in [DashArguments::Refuse, DashArguments::Separator, DashArguments::Allow] {
            assert_eq!(arguments(plain, dash_arguments).unwrap(), ["-", "b", "-v"]);
        }
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        for body in [
            r#"{"command":"a","arguments":["x\u0000y"]}"#,
            r#"{"command":"a","options":{"f":"x\u0000y"}}"#,
            r#"{"command":"-a"}"#,
            r#"{"command":"a\nb"}"#,
        ] {
            assert!(arguments(body, DashArguments::Allow).is_err(), "{body}");
        }
    }
}
