-- Jobs that were asked for together; a batch is complete when none of them is open.
CREATE TABLE batches (
  id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  callback_json TEXT,
  traceparent TEXT,
  created_at BIGINT NOT NULL,
  completed_at BIGINT
);
ALTER TABLE jobs ADD COLUMN batch_id TEXT;
CREATE INDEX jobs_batch ON jobs (batch_id) WHERE batch_id IS NOT NULL;
-- A delivery that is about a batch has its id here and as its `job_id`.
ALTER TABLE deliveries ADD COLUMN batch_id TEXT;
