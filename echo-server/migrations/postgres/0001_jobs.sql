-- The `jobs` row is the only truth; everything else is its history or a consequence of it.
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending','processing','completed','failed','cancelled')),
  phase TEXT NOT NULL CHECK (phase IN ('fetch','run')),
  stage TEXT,
  progress DOUBLE PRECISION NOT NULL DEFAULT 0,
  priority BIGINT NOT NULL DEFAULT 0,
  options_json TEXT NOT NULL,
  source_json TEXT NOT NULL,
  callback_json TEXT,
  metadata_json TEXT NOT NULL DEFAULT '{}',
  external_id TEXT,
  blob_hash TEXT,
  size_bytes BIGINT,
  cache_key TEXT,
  leader_id TEXT,
  retry_of TEXT,
  attempt BIGINT NOT NULL DEFAULT 0,
  max_attempts BIGINT NOT NULL,
  epoch BIGINT NOT NULL DEFAULT 0,
  release_count BIGINT NOT NULL DEFAULT 0,
  lease_owner TEXT,
  lease_token_hash TEXT,
  lease_until BIGINT,
  -- How long the lease was given for: an outage of the database is made good by as much.
  lease_ms BIGINT NOT NULL DEFAULT 0,
  run_after BIGINT NOT NULL DEFAULT 0,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
  purge_requested BOOLEAN NOT NULL DEFAULT FALSE,
  commits BIGINT NOT NULL DEFAULT 0,
  cached BOOLEAN NOT NULL DEFAULT FALSE,
  error_json TEXT,
  usage_json TEXT,
  version BIGINT NOT NULL DEFAULT 1,
  created_at BIGINT NOT NULL,
  started_at BIGINT,
  finished_at BIGINT,
  purged_at BIGINT
);
CREATE INDEX jobs_queue ON jobs (state, phase, priority DESC, created_at);
CREATE INDEX jobs_tenant ON jobs (tenant_id, created_at DESC, id DESC);
CREATE INDEX jobs_tenant_state ON jobs (tenant_id, state);
CREATE INDEX jobs_lease ON jobs (lease_until) WHERE state = 'processing';
CREATE INDEX jobs_token ON jobs (lease_token_hash) WHERE lease_token_hash IS NOT NULL;
CREATE INDEX jobs_leader ON jobs (leader_id) WHERE leader_id IS NOT NULL;
CREATE INDEX jobs_cache ON jobs (cache_key) WHERE cache_key IS NOT NULL;
CREATE INDEX jobs_blob ON jobs (blob_hash) WHERE blob_hash IS NOT NULL;
-- The same sound with the same options runs once at a time.
CREATE UNIQUE INDEX jobs_leader_once ON jobs (cache_key)
  WHERE leader_id IS NULL AND NOT cancel_requested AND state IN ('pending','processing');

CREATE TABLE attempts (
  job_id TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  worker TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT,
  outcome TEXT,
  detail TEXT,
  PRIMARY KEY (job_id, epoch)
);

CREATE TABLE job_events (
  job_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  json TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (job_id, seq)
);

CREATE TABLE results (
  cache_key TEXT PRIMARY KEY,
  created_at BIGINT NOT NULL
);

CREATE TABLE deliveries (
  id TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  job_id TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  event TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending','delivered','failed','stopped')),
  tries BIGINT NOT NULL DEFAULT 0,
  next_at BIGINT,
  tries_json TEXT NOT NULL DEFAULT '[]',
  created_at BIGINT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_job ON deliveries (job_id);

CREATE TABLE idempotency (
  tenant_id TEXT NOT NULL,
  route TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT,
  response_json TEXT,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, route, key)
);

CREATE TABLE inbound_ids (
  id TEXT PRIMARY KEY,
  response_json TEXT NOT NULL,
  at BIGINT NOT NULL
);

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  name TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_used_at BIGINT,
  revoked_at BIGINT
);

CREATE TABLE audit (
  at BIGINT NOT NULL,
  tenant_id TEXT NOT NULL,
  subject TEXT NOT NULL,
  action TEXT NOT NULL,
  object TEXT,
  peer TEXT,
  request_id TEXT,
  outcome TEXT NOT NULL
);
