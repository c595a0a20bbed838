//! A php-fpm of the test's own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, wait_for};

/// Runs until it is dropped.
pub struct Php {
    master: Child,
}

impl Php {
    /// Serves scripts on `php.sock` of this place's working folder, with these further lines in its pool.
    pub fn start(place: &Place, pool: &str) -> Self {
        let socket = socket(place);
        // A stale one is connected to in vain, a moment before the new one is there.
        let _ = fs::remove_file(&socket);
        let is_root = rustix::process::geteuid().is_root();
        let user = if is_root { "user = root\ngroup = root\n" } else { "" };
        let config = place.write(
            "fpm.conf",
            format!(
                "[global]\nerror_log = {0}\ndaemonize = no\n[www]\n{user}listen = {1}\npm = static\n\
                 pm.max_children = 4\n{pool}\n",
                place.path("fpm.log").display(),
                socket.display()
            ),
        );
        // Without php.ini it shows errors, which is where they are easily taken for success.
        let mut command = Command::new(binary());
        command.args(["-n", "-F"]).args(is_root.then_some("-R"));
        let master = command
            .arg("-y")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let php = Self { master };
        wait_for(&format!("php-fpm; its log: {}", place.read("fpm.log")), || {
            UnixStream::connect(&socket).is_ok()
        });
        php
    }

    /// Ends it at once, with what it runs.
    pub fn end(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if self.master.try_wait().unwrap().is_none() {
            // It ends its processes itself; killed, it would leave them.
            kill_process(Pid::from_child(&self.master), Signal::TERM).unwrap();
            self.master.wait().unwrap();
        }
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn socket(place: &Place) -> PathBuf {
    place.path("php.sock")
}

fn binary() -> PathBuf {
    let found = fs::read_dir("/usr/sbin")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("php-fpm")
        });
    found.unwrap_or_else(|| {
        let plain = Path::new("/usr/local/sbin/php-fpm");
        assert!(plain.exists(), "this test needs php-fpm: scripts/packages php-fpm");
        plain.to_owned()
    })
}
