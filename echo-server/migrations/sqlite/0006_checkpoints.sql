-- What the attempts of a job have done, part by part: the next one goes on from there. Only jobs that
-- are not over have any.
CREATE TABLE checkpoints (
  job_id TEXT NOT NULL,
  n INTEGER NOT NULL,
  reached_s REAL NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (job_id, n)
) STRICT;
-- How many segments were told of: an attempt that goes on says none of them again.
ALTER TABLE jobs ADD COLUMN segments_told INTEGER NOT NULL DEFAULT 0;
