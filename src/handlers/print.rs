//! The handler `print`: each message is printed on standard output, and is done when it is written there. For looking at
//! what comes, and for pipes.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use serde::Serialize;

use super::facts::message_facts;
use super::printer::{Press, Printer, Trouble};
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome, Report};
use crate::error::{Error, Result};
use crate::queue::Lifeline;
use crate::settings::Settings;
use crate::wire::message::{Body, MessageFacts};

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "print",
    about: "prints each message on standard output",
    example: "print: { format: json }",
    parse,
};

/// What is printed of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrintFormat {
    /// A line for a person: id, routing key, content type and body.
    #[default]
    Text,
    /// A line of JSON: all there is.
    Json,
    /// The bytes of the body and a line feed.
    Body,
}

/// Prints each message.
#[derive(Debug)]
pub struct Print {
    format: PrintFormat,
    printer: Printer,
    press: OnceLock<Press>,
}

impl Print {
    /// Prints in this form on the context's printer.
    pub fn new(format: PrintFormat, context: &HandlerContext) -> Self {
        Self {
            format,
            printer: context.printer.clone(),
            press: OnceLock::new(),
        }
    }
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let formats = [
        ("text", PrintFormat::Text),
        ("json", PrintFormat::Json),
        ("body", PrintFormat::Body),
    ];
    let format = settings.choice(&["format"], &formats)?.unwrap_or_default();
    settings.finish()?;
    Ok(Arc::new(Print::new(format, context)))
}

#[async_trait]
impl Handler for Print {
    fn in_process(&self) -> bool {
        true
    }

    async fn prepare(&self, _: &Lifeline) -> Result<()> {
        if self.press.get().is_none() {
            let press = Press::start(self.printer.clone())
                .map_err(|error| Error::temporary("the thread that prints cannot be started").because(error))?;
            // Nobody else prepares it at the same time.
            let _ = self.press.set(press);
        }
        Ok(())
    }

    async fn handle(&self, call: Call) -> Outcome {
        let Some(press) = self.press.get() else {
            return Outcome::WorkerFault("the handler `print` was not prepared".to_owned());
        };
        // Given before anything is waited for: calls wait in no order.
        let printing = press.print(self.format.line(&call));
        let printed = tokio::select! {
            printed = printing => printed,
            () = call.cancel.cancelled() => return Outcome::Cancelled,
        };
        match printed {
            Ok(()) => Outcome::Done(Report::default()),
            Err(Trouble::ReaderLeft) => Outcome::Enough("nobody reads standard output any more".to_owned()),
            Err(Trouble::NoRoom(why)) => Outcome::Pause(format!("standard output: {why}")),
            Err(Trouble::Broken(why)) => Outcome::WorkerFault(format!("standard output cannot be written: {why}")),
        }
    }
}

/// A message as JSON.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    facts: MessageFacts<'a>,
    #[serde(flatten)]
    body: Body<'a>,
}

impl PrintFormat {
    /// What is printed, line feed included.
    fn line(self, call: &Call) -> Vec<u8> {
        let mut line = match self {
            Self::Text => text(call).into_bytes(),
            Self::Json => serde_json::to_vec(&Printed {
                facts: message_facts(call),
                body: Body::of(&call.message.body),
            })
            .expect("texts, numbers and JSON have a JSON form"),
            Self::Body => call.message.body.clone(),
        };
        line.push(b'\n');
        line
    }
}

/// Id, routing key, content type and body; a dash where there is none.
fn text(call: &Call) -> String {
    let message = &call.message;
    let body = String::from_utf8_lossy(&message.body);
    let words = [
        message.id.as_deref().unwrap_or_default(),
        &message.routing_key,
        message.content_type.as_deref().unwrap_or_default(),
        &body,
    ];
    let mut line = String::with_capacity(words.iter().map(|word| word.len() + 1).sum());
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        let start = line.len();
        push_plain(&mut line, word);
        if line.len() == start {
            line.push('-');
        }
    }
    line
}

/// Adds the text without the characters that drive a terminal; line breaks and tabs, a row of them together, become a space.
fn push_plain(line: &mut String, text: &str) {
    let mut blank = false;
    for char in text.trim_end().chars() {
        if matches!(char, '\n' | '\r' | '\t') {
            blank = true;
        } else if !char.is_control() {
            if std::mem::take(&mut blank) {
                line.push(' ');
            }
            line.push(char);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::PrintFormat;
    use crate::consumer::handler::Call;
    use crate::queue::Message;

    fn call(body: &[u8]) -> Call {
        Call {
            message: Message::new(body).with_routing_key("a.b"),
            queue: "mail".to_owned(),
            exchange: String::new(),
            attempt: 2,
            deliveries: None,
            cancel: CancellationToken::new(),
            patience: None,
            output_wanted: false,
        }
    }

    fn line(format: PrintFormat, body: &[u8]) -> String {
        String::from_utf8(format.line(&call(body))).unwrap()
    }

    #[test]
    fn a_line_of_text_drives_no_terminal() {
        assert_eq!(
            line(PrintFormat::Text, b"a\x1b[31mb\r\n\tc \xc2\x9b2J\x07\n\n"),
            "- a.b - a[31mb c 2J\n"
        );
        assert_eq!(line(PrintFormat::Text, b"\x1b"), "- a.b - -\n");
        assert_eq!(line(PrintFormat::Text, b"\xff"), "- a.b - \u{fffd}\n");
    }

    #[test]
    fn a_line_of_json_has_all_there_is() {
        let json: serde_json::Value = serde_json::from_str(&line(PrintFormat::Json, b"a\nb")).unwrap();
        assert_eq!(json["body"], "a\nb");
        assert_eq!(json["queue"], "mail");
        assert_eq!(json["attempt"], 2);
        let json: serde_json::Value = serde_json::from_str(&line(PrintFormat::Json, b"\xff\x00")).unwrap();
        assert_eq!(json["body_base64"], "/wA=");
        assert!(json.get("body").is_none());
    }

    #[test]
    fn a_body_is_printed_byte_for_byte() {
        assert_eq!(PrintFormat::Body.line(&call(b"\xff\x1b\n")), b"\xff\x1b\n\n");
    }
}
