//! A piece of configuration that knows where it stands, so that whoever reads it can say file, line and key.
//!
//! Drivers and handlers decode their own keys from a [`Settings`]; the configuration loader never learns them. A
//! [`Setting`] is one value of it, for keys that take several forms. Lines are looked for only when an error is made.

mod interpolate;
mod locate;
mod parse;
mod path;
mod piece;
mod reader;
mod secret;
mod setting;
mod shown;
mod source;
mod suggest;
mod units;
mod value;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use parse::Tags;
pub use path::{Path, Segment};
pub use piece::{Content, Piece};
pub use reader::Settings;
pub use secret::{Secret, SecretSource};
pub use setting::Setting;
pub use shown::{is_secret_name, mask_url};
pub use source::{Asked, Environment, Form, Source};
pub use suggest::{one_of, suggestion};
pub use units::{parse_duration, parse_size};
pub use value::Value;
