//! HTTP to the outside, behind a *fence*: which URLs may be asked, and which addresses connected to.
//!
//! A request names a URL that somebody else may have written (a message, a job). [`Fence`] decides purely whether it may be
//! asked; [`Web`] asks it, and holds the fence against every hop of a redirect and against every address that it really
//! connects to. What is checked is what is requested: the URL is parsed once, and the parsed form goes on.

mod client;
mod fence;
mod hop;
mod ranges;
mod resolve;
mod told;
mod trust;

pub use client::{Answer, Request, Trouble, Web, WebSettings};
pub use fence::{Entry, Fence};
pub use ranges::{Network, Private};
pub use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode, Url};
