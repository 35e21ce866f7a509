//! The configuration: read once from the environment, checked, and never looked up again.
//!
//! An unknown `ECHO_…` variable and a value that does not fit stop the start with the variable's name;
//! nothing is ignored in silence.

mod reader;
mod values;
mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reader::Reader;
pub use values::{BucketSettings, Database, Storage};
pub use variables::{Kind, VARIABLES, Variable};

use crate::net::Network;
use crate::secrets::Secret;

/// What the server was told.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the variable of its name; see VARIABLES")]
pub struct Config {
    pub address: SocketAddr,
    /// Where the metrics are told without asking who wants them.
    pub metrics_address: Option<SocketAddr>,
    pub app_url: String,
    pub upload_dir: PathBuf,
    pub storage: Storage,
    pub max_file_bytes: u64,
    pub database: Database,
    pub redis_url: String,
    pub jwt_secret: Option<Secret>,
    pub api_keys: Vec<(String, String, String)>,
    pub model: String,
    pub diarization_model: String,
    pub model_dir: Option<PathBuf>,
    pub device: String,
    pub compute_type: String,
    pub worker_slots: usize,
    pub worker_threads: usize,
    pub worker_memory_bytes: u64,
    pub stall: Duration,
    pub worker_secret: Option<Secret>,
    pub lease: Duration,
    pub heartbeat: Duration,
    pub max_attempts: u32,
    pub checkpoint: Duration,
    pub max_audio_seconds: f64,
    pub max_concurrent_uploads: usize,
    pub max_pending: u64,
    pub tenant_max_pending: u64,
    pub submissions_per_minute: u32,
    pub reads_per_minute: u32,
    pub min_free_disk_bytes: u64,
    pub sync_timeout: Duration,
    pub is_cancelled_on_disconnect: bool,
    pub live_max: Duration,
    pub live_idle: Duration,
    pub cache_ttl: Duration,
    pub is_cache_global: bool,
    pub audio_ttl: Duration,
    pub result_ttl: Duration,
    pub webhook_secret: Option<Secret>,
    pub master_key: Option<Secret>,
    pub fetch_timeout: Duration,
    pub fetch_allowed: Vec<Network>,
    pub fetch_ports: Vec<u16>,
    pub has_insecure_callbacks: bool,
    pub trusted_proxies: Vec<Network>,
    pub cors_origins: Vec<String>,
    pub has_ui: bool,
    pub has_public_docs: bool,
    pub drain_delay: Duration,
    pub drain: Duration,
    pub is_migrated: bool,
    pub has_json_logs: bool,
    pub usd_per_hour: f64,
    pub queue: Queue,
    pub nats_url: String,
    pub nats_creds: Option<PathBuf>,
    pub nats_replicas: usize,
    pub api_url: Option<String>,
    pub trigger_key: Option<Secret>,
    pub trigger_url: String,
    pub modal_url: Option<String>,
    pub modal_pair: Option<(Secret, Secret)>,
    pub collector_url: Option<String>,
}

/// How workers learn of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// They are processes of the server, and the database is all they need.
    Embedded,
    /// By NATS, on any machine.
    Nats,
    /// By Trigger.dev, whose task asks Modal for a GPU.
    Trigger,
    /// By Modal itself.
    Modal,
}

/// Why the configuration cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value does not fit.
    #[error("{variable} is `{value}`, expected {expected}")]
    Value {
        /// The variable.
        variable: String,
        /// Its value, masked if it is a secret.
        value: String,
        /// What would have been accepted.
        expected: String,
    },
    /// There is no such variable.
    #[error("there is no variable {name}; did you mean {nearest}?")]
    Unknown {
        /// The variable.
        name: String,
        /// The nearest known one.
        nearest: &'static str,
    },
}

/// Variables as they were given.
pub type Given = BTreeMap<String, String>;

impl Config {
    /// Reads variables.
    ///
    /// # Errors
    /// The first variable that cannot be taken.
    pub fn from_given(given: &Given) -> Result<Self, ConfigError> {
        let given = refuse_unknown(given)?;
        let reader = Reader { given };
        reader.config()
    }

    /// Whether every caller has to say who it is.
    pub fn has_auth(&self) -> bool {
        self.jwt_secret.is_some() || !self.api_keys.is_empty()
    }
}

/// Every variable with the value in force, secrets masked.
///
/// # Errors
/// As [`Config::from_given`].
pub fn effective(given: &Given) -> Result<Vec<(&'static str, String)>, ConfigError> {
    Config::from_given(given)?;
    Ok(VARIABLES
        .iter()
        .map(|variable| {
            let file = given.contains_key(&format!("{}_FILE", variable.name));
            let value = given.get(variable.name).map_or(variable.default, String::as_str);
            let is_set = file || !value.is_empty();
            let shown = match (variable.kind, is_set) {
                (Kind::Secret, true) => "[secret]".to_owned(),
                (Kind::Secret, false) => String::new(),
                _ => without_password(value),
            };
            (variable.name, shown)
        })
        .collect())
}

