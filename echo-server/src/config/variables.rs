//! Every environment variable that the server knows, with its default and what it means.

/// One variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value it has when it is not set.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// How it is treated.
    pub kind: Kind,
}

/// How a variable is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shown as it is.
    Plain,
    /// Never shown; `NAME_FILE` names a file that holds it.
    Secret,
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, kind: Kind::Plain }
}

const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: "", meaning, kind: Kind::Secret }
}

/// All of them, in the order of `.env.example`.
pub const VARIABLES: &[Variable] = &[
    plain("PORT", "8000", "port of the API"),
    plain("APP_URL", "", "public address for links; default http://localhost:PORT"),
    secret("MODAL_TOKEN_ID", "Modal's API token"),
    secret("MODAL_TOKEN_SECRET", "Modal's API token"),
    plain("MODAL_WEBHOOK_URL", "", "Modal's endpoint that receives jobs: see echo-server/deploy"),
    secret("TRIGGER_SECRET_KEY", "Trigger.dev's key"),
    plain("TRIGGER_PROJECT_ID", "", "Trigger.dev's project, for deploying its task"),
    plain("UPLOAD_DIR", "./uploads", "folder of sound and results"),
    plain("MAX_FILE_SIZE", "500MB", "largest file taken; KB, MB, GB are powers of 1024"),
    plain(
        "DATABASE_URL",
        "sqlite:///./transcriptions.db",
        "sqlite with three slashes: relative path, four: absolute; or postgresql://user:password@host/name",
    ),
    plain(
        "REDIS_URL",
        "redis://redis:6379",
        "cache of results; unreachable is no error, memory is used",
    ),
    secret("JWT_SECRET", "set: requests need a bearer token (HS256, 32 bytes or more)"),
    plain("HOST", "127.0.0.1", "address to listen on"),
    plain(
        "ECHO_MODEL",
        "base",
        "model of the workers: a catalogue name, hub repository, folder or file",
    ),
    plain(
        "ECHO_DIARIZATION_MODEL",
        "campplus",
        "what tells speakers apart: campplus, community-1 (HF_TOKEN fetches it), or a hub repository or folder laid out as it",
    ),
    plain("ECHO_MODEL_DIR", "", "folder of models; default the user's cache"),
    plain("ECHO_DEVICE", "auto", "auto, cpu, cuda or metal"),
    plain("ECHO_COMPUTE_TYPE", "auto", "number format: auto, f32, f16, bf16"),
    plain("ECHO_WORKER_SLOTS", "1", "worker processes"),
    plain("ECHO_WORKER_THREADS", "0", "threads of each worker; 0 is one a processor"),
    plain("ECHO_WORKER_MEMORY", "0", "address space of a worker, such as 8GB; 0 is no limit"),
    plain("ECHO_STALL_SECONDS", "600", "a worker that makes no progress for so long is killed"),
    secret(
        "ECHO_WORKER_SECRET",
        "signs POST /api/v1/webhooks/transcription; made and kept in UPLOAD_DIR if not set",
    ),
    plain("ECHO_LEASE_SECONDS", "60", "a lease that is not renewed for so long is lost"),
    plain("ECHO_HEARTBEAT_SECONDS", "15", "how often workers renew their lease"),
    plain("ECHO_MAX_ATTEMPTS", "3", "attempts at a job, counted before they are made"),
    plain(
        "ECHO_CHECKPOINT_SECONDS",
        "300",
        "seconds of sound after which a worker hands in what is done, for the next attempt; 0 is never",
    ),
    plain("ECHO_MAX_AUDIO_SECONDS", "43200", "longest sound taken"),
    plain(
        "ECHO_MAX_CONCURRENT_UPLOADS",
        "0",
        "bodies read at once; more wait; 0 is 12 a processor, 64 at most",
    ),
    plain("ECHO_MAX_PENDING", "1000", "jobs that may wait, of all tenants"),
    plain(
        "ECHO_TENANT_MAX_PENDING",
        "100",
        "jobs of one tenant that may wait or run; only where requests are authenticated",
    ),
    plain(
        "ECHO_RATE_SUBMIT",
        "60/m",
        "submissions of a tenant; 0 is no limit; only where requests are authenticated",
    ),
    plain(
        "ECHO_RATE_READ",
        "600/m",
        "other requests of a tenant; 0 is no limit; only where requests are authenticated",
    ),
    plain("ECHO_MIN_FREE_DISK", "1GB", "below it uploads are refused with 507"),
    plain("ECHO_SYNC_TIMEOUT", "600", "longest wait of /v1/audio requests, in seconds"),
    plain(
        "ECHO_SYNC_CANCEL_ON_DISCONNECT",
        "true",
        "a job of /v1/audio is cancelled when its client has gone",
    ),
    plain("ECHO_LIVE_MAX_SECONDS", "3600", "longest live session"),
    plain("ECHO_LIVE_IDLE_SECONDS", "30", "a live session without sound for so long is closed"),
    plain("ECHO_CACHE_TTL", "86400", "seconds that Redis keeps a result"),
    plain("ECHO_CACHE_SCOPE", "tenant", "who shares results of equal sound: tenant or global"),
    plain("ECHO_AUDIO_TTL", "7d", "sound is erased so long after its job ended; 0 keeps it"),
    plain(
        "ECHO_RESULT_TTL",
        "30d",
        "results are erased so long after their job ended; 0 keeps them",
    ),
    secret(
        "ECHO_API_KEYS",
        "tenant:sha256hex[:scope+scope], separated by commas; `echo-server token` makes them",
    ),
    secret(
        "ECHO_WEBHOOK_SECRET",
        "signs outbound webhooks; made and kept in UPLOAD_DIR if not set",
    ),
    secret(
        "ECHO_MASTER_KEY",
        "seals secrets of jobs in the database; made and kept in UPLOAD_DIR if not set",
    ),
    plain("ECHO_FETCH_TIMEOUT", "1800", "longest download of a source, in seconds"),
    plain(
        "ECHO_FETCH_ALLOW_CIDRS",
        "",
        "private networks that sources and callbacks may be in, separated by commas",
    ),
    plain("ECHO_FETCH_PORTS", "80,443,8080,8443", "ports that sources and callbacks may have"),
    plain("ECHO_ALLOW_INSECURE_CALLBACKS", "false", "whether callbacks may be plain http"),
    plain(
        "ECHO_TRUSTED_PROXIES",
        "",
        "networks whose X-Forwarded-For is believed, separated by commas",
    ),
    plain(
        "ECHO_CORS_ORIGINS",
        "",
        "origins of other pages that may call the API, separated by commas",
    ),
    plain("ECHO_UI", "true", "whether the web page is served at /"),
    plain("ECHO_DOCS_PUBLIC", "true", "whether /openapi.json and /docs need no token"),
    plain("ECHO_DRAIN_DELAY", "5", "seconds between not being ready and refusing uploads"),
    plain(
        "ECHO_DRAIN_SECONDS",
        "110",
        "seconds that running jobs get to finish before they are released",
    ),
    plain("ECHO_AUTO_MIGRATE", "true", "whether the schema is brought up to date at start"),
    plain("ECHO_LOG_FORMAT", "text", "text or json"),
    plain(
        "ECHO_GPU_USD_PER_HOUR",
        "0",
        "what an hour of work costs, for /api/v1/usage and metrics",
    ),
    plain("ECHO_CACHE", "", "folder of models, as for echo-asr"),
    plain("ECHO_CPU", "", "caps the instruction set, as for echo-asr"),
    plain(
        "ECHO_QUEUE",
        "embedded",
        "embedded: workers are processes of the server; nats: `echo-server worker` on any machine; \
         trigger, modal: see echo-server/deploy",
    ),
    plain("NATS_URL", "nats://127.0.0.1:4222", "NATS server with JetStream"),
    plain("NATS_CREDS", "", "file of NATS credentials"),
    plain("ECHO_NATS_REPLICAS", "1", "replicas of the stream of jobs"),
    plain("TRIGGER_API_URL", "https://api.trigger.dev", "Trigger.dev's address"),
    secret("MODAL_PROXY_KEY", "token of Modal's endpoint; default MODAL_TOKEN_ID"),
    secret("MODAL_PROXY_SECRET", "token of Modal's endpoint; default MODAL_TOKEN_SECRET"),
    plain(
        "ECHO_STORAGE_URL",
        "",
        "s3://bucket/prefix keeps sound and results in S3, or what speaks its protocol; default UPLOAD_DIR",
    ),
    plain("AWS_ACCESS_KEY_ID", "", "key of the bucket; default the machine's own role"),
    secret("AWS_SECRET_ACCESS_KEY", "key of the bucket"),
    secret("AWS_SESSION_TOKEN", "key of the bucket that ends"),
    plain("AWS_REGION", "", "region of the bucket; default us-east-1"),
    plain("AWS_ENDPOINT_URL", "", "address of a service other than Amazon's"),
    plain("AWS_ALLOW_HTTP", "", "true: that address may be plain http"),
    plain("AWS_CA_BUNDLE", "", "file of certificates in PEM that are believed, too"),
    plain("ECHO_API_URL", "", "where `echo-server worker` reaches the API"),
    plain(
        "ECHO_METRICS_ADDR",
        "",
        "address such as 127.0.0.1:9464 that tells /metrics to everybody; the main one asks for the scope admin",
    ),
    plain(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "collector of traces (OTLP, http/protobuf), such as http://localhost:4318; other OTEL_ variables as usual",
    ),
];

/// The known variable nearest to a misspelt one.
pub(super) fn nearest(name: &str) -> &'static str {
    let best =
        VARIABLES.iter().map(|variable| variable.name).min_by_key(|known| distance(known, name));
    best.unwrap_or("PORT")
}

/// Letters to insert, delete or change to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_near_the_right_one() {
        assert_eq!(nearest("ECHO_MODLE"), "ECHO_MODEL");
        assert_eq!(nearest("ECHO_MAX_PENDNG"), "ECHO_MAX_PENDING");
    }
}
