-- Counts without a column of their own: tokens by medium, cache writes by lifetime, searches; the service tier; a cost in
-- another currency (server/ingest/mapping/span_usage.py). Null for most spans.
ALTER TABLE llm_traces ADD COLUMN usage_details jsonb;
