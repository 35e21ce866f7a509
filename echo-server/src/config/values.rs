//! Values of variables: sizes, durations, booleans, addresses of databases.

use std::path::PathBuf;
use std::time::Duration;

use crate::secrets::Secret;
use crate::store::check_postgres_url;

/// A number of bytes: `500MB`, `64KiB`, `1024`. `KB`, `MB`, `GB` are powers of 1024, as in nginx.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Seconds, or with a unit: `90`, `15m`, `7d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

/// `true` or `false`, and the other ways to say it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `60/m`, `10/s`, or a plain number a minute; 0 is no limit.
pub(super) fn per_minute(text: &str) -> Option<u32> {
    let (count, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "m"));
    let count: u32 = count.trim().parse().ok()?;
    match unit.trim() {
        "s" => count.checked_mul(60),
        "m" => Some(count),
        _ => None,
    }
}

/// Where jobs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of SQLite.
    File(PathBuf),
    /// In memory, gone with the process.
    Memory,
    /// PostgreSQL at an address, which holds a password.
    Postgres(Secret),
}

/// A database URL as SQLAlchemy reads it: three slashes are a relative path, four an absolute one.
///
/// Of `postgresql+driver://` the driver is Python's affair.
pub(super) fn database(text: &str) -> Option<Database> {
    if text.starts_with("postgres") {
        let url = || Database::Postgres(Secret::new(text.trim()));
        return check_postgres_url(text.trim()).is_ok().then(url);
    }
    let rest = text.trim().strip_prefix("sqlite:")?;
    let path = match rest.strip_prefix("//") {
        Some("") | Some("/:memory:") => return Some(Database::Memory),
        Some(path) => path.strip_prefix('/')?,
        None => return None,
    };
    let path = path.split('?').next().unwrap_or(path);
    (!path.is_empty()).then(|| Database::File(PathBuf::from(path)))
}

/// The largest object that S3 copies at once.
pub(super) const MAX_COPY_BYTES: u64 = 5 << 30;

/// Where sound and results are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In `UPLOAD_DIR`.
    Folder,
    /// In a bucket of S3.
    Bucket(BucketSettings),
}

/// A bucket, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSettings {
    /// Its name.
    pub name: String,
    /// What the keys of all objects begin with; may be empty.
    pub prefix: String,
    /// AWS's variables, some of which are secret.
    pub variables: Vec<(String, Secret)>,
}

/// Bucket and prefix of `s3://bucket/prefix`.
pub(super) fn bucket(text: &str) -> Option<(String, String)> {
    let rest = text.trim().strip_prefix("s3://")?;
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let is_plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && is_plain(part);
    let fits = is_part(name) && (prefix.is_empty() || prefix.split('/').all(is_part));
    fits.then(|| (name.to_owned(), prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size_bytes("500MB"), Some(500 << 20));
        assert_eq!(size_bytes("1 GiB"), Some(1 << 30));
        assert_eq!(size_bytes("77"), Some(77));
        assert_eq!(size_bytes("1.5GB"), None);
        assert_eq!(size_bytes("-1"), None);
        assert_eq!(size_bytes("99999999999TB"), None);
    }

    #[test]
    fn three_slashes_are_relative_and_four_absolute() {
        let file = |path: &str| Some(Database::File(PathBuf::from(path)));
        assert_eq!(database("sqlite:///./transcriptions.db"), file("./transcriptions.db"));
        assert_eq!(database("sqlite:////data/jobs.db"), file("/data/jobs.db"));
        assert_eq!(database("sqlite://"), Some(Database::Memory));
        assert_eq!(database("mysql://x"), None);
        let url = "postgresql+asyncpg://echo:hunter2@db/jobs";
        assert_eq!(database(url), Some(Database::Postgres(Secret::new(url))));
        assert_eq!(database("postgres://db/jobs?sslmode=maybe"), None);
    }

    #[test]
    fn a_bucket_has_a_name_and_maybe_a_prefix() {
        let both = |name: &str, prefix: &str| Some((name.to_owned(), prefix.to_owned()));
        assert_eq!(bucket("s3://sound"), both("sound", ""));
        assert_eq!(bucket("s3://sound/a/b/"), both("sound", "a/b"));
        for bad in
            ["s3://", "s3:///x", "s3://key:secret@sound", "s3://a/../b", "gs://sound", "/data"]
        {
            assert_eq!(bucket(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_and_rates_have_units() {
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("-1"), None);
        assert_eq!(per_minute("60/m"), Some(60));
        assert_eq!(per_minute("2/s"), Some(120));
        assert_eq!(per_minute("many"), None);
    }
}
