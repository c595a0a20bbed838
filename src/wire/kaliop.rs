//! STUB of the command line's branch: replaced at merge.
#![allow(missing_docs, clippy::unnecessary_wraps)]

use serde_json::json;

use super::json::Json;

use crate::error::Result;

pub struct ConsoleCommand {
    pub command: String,
    pub arguments: Vec<String>,
}

impl ConsoleCommand {
    pub fn from_command_line(command: &str, arguments: &[String]) -> Result<Self> {
        Ok(Self {
            command: command.to_owned(),
            arguments: arguments.to_vec(),
        })
    }
    pub fn add_option(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        self.arguments.push(format!("{name}={value:?}"));
        Ok(())
    }
    pub fn add_words(&mut self, words: &[String]) -> Result<()> {
        self.arguments.extend_from_slice(words);
        Ok(())
    }
    pub fn body(&self) -> Vec<u8> {
        json!({ "command": self.command, "arguments": self.arguments, "options": [] })
            .to_string()
            .into_bytes()
    }
    pub fn routing_key(&self) -> String {
        self.command.replace(':', ".")
    }
}

pub struct HttpRequest {
    pub url: String,
    pub options: Vec<(String, Json)>,
}

impl HttpRequest {
    pub fn body(&self) -> Vec<u8> {
        json!({ "url": self.url }).to_string().into_bytes()
    }
    pub fn routing_key(&self) -> String {
        self.url.replace([':', '/'], ".")
    }
}

pub struct XmlRpcCall {
    pub server: String,
    pub method: String,
    pub arguments: Vec<Json>,
}

impl XmlRpcCall {
    pub fn body(&self) -> Vec<u8> {
        json!({ "server": self.server, "method": self.method })
            .to_string()
            .into_bytes()
    }
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.server, self.method).replace([':', '/'], ".")
    }
}

pub struct ServiceCall {
    pub service: String,
    pub method: String,
    pub arguments: Vec<Json>,
}

impl ServiceCall {
    pub fn body(&self) -> Vec<u8> {
        json!({ "service": self.service, "method": self.method })
            .to_string()
            .into_bytes()
    }
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.service.replace(':', "."), self.method)
    }
}
