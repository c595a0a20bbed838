//! Files that cannot be written, are damaged, or are not ours.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::ground::{Ground, ground, python};

/// Commands that open a store in different ways.
const OPENING: [&[&str]; 4] = [
    &["queuemessage", "demo", "x"],
    &["consumer", "-q", "--until-empty", "demo"],
    &["managequeue", "info", "demo"],
    CHECK,
];
const CHECK: &[&str] = &["store", "check"];

/// Each way of opening the store is refused with this exit code and these words, and leaves the file as it is.
fn refused_and_untouched<const N: usize>(ground: &Ground, code: i32, words: [&str; N]) {
    let before = fs::read(ground.path("queue.db")).unwrap();
    for args in OPENING {
        ground.refuses(args, code, words);
        assert!(
            fs::read(ground.path("queue.db")).unwrap() == before,
            "{args:?} has changed the file"
        );
    }
}

/// A file that is no database is refused and left alone.
#[test]
fn rubbish_is_left_alone() {
    for rubbish in [
        vec![b'x'; 8192],
        b"short".to_vec(),
        b"SQLite format 3\0 and no more".repeat(100),
    ] {
        let ground = ground("exec: { run: [cat] }", "");
        ground.write("queue.db", &rubbish);
        for args in OPENING.into_iter().filter(|args| *args != CHECK) {
            ground.refuses(args, 76, ["queue.db"]);
        }
        // What the others refuse is what this one is there to tell.
        ground
            .run(CHECK)
            .code(76)
            .stdout_contains("queue.db is damaged")
            .stdout_contains("problem: ")
            .check();
        assert!(
            fs::read(ground.path("queue.db")).unwrap() == rubbish,
            "the file is changed"
        );
    }
}

/// The database of another program is refused and left alone.
#[test]
fn the_database_of_another_program_is_left_alone() {
    for program in [
        "import sqlite3; db = sqlite3.connect('queue.db'); db.execute('create table message(id)'); db.commit()",
        "import sqlite3; db = sqlite3.connect('queue.db'); db.execute('pragma application_id = 7'); db.commit()",
        "import sqlite3; db = sqlite3.connect('queue.db'); db.execute('pragma user_version = 1'); db.commit()",
    ] {
        let ground = ground("exec: { run: [cat] }", "");
        python(&ground, program);
        refused_and_untouched(&ground, 76, ["queue.db", "another program"]);
    }
}

/// A store that a later version wrote is refused, with both versions named, and left alone.
#[test]
fn a_newer_schema_is_left_alone() {
    let ground = ground("exec: { run: [cat] }", "");
    ground.send("precious\n");
    python(
        &ground,
        "import sqlite3; db = sqlite3.connect('queue.db'); db.execute('pragma user_version = 99'); db.commit(); db.execute('pragma wal_checkpoint(truncate)')",
    );
    refused_and_untouched(&ground, 76, ["queue.db", "schema 99", "up to 1"]);
}

/// Damage in the middle of the file is found by `store check`, which changes nothing, and stops a consumer that meets it
/// with a pointer to that command.
#[test]
fn damage_in_the_middle_is_found() {
    let ground = ground("noop: {}", "");
    let body = "x".repeat(900);
    ground
        .run(["queuemessage", "-b", "-m", "600", "demo", &body])
        .any_stdout()
        .check();
    ground.run(["store", "compact"]).any_stdout().check();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(ground.path("queue.db"))
        .unwrap();
    let size = file.metadata().unwrap().len();
    file.write_all_at(&vec![b'z'; usize::try_from(size / 2).unwrap()], size / 4)
        .unwrap();
    let before = fs::read(ground.path("queue.db")).unwrap();
    let told = ground
        .run(["store", "check"])
        .code(76)
        .any_stdout()
        .any_stderr()
        .check();
    let said = told.stdout + &told.stderr;
    assert!(said.contains("queue.db") && said.contains("damaged"), "{said}");
    assert!(
        fs::read(ground.path("queue.db")).unwrap() == before,
        "looking has changed the file"
    );
    ground.refuses(
        &["consumer", "-q", "--until-empty", "demo"],
        76,
        ["queue.db", "qctl store check"],
    );
}

