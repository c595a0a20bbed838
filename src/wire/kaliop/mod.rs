//! The message bodies of the Kaliop queueing bundle, byte for byte as its PHP producers write them, and their routing keys.

mod command_line;

pub use command_line::is_option_name;

use super::json::Json;

/// The media type of all these bodies.
pub const CONTENT_TYPE: &str = "application/json";

/// AMQP's limit for routing keys, in bytes.
pub const ROUTING_KEY_LIMIT: usize = 255;

/// A console command to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleCommand {
    /// Its name, such as `cache:clear`.
    pub command: String,
    /// Its arguments, in order.
    pub arguments: Vec<String>,
    /// Its options, in order. A name may bring its own dashes; without any, one letter has one dash, a word has two.
    pub options: Vec<(String, OptionValue)>,
}

/// The value of a console command's option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// A bare flag.
    Flag,
    /// One value.
    Text(String),
    /// The option is given once for each of these. (The bundle's own consumers do not know this form.)
    List(Vec<String>),
}

/// A URL to be fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    /// The URL.
    pub url: String,
    /// cURL options by their number, such as `13` for the time-out, as the bundle knows them, or by other names, which it does
    /// not. Which mean something is the handler's to say.
    pub options: Vec<(String, Json)>,
}

/// An XML-RPC method to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct XmlRpcCall {
    /// The server's URL.
    pub server: String,
    /// The method.
    pub method: String,
    /// Its arguments, in order.
    pub arguments: Vec<Json>,
}

/// A service's method to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceCall {
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// Its arguments, in order.
    pub arguments: Vec<Json>,
}

impl ConsoleCommand {
    /// The body.
    pub fn body(&self) -> Vec<u8> {
        let options = self
            .options
            .iter()
            .map(|(name, value)| (name.clone(), value.to_json()))
            .collect();
        object([
            ("command", text(&self.command)),
            (
                "arguments",
                Json::List(self.arguments.iter().map(|argument| text(argument)).collect()),
            ),
            ("options", Json::Map(options)),
        ])
    }

    /// The routing key used where none is given: `cache:clear` is `cache.clear`.
    pub fn routing_key(&self) -> String {
        self.command.replace(':', ".")
    }

    /// Reads a body. Numbers and booleans become text as in PHP: `true` is `1`, `false` is empty.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::parse(body, "a console command")?;
        let command = fields.required_text("command")?;
        let arguments = fields.list("arguments")?.unwrap_or_default();
        let arguments = arguments
            .iter()
            .map(|argument| scalar(argument).ok_or_else(|| format!("an argument is {}, not a scalar", argument.kind())))
            .collect::<Result<_, _>>()?;
        let options = fields.map("options")?.unwrap_or_default();
        let options = options
            .into_iter()
            .map(|(name, value)| match OptionValue::from_json(&value) {
                Some(value) => Ok((name, value)),
                None => Err(format!(
                    "the option {name:?} is {}, not a scalar or a list of them",
                    value.kind()
                )),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            command,
            arguments,
            options,
        })
    }
}

impl OptionValue {
    fn to_json(&self) -> Json {
        match self {
            Self::Flag => Json::Null,
            Self::Text(value) => text(value),
            Self::List(values) => Json::List(values.iter().map(|value| text(value)).collect()),
        }
    }

    fn from_json(value: &Json) -> Option<Self> {
        match value {
            Json::Null => Some(Self::Flag),
            Json::List(items) => items.iter().map(scalar).collect::<Option<_>>().map(Self::List),
            value => scalar(value).map(Self::Text),
        }
    }
}

impl HttpRequest {
    /// The body. An empty object within an option stays one.
    pub fn body(&self) -> Vec<u8> {
        let options = match self.options.as_slice() {
            [] => Json::List(Vec::new()),
            options => Json::Map(options.to_vec()),
        };
        Json::Map(vec![
            ("url".to_owned(), text(&self.url)),
            ("options".to_owned(), options),
        ])
        .encode_objects()
        .into_bytes()
    }

