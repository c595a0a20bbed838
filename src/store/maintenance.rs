//! STUB of the command line's branch: replaced at merge.
#![allow(missing_docs)]

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

#[derive(Debug, Serialize)]
pub struct Report {
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub fn check(_: &Path) -> Result<Report> {
    Err(Error::unsupported("stub"))
}

pub fn backup(_: &Path, _: &Path) -> Result<Report> {
    Err(Error::unsupported("stub"))
}

pub fn compact(_: &Path) -> Result<Report> {
    Err(Error::unsupported("stub"))
}
