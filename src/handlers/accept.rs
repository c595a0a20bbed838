//! Which messages a handler reads: their media types, and how long they may be.

use crate::error::Result;
use crate::queue::Message;
use crate::settings::Settings;
use crate::wire::kaliop;

/// The media types that a handler takes: `application/json` unless said otherwise. A message that has none is taken too, and read
/// as JSON like the others: nothing is ever read as anything else because a message says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentTypes(Vec<String>);

impl Default for ContentTypes {
    fn default() -> Self {
        Self(vec![kaliop::CONTENT_TYPE.to_owned()])
    }
}

impl ContentTypes {
    /// Reads the key `content_types`.
    pub fn read(settings: &mut Settings) -> Result<Self> {
        Ok(settings.texts(&["content_types"])?.map_or_else(Self::default, Self))
    }

    /// The body of a message that is taken, or why it is not.
    pub fn body<'a>(&self, message: &'a Message, longest: usize) -> Result<&'a [u8], String> {
        if let Some(content_type) = &message.content_type
            && !self.0.iter().any(|accepted| is_same_type(accepted, content_type))
        {
            let accepted = self.0.join(", ");
            return Err(format!(
                "the content type {content_type:?} is not among those taken ({accepted})"
            ));
        }
        if message.body.len() > longest {
            return Err(format!(
                "the body has {} bytes; no more than {longest} are read here",
                message.body.len()
            ));
        }
        Ok(&message.body)
    }
}

/// Compares media types without their parameters.
fn is_same_type(accepted: &str, content_type: &str) -> bool {
    let bare = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    bare(accepted) == bare(content_type)
}

#[cfg(test)]
mod tests {
    use super::is_same_type;

    #[test]
    fn media_types_are_compared_without_parameters() {
        assert!(is_same_type("application/json", "Application/JSON; charset=utf-8"));
        assert!(!is_same_type("application/json", "application/jsonp"));
    }
}
