-- When a waiting job was announced to a queue; nobody was told of it yet if it is not set.
ALTER TABLE jobs ADD COLUMN announced_at INTEGER;
CREATE INDEX jobs_outbox ON jobs (priority DESC, created_at)
  WHERE state = 'pending' AND announced_at IS NULL;
