-- A trace whose root never came has the name of its earliest span (span_changes.sql); the traces that are there, too.
UPDATE trace_summaries s
SET root_span_name = (
    SELECT t.span_name
    FROM llm_traces t
    WHERE t.project_id = s.project_id AND t.trace_id = s.trace_id AND t.ts = s.start_ts
    ORDER BY t.span_id
    LIMIT 1
)
WHERE s.root_span_name IS NULL;
