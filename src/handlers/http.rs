//! The handler `http`: each message names a URL, which is asked if `allow:` lets it through.

mod curl;
mod options;
pub(super) mod wish;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::accept::ContentTypes;
use super::fenced::{self, Caller};
use super::{HandlerContext, HandlerSpec};
use crate::consumer::handler::{Call, Handler, Outcome};
use crate::error::Result;
use crate::queue::{Lifeline, Message};
use crate::settings::Settings;
use crate::web::{Entry, Fence, Private, Request};
use crate::wire::kaliop::HttpRequest;

pub(super) const SPEC: HandlerSpec = HandlerSpec {
    kind: "http",
    about: "asks the URL that the message names, if `allow:` lets it through",
    example: "http: { allow: [api.example.org] }",
    parse,
};

/// No longer body is read.
const BODY_LIMIT: usize = 32 << 20;

/// Whether a request can have an option of this name, or of this number of cURL's.
pub fn is_option(name: &str) -> bool {
    options::find(name).is_some()
}

/// Whether this is the name of a host, as `allow:` takes it.
pub fn is_host(name: &str) -> bool {
    matches!(Entry::host(name), Ok(Entry::Host { port: None, .. }))
}

#[derive(Debug)]
struct Http {
    content_types: ContentTypes,
    caller: Caller,
}

fn parse(mut settings: Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>> {
    let allow = fenced::allow(&mut settings)?;
    let private = fenced::private(&mut settings, Private::Refuse)?;
    let redirects = fenced::redirects(&mut settings)?;
    let content_types = ContentTypes::read(&mut settings)?;
    let fence = Fence {
        allow: allow.clone().unwrap_or_default(),
        private,
    };
    let caller = Caller::read(&mut settings, context, fence, redirects)?;
    settings.check_unknown()?;
    if allow.is_none() {
        return Err(settings.missing(
            "allow",
            "the hosts that messages may name, such as `allow: [api.example.org]`; with `[]` none may be asked",
        ));
    }
    Ok(Arc::new(Http { content_types, caller }))
}

impl Http {
    fn read(&self, message: &Message) -> Result<HttpRequest, String> {
        HttpRequest::parse(self.content_types.body(message, BODY_LIMIT)?)
    }

    fn request(&self, call: &Call) -> Result<Request, String> {
        let HttpRequest { url, options } = self.read(&call.message)?;
        // The fence comes first: of a URL that may not be asked, nothing else matters.
        self.caller.check_url(&url)?;
        options::read(&options)?.request(url, fenced::keep(call))
    }
}

#[async_trait]
impl Handler for Http {
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
                    .call(&call, request, |answer| fenced::judged(answer, call.output_wanted))
                    .await
            }
            Err(reason) => Outcome::reject(reason),
        }
    }
}
