-- The `jobs` row is the only truth; everything else is its history or a consequence of it.
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending','processing','completed','failed','cancelled')),
  phase TEXT NOT NULL CHECK (phase IN ('fetch','run')),
  stage TEXT,
  progress REAL NOT NULL DEFAULT 0,
  priority INTEGER NOT NULL DEFAULT 0,
  options_json TEXT NOT NULL,
  source_json TEXT NOT NULL,
  callback_json TEXT,
  metadata_json TEXT NOT NULL DEFAULT '{}',
  external_id TEXT,
  blob_hash TEXT,
  size_bytes INTEGER,
  cache_key TEXT,
  leader_id TEXT,
  retry_of TEXT,
  attempt INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  epoch INTEGER NOT NULL DEFAULT 0,
  release_count INTEGER NOT NULL DEFAULT 0,
  lease_owner TEXT,
  lease_token_hash TEXT,
  lease_until INTEGER,
  run_after INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  purge_requested INTEGER NOT NULL DEFAULT 0,
  commits INTEGER NOT NULL DEFAULT 0,
  cached INTEGER NOT NULL DEFAULT 0,
  error_json TEXT,
  usage_json TEXT,
  version INTEGER NOT NULL DEFAULT 1,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  purged_at INTEGER
) STRICT;
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
  WHERE leader_id IS NULL AND cancel_requested = 0 AND state IN ('pending','processing');

CREATE TABLE attempts (
  job_id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  worker TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  outcome TEXT,
  detail TEXT,
  PRIMARY KEY (job_id, epoch)
) STRICT;

CREATE TABLE job_events (
  job_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  json TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE results (
  cache_key TEXT PRIMARY KEY,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
  id TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  job_id TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  event TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending','delivered','failed','stopped')),
  tries INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER,
  tries_json TEXT NOT NULL DEFAULT '[]',
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_job ON deliveries (job_id);

CREATE TABLE idempotency (
  tenant_id TEXT NOT NULL,
  route TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT,
  response_json TEXT,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, route, key)
) STRICT;

CREATE TABLE inbound_ids (
  id TEXT PRIMARY KEY,
  response_json TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  name TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  last_used_at INTEGER,
  revoked_at INTEGER
) STRICT;

CREATE TABLE audit (
  at INTEGER NOT NULL,
  tenant_id TEXT NOT NULL,
  subject TEXT NOT NULL,
  action TEXT NOT NULL,
  object TEXT,
  peer TEXT,
  request_id TEXT,
  outcome TEXT NOT NULL
) STRICT;