    /// The routing key used where none is given: `http://a/b` is `http...a.b`.
    pub fn routing_key(&self) -> String {
        self.url.replace([':', '/'], ".")
    }

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::parse(body, "an HTTP request")?;
        let url = fields.required_text("url")?;
        let options = fields.map("options")?.unwrap_or_default();
        Ok(Self { url, options })
    }
}

impl XmlRpcCall {
    /// The body. An empty object among the arguments stays one, as PHP writes those that are objects to it.
    pub fn body(&self) -> Vec<u8> {
        let fields = [
            ("server", text(&self.server)),
            ("method", text(&self.method)),
            ("arguments", Json::List(self.arguments.clone())),
        ];
        Json::Map(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())
            .encode_objects()
            .into_bytes()
    }

    /// The routing key used where none is given: server and method, `:` and `/` as dots.
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.server, self.method).replace([':', '/'], ".")
    }

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::parse(body, "an XML-RPC call")?;
        Ok(Self {
            server: fields.required_text("server")?,
            method: fields.required_text("method")?,
            arguments: fields.list("arguments")?.unwrap_or_default(),
        })
    }
}

impl ServiceCall {
    /// The body.
    pub fn body(&self) -> Vec<u8> {
        object([
            ("service", text(&self.service)),
            ("method", text(&self.method)),
            ("arguments", Json::List(self.arguments.clone())),
        ])
    }

    /// The routing key used where none is given: the service, its `:` as dots, and the method.
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.service.replace(':', "."), self.method)
    }

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::parse(body, "a service call")?;
        Ok(Self {
            service: fields.required_text("service")?,
            method: fields.required_text("method")?,
            arguments: fields.list("arguments")?.unwrap_or_default(),
        })
    }
}

/// Says what is wrong with a routing key that AMQP could not carry.
pub fn check_routing_key(key: &str) -> Result<(), String> {
    if key.len() <= ROUTING_KEY_LIMIT {
        return Ok(());
    }
    Err(format!(
        "the routing key has {} bytes, more than {ROUTING_KEY_LIMIT}: give a shorter one with -r",
        key.len()
    ))
}

/// The fields of a body.
struct Fields {
    entries: Vec<(String, Json)>,
    what: &'static str,
}

impl Fields {
    fn parse(body: &[u8], what: &'static str) -> Result<Self, String> {
        match Json::parse(body) {
            Ok(Json::Map(entries)) => Ok(Self { entries, what }),
            Ok(other) => Err(format!("the body is {}, not the object of {what}", other.kind())),
            Err(error) => Err(format!("the body is not JSON: {error}")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        let position = self.entries.iter().position(|(known, _)| known == name)?;
        Some(self.entries.swap_remove(position).1)
    }

    fn required_text(&mut self, name: &str) -> Result<String, String> {
        match self.take(name) {
            Some(Json::Text(text)) if !text.is_empty() => Ok(text),
            Some(Json::Text(_)) => Err(format!("{name:?} is empty")),
            Some(other) => Err(format!("{name:?} is {}, not text", other.kind())),
            None => Err(format!("the body has no {name:?}, so it is not {}", self.what)),
        }
    }

    /// A PHP array as a list. One whose numbers have gaps comes as an object (`{"0":"a","2":"b"}`).
    fn list(&mut self, name: &str) -> Result<Option<Vec<Json>>, String> {
        match self.take(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::List(items)) => Ok(Some(items)),
            Some(Json::Map(entries)) if entries.iter().all(|(key, _)| key.parse::<u32>().is_ok()) => {
                Ok(Some(entries.into_iter().map(|(_, value)| value).collect()))
            }
            Some(other) => Err(format!("{name:?} is {}, not a list", other.kind())),
        }
    }

    /// A PHP array as a map. An empty one comes as `[]`.
    fn map(&mut self, name: &str) -> Result<Option<Vec<(String, Json)>>, String> {
        match self.take(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::List(items)) if items.is_empty() => Ok(None),
            Some(Json::Map(entries)) => Ok(Some(entries)),
            Some(other) => Err(format!("{name:?} is {}, not an object", other.kind())),
        }
    }
}

fn object<const N: usize>(fields: [(&str, Json); N]) -> Vec<u8> {
    Json::Map(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
    .encode()
    .into_bytes()
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn scalar(value: &Json) -> Option<String> {
    value.to_php_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
