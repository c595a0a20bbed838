//! The handler `xmlrpc`: each message names a server and a method, which is called if `allow:` lets the server through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::accept::ContentTypes;
use super::fenced::{self, Caller, failed, judged};
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Failure, Handler, OUTPUT_LIMIT, Outcome, Report, Verdict};
use crate::error::Result;
use crate::queue::{Lifeline, Message};
use crate::settings::{Setting, Settings};
use crate::web::{Answer, Fence, HeaderMap, HeaderValue, Method, Private, Request, header};
use crate::wire::kaliop::XmlRpcCall;
use crate::wire::xmlrpc;

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "xmlrpc",
    about: "calls the XML-RPC method that the message names, if `allow:` lets its server through",
    example: "xmlrpc: { allow: [rpc.example.org] }",
    parse,
};

/// No longer body is read.
const BODY_LIMIT: usize = 8 << 20;
/// No longer answer is.
const ANSWER_LIMIT: usize = 8 << 20;
/// So many characters of a fault's text are part of a reason.
const FAULT_TEXT: usize = 200;

/// Faults by which a server says that it will never take this call: not well-formed, an unknown encoding or character, no
/// valid call, no such method, wrong parameters (the codes agreed on by implementers).
const NEVER: &[i32] = &[-32700, -32701, -32702, -32600, -32601, -32602];

#[derive(Debug)]
struct XmlRpc {
    content_types: ContentTypes,
    faults: Faults,
    caller: Caller,
}

/// What faults mean.
#[derive(Debug)]
struct Faults {
    codes: BTreeMap<i32, Verdict>,
    other: Verdict,
}

impl Faults {
    fn read(settings: &mut Settings) -> Result<Self> {
        let mut codes: BTreeMap<i32, Verdict> = NEVER.iter().map(|code| (*code, Verdict::Reject)).collect();
        let words = [("retry", Verdict::Retry), ("reject", Verdict::Reject)];
        let mut other = Verdict::Retry;
        if let Some(mut faults) = settings.map(&["faults"])? {
            let mut said: BTreeMap<i32, &str> = BTreeMap::new();
            for (word, verdict) in words {
                let Some(setting) = faults.setting(&[word])? else {
                    continue;
                };
                for code in setting.list()? {
                    let number = fault_code(&code)?;
                    if said.insert(number, word).is_some_and(|before| before != word) {
                        return Err(code.error(format!("the fault {number} is given another meaning already")));
                    }
                    codes.insert(number, verdict);
                }
            }
            other = faults.choice(&["other"], &words)?.unwrap_or(other);
            faults.finish()?;
        }
        Ok(Self { codes, other })
    }

    fn verdict(&self, code: i32) -> Verdict {
        self.codes.get(&code).copied().unwrap_or(self.other)
    }
}

fn fault_code(setting: &Setting) -> Result<i32> {
    i32::try_from(setting.integer()?).map_err(|_| setting.error("must be the code of a fault, a number of 32 bits"))
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let allow = fenced::allow(&mut settings)?;
    let private = fenced::private(&mut settings, Private::Refuse)?;
    let content_types = ContentTypes::read(&mut settings)?;
    let faults = Faults::read(&mut settings)?;
    let fence = Fence {
        allow: allow.clone().unwrap_or_default(),
        private,
    };
    let caller = Caller::read(&mut settings, context, fence, 0)?;
    settings.check_unknown()?;
    if allow.is_none() {
        return Err(settings.missing(
            "allow",
            "the hosts that messages may name, such as `allow: [rpc.example.org]`; with `[]` none may be called",
        ));
    }
    Ok(Arc::new(XmlRpc {
        content_types,
        faults,
        caller,
    }))
}

impl XmlRpc {
    fn read(&self, message: &Message) -> Result<XmlRpcCall, String> {
        XmlRpcCall::parse(self.content_types.body(message, BODY_LIMIT)?)
    }

    fn request(&self, call: &Call) -> Result<Request, String> {
        let XmlRpcCall {
            server,
            method,
            arguments,
        } = self.read(&call.message)?;
        self.caller.check_url(&server)?;
        let xml = xmlrpc::call(&method, &arguments)?;
        Ok(Request {
            method: Method::POST,
            url: server,
            headers: HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/xml; charset=utf-8"),
            )]),
            body: xml.into_bytes(),
            timeout: None,
            connect_timeout: None,
            redirects: None,
            keep: ANSWER_LIMIT,
        })
    }

    fn judge(&self, answer: Answer, output_wanted: bool) -> Outcome {
        if !answer.status.is_success() {
            return judged(answer, output_wanted);
        }
        if answer.truncated {
            return Outcome::reject(format!(
                "the answer of {} is longer than {} MiB",
                answer.host,
                ANSWER_LIMIT >> 20
            ));
        }
        match xmlrpc::answer(&answer.body) {
            Ok(xmlrpc::Answer::Value(value)) => {
                let mut stdout = if output_wanted {
                    value.encode_objects().into_bytes()
                } else {
                    Vec::new()
                };
                let stdout_truncated = stdout.len() > OUTPUT_LIMIT;
                stdout.truncate(OUTPUT_LIMIT);
                Outcome::Done(Report {
                    stdout,
                    stdout_truncated,
                    ..Report::default()
                })
            }
            Ok(xmlrpc::Answer::Fault { code, text }) => {
                let plain = |c: char| if c.is_control() { ' ' } else { c };
                let text: String = text.chars().take(FAULT_TEXT).map(plain).collect();
                let failure = Failure {
                    reason: format!("{} answered with the fault {code}: {text}", answer.host),
                    report: failed(answer, output_wanted),
                    ..Failure::default()
                };
                match self.faults.verdict(code) {
                    Verdict::Reject => Outcome::Reject(failure),
                    _ => Outcome::Retry(failure),
                }
            }
            Err(reason) => Outcome::Retry(Failure {
                reason: format!("{}: {reason}", answer.host),
                report: failed(answer, false),
                ..Failure::default()
            }),
        }
    }
}

#[async_trait]
impl Handler for XmlRpc {
    fn decode(&self, message: &Message) -> Result<(), String> {
        self.read(message).map(|_| ())
    }

    async fn prepare(&self, _: &Lifeline) -> Result<()> {
        self.caller.check()
    }

    fn longest_call(&self) -> Option<Duration> {
        self.caller.timeout()
    }

    async fn handle(&self, call: Call) -> Outcome {
        match self.request(&call) {
            Ok(request) => {
                self.caller
                    .call(&call, request, |answer| self.judge(answer, call.output_wanted))
                    .await
            }
            Err(reason) => Outcome::reject(reason),
        }
    }
}
