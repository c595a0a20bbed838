//! Pure codecs of formats that others read and write.

pub mod echoback;
pub mod json;
pub mod kaliop;
pub mod reply;
pub mod xmlrpc;
