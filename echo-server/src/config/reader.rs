//! From texts to values: what fits each variable, and what is said when it does not.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    BucketSettings, Config, ConfigError, Database, Given, Queue, Storage, VARIABLES, values,
    without_password,
};
use crate::outbound::Url;
use crate::secrets::Secret;

/// Variables that are known, as texts.
pub(super) struct Reader {
    pub(super) given: Given,
}

impl Reader {
    /// The value, or the default of an unset or empty variable.
    pub(super) fn text(&self, name: &str) -> &str {
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

    fn metrics_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let fits = |text: &str| match text {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        };
        self.parsed("ECHO_METRICS_ADDR", "an address such as 127.0.0.1:9464, or nothing", fits)
    }

    /// More at once than processors get done make every other request wait for its turn.
    fn concurrent_uploads(&self) -> Result<usize, ConfigError> {
        let fits = |text: &str| text.parse().ok().filter(|count: &usize| *count <= 4096);
        let count = self.parsed("ECHO_MAX_CONCURRENT_UPLOADS", "a whole number to 4096", fits)?;
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(if count > 0 { count } else { (12 * processors()).min(64) })
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

    fn collector_url(&self) -> Result<Option<String>, ConfigError> {
        let url = |text: &str| match text {
            "" => Some(None),
            text => Url::parse(text).map(|_| Some(text.trim_end_matches('/').to_owned())),
        };
        self.parsed("OTEL_EXPORTER_OTLP_ENDPOINT", "such as http://localhost:4318", url)
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

    /// Where things are kept, with what AWS's own variables say of it.
    fn storage(&self) -> Result<Storage, ConfigError> {
        let text = self.text("ECHO_STORAGE_URL");
        if text.is_empty() {
            return Ok(Storage::Folder);
        }
        let (name, prefix) = values::bucket(text).ok_or_else(|| ConfigError::Value {
            variable: "ECHO_STORAGE_URL".to_owned(),
            value: without_password(text),
            expected: "s3://bucket or s3://bucket/prefix; without it UPLOAD_DIR is used".to_owned(),
        })?;
        if self.size("MAX_FILE_SIZE")? > values::MAX_COPY_BYTES {
            return Err(ConfigError::Value {
                variable: "MAX_FILE_SIZE".to_owned(),
                value: self.text("MAX_FILE_SIZE").to_owned(),
                expected: "at most 5GB with ECHO_STORAGE_URL".to_owned(),
            });
        }
        let own =
            self.given.iter().filter(|(name, text)| name.starts_with("AWS_") && !text.is_empty());
        let variables = own.map(|(name, text)| (name.clone(), Secret::new(text))).collect();
        Ok(Storage::Bucket(BucketSettings { name, prefix, variables }))
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

    /// All of them, each checked.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let port: u16 = self.number("PORT")?;
        let host: IpAddr = self.parsed("HOST", "an IP address", |text| text.parse().ok())?;
        let network = "networks such as 10.0.0.0/8, separated by commas";
        let app_url = match self.text("APP_URL") {
            "" => format!("http://localhost:{port}"),
            url => url.trim_end_matches('/').to_owned(),
        };
        Ok(Config {
            address: SocketAddr::new(host, port),
            metrics_address: self.metrics_address()?,
            app_url,
            upload_dir: PathBuf::from(self.text("UPLOAD_DIR")),
            storage: self.storage()?,
            max_file_bytes: self.size("MAX_FILE_SIZE")?,
            database: self.database()?,
            redis_url: self.text("REDIS_URL").to_owned(),
            jwt_secret: self.jwt_secret()?,
            api_keys: self.api_keys()?,
            model: self.text("ECHO_MODEL").to_owned(),
            diarization_model: self.text("ECHO_DIARIZATION_MODEL").to_owned(),
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
            checkpoint: self.duration("ECHO_CHECKPOINT_SECONDS")?,
            max_audio_seconds: self.positive_duration("ECHO_MAX_AUDIO_SECONDS")?.as_secs_f64(),
            max_concurrent_uploads: self.concurrent_uploads()?,
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
            collector_url: self.collector_url()?,
        })
    }
}
