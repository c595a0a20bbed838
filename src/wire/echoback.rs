//! STUB of the command line's branch: replaced at merge.
#![allow(missing_docs)]

pub fn line(time: jiff::civil::DateTime, pid: u32, host: &str, text: &str) -> String {
    format!(
        "It is {}:{:03} and process with pid {pid} on host {host} says: {text}\n",
        time.strftime("%Y/%m/%d - %H:%M:%S"),
        time.millisecond()
    )
}