/// A URL without the password in it.
fn without_password(value: &str) -> String {
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://[secret]{}", &value[..scheme], &value[at..])
        }
        _ => value.to_owned(),
    }
}

/// Takes known variables, reads `…_FILE`, and refuses what is unknown.
fn refuse_unknown(given: &Given) -> Result<Given, ConfigError> {
    let mut known = Given::new();
    for (name, value) in given {
        let base = name.strip_suffix("_FILE").unwrap_or(name);
        let is_secret_file = base != name;
        let variable = VARIABLES.iter().find(|variable| {
            variable.name == name
                || (is_secret_file && variable.name == base && variable.kind == Kind::Secret)
        });
        match variable {
            Some(variable) if variable.name == name => {
                known.insert(name.clone(), value.trim().to_owned());
            }
            Some(variable) => {
                let text = std::fs::read_to_string(value).map_err(|_| ConfigError::Value {
                    variable: name.clone(),
                    value: value.clone(),
                    expected: "a file that can be read".to_owned(),
                })?;
                known.insert(variable.name.to_owned(), text.trim().to_owned());
            }
            // object_store knows more of them than are listed.
            None if name.starts_with("AWS_") => {
                known.insert(name.clone(), value.trim().to_owned());
            }
            None if name.starts_with("ECHO_") && !name.starts_with("ECHO_TEST_") => {
                let nearest = variables::nearest(name);
                return Err(ConfigError::Unknown { name: name.clone(), nearest });
            }
            None => {}
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: &[(&str, &str)]) -> Given {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn refused(list: &[(&str, &str)]) -> String {
        Config::from_given(&given(list)).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_is_a_whole_configuration() {
        let config = Config::from_given(&Given::new()).unwrap();
        assert_eq!(config.address.to_string(), "127.0.0.1:8000");
        assert_eq!(config.app_url, "http://localhost:8000");
        assert_eq!(config.max_file_bytes, 500 << 20);
        assert_eq!(config.database, Database::File("./transcriptions.db".into()));
        assert_eq!(config.model, echo_core::DEFAULT_MODEL);
        assert_eq!(config.diarization_model, "campplus");
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        assert_eq!(refused(&[("PORT", "http")]), "PORT is `http`, expected a whole number");
        let short = refused(&[("JWT_SECRET", "short")]);
        assert!(short.contains("JWT_SECRET") && !short.contains("short`"), "{short}");
        let typo = refused(&[("ECHO_MODLE", "base")]);
        assert!(typo.ends_with("did you mean ECHO_MODEL?"), "{typo}");
        let refusal = refused(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")]);
        assert!(refusal.ends_with("expected such as http://localhost:4318"), "{refusal}");
        let key = refused(&[("ECHO_STORAGE_URL", "s3://key:hunter2@sound")]);
        assert!(key.contains("ECHO_STORAGE_URL") && !key.contains("hunter2"), "{key}");
        let large = refused(&[("ECHO_STORAGE_URL", "s3://sound"), ("MAX_FILE_SIZE", "6GB")]);
        assert!(large.contains("at most 5GB"), "{large}");
        assert!(refused(&[("ECHO_QUEUE", "redis")]).contains("trigger or modal"));
        let refusal = refused(&[("DATABASE_URL", "postgresql://user:hunter2@db/x?nope=1")]);
        assert!(refusal.contains("DATABASE_URL") && !refusal.contains("hunter2"), "{refusal}");
        assert!(
            Config::from_given(&given(&[("MODAL_TOKEN_ID", ""), ("ECHO_QUEUE", "embedded")]))
                .is_ok()
        );
    }

    #[test]
    fn secrets_are_masked_wherever_they_are_shown() {
        let secret = "0123456789abcdef0123456789abcdef";
        let given = given(&[("JWT_SECRET", secret), ("REDIS_URL", "redis://:hunter2@cache:6379")]);
        let stored = [("ECHO_STORAGE_URL", "s3://sound/echo"), ("AWS_SECRET_ACCESS_KEY", secret)];
        let bucket = self::given(&stored);
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            effective(&bucket).unwrap(),
            Config::from_given(&bucket).unwrap().storage,
            effective(&given).unwrap(),
            Config::from_given(&given).unwrap().jwt_secret
        );
        assert!(!shown.contains(secret) && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn keys_name_a_tenant_a_digest_and_scopes() {
        let digest = "a".repeat(64);
        let text = format!("acme:{digest},shop:{digest}:transcribe:read+admin");
        let keys = Config::from_given(&given(&[("ECHO_API_KEYS", &text)])).unwrap().api_keys;
        assert_eq!(keys[0].2, "transcribe:write transcribe:read");
        assert_eq!(keys[1].2, "transcribe:read admin");
        assert!(!refused(&[("ECHO_API_KEYS", "acme:plain")]).contains("plain"));
    }

    #[test]
    fn the_example_names_every_variable_with_its_default() {
        let example = include_str!("../../.env.example");
        for variable in VARIABLES {
            let line = format!("\n#{}={}\n", variable.name, variable.default);
            assert!(example.contains(&line), "{line}");
        }
        assert_eq!(example.matches("\n#").count(), VARIABLES.len() * 2);
    }
}
