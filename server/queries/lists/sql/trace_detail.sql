-- One trace: its summary, its spans, and the scores of traces.

-- name: find_trace
-- The trace $2 in the projects $1. Two rows at most: more than one means that the id is not unique there.
SELECT project_id, trace_id, start_ts, end_ts, root_span_id, root_span_name, service_name, environment,
       session_id, user_id, span_count, generation_count, error_count,
       prompt_tokens, completion_tokens, total_tokens, total_cost_usd
FROM trace_summaries
WHERE project_id = ANY($1::text[]) AND trace_id = $2
ORDER BY start_ts, project_id
LIMIT 2;

-- name: list_trace_nodes
-- Input of the tree: ids, start, and the stored size of the payloads ($5 spans at most).
-- The bounds $3 and $4 are the trace's own, so that only its partitions are looked at.
SELECT t.span_id, t.parent_span_id, t.ts,
       coalesce(pg_column_size(t.input_text), 0) + coalesce(pg_column_size(t.input_messages), 0)
       + coalesce(pg_column_size(t.output_text), 0) + coalesce(pg_column_size(t.output_messages), 0)
       + coalesce(t.content_bytes, 0) + pg_column_size(t.attributes) + pg_column_size(t.events) AS size
FROM llm_traces AS t
WHERE t.project_id = $1 AND t.trace_id = $2 AND t.ts BETWEEN $3 AND $4
ORDER BY t.ts, t.span_id
LIMIT $5;

-- name: list_trace_spans
-- The spans $5 of a trace. {columns} is made from the table of fields.
SELECT t.span_id AS at_id, t.ts AS at_ts, {columns}
FROM llm_traces AS t
WHERE t.project_id = $1 AND t.trace_id = $2 AND t.ts BETWEEN $3 AND $4 AND t.span_id = ANY($5::text[]);

-- name: list_trace_scores
-- Scores of the traces $2 and of their spans, oldest first, $3 at most.
SELECT score_id, trace_id, span_id, name, data_type, value, string_value, source, comment, ts, created_by
FROM scores
WHERE project_id = $1 AND trace_id = ANY($2::text[])
ORDER BY ts, score_id
LIMIT $3;

-- name: list_scores_until
-- Scores of the traces $2 that were added until $3, and of their spans, oldest first, $4 of each trace at most.
SELECT s.*
FROM unnest($2::text[]) AS asked (trace_id)
CROSS JOIN LATERAL (
    SELECT score_id, trace_id, span_id, name, data_type, value, string_value, source, comment, ts, created_by
    FROM scores
    WHERE project_id = $1 AND trace_id = asked.trace_id AND created_at <= $3
    ORDER BY ts, score_id
    LIMIT $4
) AS s;
