-- How often a tenant's secret of callbacks was changed; the secret itself is kept nowhere.
CREATE TABLE webhook_rotations (
  tenant_id TEXT PRIMARY KEY,
  count BIGINT NOT NULL,
  at BIGINT NOT NULL
);
-- For the list of workers.
CREATE INDEX attempts_started ON attempts (started_at);
CREATE INDEX attempts_open ON attempts (worker) WHERE ended_at IS NULL;
