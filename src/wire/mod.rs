//! Pure codecs of formats that others read and write.

pub mod echoback;
pub mod fastcgi;
pub mod json;
pub mod jsonrpc;
pub mod kaliop;
pub mod message;
pub mod reply;
pub mod status;
pub mod xmlrpc;
