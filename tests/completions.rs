//! The committed completion scripts and manual pages are those that the program makes. `QCTL_BLESS=1 cargo test --test
//! completions` rewrites them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn printed(args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_qctl")).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "qctl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// What is to be in `completions/`, by path.
fn wanted() -> BTreeMap<PathBuf, Vec<u8>> {
    let scripts = [
        ("bash", "qctl.bash"),
        ("zsh", "_qctl"),
        ("fish", "qctl.fish"),
        ("elvish", "qctl.elv"),
        ("powershell", "qctl.ps1"),
    ];
    let mut files: BTreeMap<PathBuf, Vec<u8>> = scripts
        .iter()
        .map(|(shell, file)| (PathBuf::from(file), printed(&["completions", shell])))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    printed(&["-q", "man", "--dir", folder.path().to_str().unwrap()]);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        files.insert(
            Path::new("man").join(entry.file_name()),
            fs::read(entry.path()).unwrap(),
        );
    }
    files
}

#[test]
fn committed_completions_and_manual_pages_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    let wanted = wanted();
    if std::env::var_os("QCTL_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("man")).unwrap();
        for (path, content) in &wanted {
            fs::write(folder.join(path), content).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for sub in ["", "man"] {
        for entry in fs::read_dir(folder.join(sub))
            .unwrap()
            .map(Result::unwrap)
            .filter(|entry| entry.path().is_file())
        {
            found.insert(Path::new(sub).join(entry.file_name()), fs::read(entry.path()).unwrap());
        }
    }
    let stale: Vec<&PathBuf> = wanted
        .keys()
        .chain(found.keys())
        .filter(|path| wanted.get(*path) != found.get(*path))
        .collect();
    assert!(
        stale.is_empty(),
        "stale: {stale:?}; run QCTL_BLESS=1 cargo test --test completions"
    );
}
