-- Which span counts for a call, by which rule (server/ingest/mapping/call_counting.py). Rows that are there keep what was
-- decided when they came, by is_generation; the rule is null. A decision is made anew when a further span of
-- the trace comes.
ALTER TABLE llm_traces
    ADD COLUMN count_rule smallint,
    ADD COLUMN counted_in text,
    -- What the row took from another report of the call: {"user_id": "span id", …}.
    ADD COLUMN inherited jsonb;
