-- The trace that a job is part of, as W3C Trace Context has it.
ALTER TABLE jobs ADD COLUMN traceparent TEXT;
