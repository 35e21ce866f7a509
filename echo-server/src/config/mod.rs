//! The configuration: read once from the environment, checked, and never looked up again.
//!
//! An unknown `ECHO_…` variable, a value that does not fit and a variable of the scale-out stop the
//! start with the variable's name; nothing is ignored in silence.

mod values;
mod variables;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use values::Database;
pub use variables::{Kind, VARIABLES, Variable};

use crate::net::Network;
use crate::secrets::Secret;

/// What the server was told.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the variable of its name; see VARIABLES")]
pub struct Config {
    pub address: SocketAddr,
    pub app_url: String,
    pub upload_dir: PathBuf,
    pub max_file_bytes: u64,
    pub database: Database,
    pub redis_url: String,
    pub jwt_secret: Option<Secret>,
    pub api_keys: Vec<(String, String, String)>,
    pub model: String,
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
    /// The variable belongs to what this version has not got.
    #[error(
        "{name} ({meaning}) belongs to running on many machines, which this version does not do: unset it"
    )]
    Later {
        /// The variable.
        name: String,
        /// What it is for.
        meaning: &'static str,
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
    let known = VARIABLES.iter().filter(|variable| variable.kind != Kind::Later);
    Ok(known
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

/// Takes known variables, reads `…_FILE`, and refuses what is unknown or of the scale-out.
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
            Some(variable) if variable.kind == Kind::Later && !value.trim().is_empty() => {
                return Err(ConfigError::Later { name: name.clone(), meaning: variable.meaning });
            }
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
            None if name.starts_with("ECHO_") && !name.starts_with("ECHO_TEST_") => {
                let nearest = variables::nearest(name);
                return Err(ConfigError::Unknown { name: name.clone(), nearest });
            }
            None => {}
        }
    }
    Ok(known)
}

struct Reader {
    given: Given,
}

impl Reader {
    /// The value, or the default of an unset or empty variable.
    fn text(&self, name: &str) -> &str {
        let default = || VARIABLES.iter().find(|v| v.name == name).map_or("", |v| v.default);
        match self.given.get(name) {
            Some(value) if !value.is_empty() => value,
            _ => default(),
        }
    }

    fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let value = self.text(name);
        parse(value).ok_or_else(|| ConfigError::Value {
            variable: name.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        })
    }

    fn size(&self, name: &str) -> Result<u64, ConfigError> {
        self.parsed(name, "bytes, or a size such as 500MB", values::size_bytes)
    }

    fn duration(&self, name: &str) -> Result<Duration, ConfigError> {
        self.parsed(name, "seconds, or a time such as 15m or 7d", values::duration)
    }

    fn positive_duration(&self, name: &str) -> Result<Duration, ConfigError> {
        let fits = |text: &str| values::duration(text).filter(|time| !time.is_zero());
        self.parsed(name, "seconds above 0, or a time such as 15m", fits)
    }

    fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        self.parsed(name, "true or false", values::boolean)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, ConfigError> {
        self.parsed(name, "a whole number", |text| text.parse().ok())
    }

    fn count(&self, name: &str) -> Result<usize, ConfigError> {
        let fits = |text: &str| text.parse().ok().filter(|count| (1..=4096).contains(count));
        self.parsed(name, "a whole number from 1", fits)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|path| !path.is_empty()).map(Into::into)
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        let value = self.text(name);
        (!value.is_empty()).then(|| Secret::new(value))
    }

    fn list<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = |text: &str| {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(&parse).collect()
        };
        self.parsed(name, expected, items)
    }

    /// What Modal's endpoint asks for: its own pair of tokens, or else the one of Modal's API.
    fn modal_pair(&self) -> Option<(Secret, Secret)> {
        let pair = |key, secret| Some((self.secret(key)?, self.secret(secret)?));
        let own = pair("MODAL_PROXY_KEY", "MODAL_PROXY_SECRET");
        own.or_else(|| pair("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"))
    }

    fn jwt_secret(&self) -> Result<Option<Secret>, ConfigError> {
        let secret = self.secret("JWT_SECRET");
        match &secret {
            Some(secret) if secret.expose().len() < 32 => Err(ConfigError::Value {
                variable: "JWT_SECRET".to_owned(),
                value: "[secret]".to_owned(),
                expected: "32 bytes or more".to_owned(),
            }),
            _ => Ok(secret),
        }
    }

    fn database(&self) -> Result<Database, ConfigError> {
        let text = self.text("DATABASE_URL");
        values::database(text).ok_or_else(|| ConfigError::Value {
            variable: "DATABASE_URL".to_owned(),
            value: without_password(text),
            expected: "sqlite:///relative/path, sqlite:////absolute/path, sqlite:// or \
                postgresql://user:password@host:5432/name"
                .to_owned(),
        })
    }

    fn api_keys(&self) -> Result<Vec<(String, String, String)>, ConfigError> {
        let key = |item: &str| {
            let mut parts = item.split(':');
            let (tenant, hash) = (parts.next()?, parts.next()?.to_ascii_lowercase());
            let scopes = parts.next().unwrap_or("transcribe:write+transcribe:read");
            let is_digest = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            // Scopes have colons of their own.
            let rest: Vec<&str> = parts.collect();
            let scopes = [&[scopes], rest.as_slice()].concat().join(":").replace('+', " ");
            (!tenant.is_empty() && is_digest).then(|| (tenant.to_owned(), hash, scopes))
        };
        self.list("ECHO_API_KEYS", "tenant:sha256hex[:scopes], …", key).map_err(|_| {
            ConfigError::Value {
                variable: "ECHO_API_KEYS".to_owned(),
                value: "[secret]".to_owned(),
                expected: "tenant:sha256hex[:scope+scope], separated by commas".to_owned(),
            }
        })
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let port: u16 = self.number("PORT")?;
        let host: IpAddr = self.parsed("HOST", "an IP address", |text| text.parse().ok())?;
        let network = "networks such as 10.0.0.0/8, separated by commas";
        let app_url = match self.text("APP_URL") {
            "" => format!("http://localhost:{port}"),
            url => url.trim_end_matches('/').to_owned(),
        };
        Ok(Config {
            address: SocketAddr::new(host, port),
            app_url,
            upload_dir: PathBuf::from(self.text("UPLOAD_DIR")),
            max_file_bytes: self.size("MAX_FILE_SIZE")?,
            database: self.database()?,
            redis_url: self.text("REDIS_URL").to_owned(),
            jwt_secret: self.jwt_secret()?,
            api_keys: self.api_keys()?,
            model: self.text("ECHO_MODEL").to_owned(),
            model_dir: self.path("ECHO_MODEL_DIR"),
            device: self.parsed("ECHO_DEVICE", "auto, cpu, cuda or metal", |text| {
                text.parse::<echo_core::Device>().ok().map(|_| text.to_owned())
            })?,
            compute_type: self.parsed("ECHO_COMPUTE_TYPE", "auto, f32, f16 or bf16", |text| {
                text.parse::<echo_core::ComputeType>().ok().map(|_| text.to_owned())
            })?,
            worker_slots: self.count("ECHO_WORKER_SLOTS")?,
            worker_threads: self.number("ECHO_WORKER_THREADS")?,
            worker_memory_bytes: self.size("ECHO_WORKER_MEMORY")?,
            stall: self.positive_duration("ECHO_STALL_SECONDS")?,
            worker_secret: self.secret("ECHO_WORKER_SECRET"),
            lease: self.positive_duration("ECHO_LEASE_SECONDS")?,
            heartbeat: self.positive_duration("ECHO_HEARTBEAT_SECONDS")?,
            max_attempts: u32::try_from(self.count("ECHO_MAX_ATTEMPTS")?).unwrap_or(3),
            max_audio_seconds: self.positive_duration("ECHO_MAX_AUDIO_SECONDS")?.as_secs_f64(),
            max_concurrent_uploads: self.count("ECHO_MAX_CONCURRENT_UPLOADS")?,
            max_pending: self.number("ECHO_MAX_PENDING")?,
            tenant_max_pending: self.number("ECHO_TENANT_MAX_PENDING")?,
            submissions_per_minute: self.parsed(
                "ECHO_RATE_SUBMIT",
                "such as 60/m",
                values::per_minute,
            )?,
            reads_per_minute: self.parsed("ECHO_RATE_READ", "such as 600/m", values::per_minute)?,
            min_free_disk_bytes: self.size("ECHO_MIN_FREE_DISK")?,
            sync_timeout: self.positive_duration("ECHO_SYNC_TIMEOUT")?,
            is_cancelled_on_disconnect: self.boolean("ECHO_SYNC_CANCEL_ON_DISCONNECT")?,
            live_max: self.positive_duration("ECHO_LIVE_MAX_SECONDS")?,
            live_idle: self.positive_duration("ECHO_LIVE_IDLE_SECONDS")?,
            cache_ttl: self.positive_duration("ECHO_CACHE_TTL")?,
            is_cache_global: self.parsed("ECHO_CACHE_SCOPE", "tenant or global", |text| {
                matches!(text, "tenant" | "global").then_some(text == "global")
            })?,
            audio_ttl: self.duration("ECHO_AUDIO_TTL")?,
            result_ttl: self.duration("ECHO_RESULT_TTL")?,
            webhook_secret: self.secret("ECHO_WEBHOOK_SECRET"),
            master_key: self.secret("ECHO_MASTER_KEY"),
            fetch_timeout: self.positive_duration("ECHO_FETCH_TIMEOUT")?,
            fetch_allowed: self
                .list("ECHO_FETCH_ALLOW_CIDRS", network, |text| text.parse().ok())?,
            fetch_ports: self
                .list("ECHO_FETCH_PORTS", "ports separated by commas", |text| text.parse().ok())?,
            has_insecure_callbacks: self.boolean("ECHO_ALLOW_INSECURE_CALLBACKS")?,
            trusted_proxies: self
                .list("ECHO_TRUSTED_PROXIES", network, |text| text.parse().ok())?,
            cors_origins: self.list(
                "ECHO_CORS_ORIGINS",
                "origins such as https://app.example",
                |text| text.contains("://").then(|| text.trim_end_matches('/').to_owned()),
            )?,
            has_ui: self.boolean("ECHO_UI")?,
            has_public_docs: self.boolean("ECHO_DOCS_PUBLIC")?,
            drain_delay: self.duration("ECHO_DRAIN_DELAY")?,
            drain: self.duration("ECHO_DRAIN_SECONDS")?,
            is_migrated: self.boolean("ECHO_AUTO_MIGRATE")?,
            has_json_logs: self.parsed("ECHO_LOG_FORMAT", "text or json", |text| {
                matches!(text, "text" | "json").then_some(text == "json")
            })?,
            usd_per_hour: self.parsed("ECHO_GPU_USD_PER_HOUR", "dollars, 0 or more", |text| {
                text.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd >= 0.0)
            })?,
            queue: self.parsed(
                "ECHO_QUEUE",
                "embedded, nats, trigger or modal",
                |text| match text {
                    "embedded" => Some(Queue::Embedded),
                    "nats" => Some(Queue::Nats),
                    "trigger" => Some(Queue::Trigger),
                    "modal" => Some(Queue::Modal),
                    _ => None,
                },
            )?,
            nats_url: self.text("NATS_URL").to_owned(),
            nats_creds: self.path("NATS_CREDS"),
            nats_replicas: self.count("ECHO_NATS_REPLICAS")?,
            api_url: Some(self.text("ECHO_API_URL").trim_end_matches('/').to_owned())
                .filter(|url| !url.is_empty()),
            trigger_key: self.secret("TRIGGER_SECRET_KEY"),
            trigger_url: self.text("TRIGGER_API_URL").to_owned(),
            modal_url: Some(self.text("MODAL_WEBHOOK_URL").to_owned())
                .filter(|url| !url.is_empty()),
            modal_pair: self.modal_pair(),
        })
    }
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
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        assert_eq!(refused(&[("PORT", "http")]), "PORT is `http`, expected a whole number");
        let short = refused(&[("JWT_SECRET", "short")]);
        assert!(short.contains("JWT_SECRET") && !short.contains("short`"), "{short}");
        let typo = refused(&[("ECHO_MODLE", "base")]);
        assert!(typo.ends_with("did you mean ECHO_MODEL?"), "{typo}");
        for (name, value) in
            [("ECHO_STORAGE_URL", "s3://bucket"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")]
        {
            let refusal = refused(&[(name, value)]);
            assert!(refusal.contains(name) && refusal.contains("many machines"), "{refusal}");
        }
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
        let shown = format!(
            "{:?} {:?}",
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
