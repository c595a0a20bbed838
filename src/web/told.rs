//! The client library's errors, in a few words that hold no secrets.

use std::error::Error;
use std::io;

use super::client::Trouble;
use super::resolve::NoAddress;

/// What an error of the client's means for a request to this host.
pub(super) fn told(host: &str, error: &reqwest::Error) -> Trouble {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(found) = cause.downcast_ref::<NoAddress>() {
            return match found {
                NoAddress::Refused(reason) => Trouble::Refused(reason.clone()),
                NoAddress::Unknown(reason) => Trouble::Failed(reason.clone()),
                NoAddress::NoRoom(_) => Trouble::NoRoom(found.to_string()),
            };
        }
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && is_shortage(error)
        {
            return Trouble::NoRoom(format!("cannot connect to {host}: {error}"));
        }
        match cause.source() {
            Some(next) => cause = next,
            None => break,
        }
    }
    if error.is_builder() {
        return Trouble::Refused(format!("{host}: the request cannot be made: {cause}"));
    }
    if error.is_timeout() {
        return Trouble::Failed(format!("{host}: no connection in time"));
    }
    // Only its innermost words: those around them have the URL.
    Trouble::Failed(format!("{host}: {cause}"))
}

/// The machine has no file, port or memory to spare.
fn is_shortage(error: &io::Error) -> bool {
    const SHORT: &[i32] = &[
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EADDRNOTAVAIL,
    ];
    error.raw_os_error().is_some_and(|code| SHORT.contains(&code))
}