/// Damage that SQLite itself does not see, because it is in what a row says, is told like any other.
#[test]
fn damage_within_a_row_is_told() {
    let ground = ground("noop: {}", "");
    ground.send("precious\n");
    python(
        &ground,
        "import sqlite3; db = sqlite3.connect('queue.db'); \
         db.execute(\"update message set message_id = cast(x'ff41' as text)\"); db.commit()",
    );
    for args in [
        &["consumer", "-q", "--until-empty", "demo"][..],
        &["managequeue", "-q", "peek", "demo"],
    ] {
        ground.refuses(args, 76, ["queue.db", "damaged", "qctl store check"]);
    }
    assert_eq!(ground.figure("ready"), 1);
}

/// The program as an ordinary user runs it: as `nobody` where the tests run as root, who may write
/// anything. Returns the exit code and all that was printed.
fn as_ordinary_user(ground: &Ground, args: &[&str]) -> (Option<i32>, String) {
    let mut command = if rustix::process::geteuid().is_root() {
        // The program may be in a folder that is root's alone.
        let program = ground.path("qctl");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_qctl"), &program).unwrap();
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_qctl"))
    };
    let output = command
        .args(args)
        .current_dir(ground.path(""))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", ground.root().join("home"))
        .output()
        .unwrap();
    let said = [output.stderr, output.stdout].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Gives everything below a folder, and it, to the user that [`as_ordinary_user`] runs as.
fn give_away(folder: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(folder, Some(65534), Some(65534)).unwrap();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                give_away(&entry.path());
            } else {
                chown(entry.path(), Some(65534), Some(65534)).unwrap();
            }
        }
    }
}

/// With this mode of this file of a store, an ordinary user is refused with 77, in one line that names the store and what to
/// do; the store is left as it is, and with the old mode all is there.
fn refused_with_mode(what: &str, mode: u32) {
    let ground = ground("exec: { run: [cat] }", "");
    ground.send("precious\n");
    ground.run(["store", "compact"]).any_stdout().check();
    give_away(ground.root());
    let (code, said) = as_ordinary_user(&ground, &["queuemessage", "demo", "fine"]);
    assert_eq!(code, Some(0), "{said}");
    let open = fs::metadata(ground.path(what)).unwrap().permissions();
    let before = fs::read(ground.path("queue.db")).unwrap();

    fs::set_permissions(ground.path(what), Permissions::from_mode(mode)).unwrap();
    for args in [
        &["queuemessage", "demo", "x"][..],
        &["consumer", "-q", "--until-empty", "demo"],
    ] {
        let (code, said) = as_ordinary_user(&ground, args);
        assert_eq!(code, Some(77), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(
            said.contains("queue.db") && said.contains("run as its owner"),
            "{args:?}: {said}"
        );
    }
    fs::set_permissions(ground.path(what), open).unwrap();
    assert!(fs::read(ground.path("queue.db")).unwrap() == before);
    let (code, said) = as_ordinary_user(&ground, &["managequeue", "check", "--max-ready", "2", "demo"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 ready"), "{said}");
    let (code, said) = as_ordinary_user(&ground, &["store", "check"]);
    assert!(code == Some(0) && said.contains("is sound"), "{said}");
}

/// A store file that may be read and not written is told.
#[test]
fn a_read_only_store_is_told() {
    refused_with_mode("queue.db", 0o444);
}

/// A store file that may not even be read is told.
#[test]
fn an_unreadable_store_is_told() {
    refused_with_mode("queue.db", 0);
}

/// Locks that may not be taken are told.
#[test]
fn locks_of_another_user_are_told() {
    refused_with_mode("queue.db.locks", 0);
    refused_with_mode("queue.db.locks/work", 0o444);
}
