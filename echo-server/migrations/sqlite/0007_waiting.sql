-- The next job of each tenant is found without a look at the others, however many wait.
CREATE INDEX jobs_waiting
  ON jobs (phase, tenant_id, priority DESC, created_at, id, run_after, state, leader_id)
  WHERE state = 'pending' AND leader_id IS NULL;
CREATE INDEX jobs_state ON jobs (state);
DROP INDEX jobs_queue;
