-- Statements of ingestion besides writing spans.

-- name: project_ingest_settings
SELECT jsonb_strip_nulls(jsonb_build_object(
    'ingest', settings -> 'ingest', 'redaction', settings -> 'redaction', 'prices', settings -> 'prices'))::text
FROM projects
WHERE project_id = $1;

-- name: project_price_settings
SELECT (settings -> 'prices')::text FROM projects WHERE project_id = $1;

-- name: list_price_overrides
-- Oldest first, so that a later price of the same day comes after the earlier.
SELECT provider, model, valid_from, input_usd_per_mtok, output_usd_per_mtok, cache_read_usd_per_mtok,
       cache_write_usd_per_mtok, created_at, created_by
FROM price_overrides
WHERE project_id = $1
ORDER BY provider, model, valid_from;

-- name: hold_span_update
INSERT INTO span_updates AS u (project_id, trace_id, span_id, columns) VALUES ($1, $2, $3, $4)
ON CONFLICT (project_id, trace_id, span_id) DO UPDATE SET columns = added_up_columns(u.columns, excluded.columns);

-- name: list_held_span_updates
-- Updates whose span has come meanwhile, of every project: asked by the worker role. LATERAL with a LIMIT, because EXISTS
-- becomes a join, for which the planner (span_updates is empty most of the time) reads every span there is. {among}: a
-- condition on project_id (server/storage/living_nodes.py).
SELECT u.project_id, u.trace_id, u.span_id, u.columns
FROM span_updates u
CROSS JOIN LATERAL (
    SELECT FROM trace_summaries s
    JOIN llm_traces t ON t.project_id = s.project_id AND t.trace_id = s.trace_id AND t.ts BETWEEN s.start_ts AND s.end_ts
    WHERE s.project_id = u.project_id AND s.trace_id = u.trace_id AND t.span_id = u.span_id
      AND s.project_id {among} AND t.project_id {among}
    LIMIT 1
) AS stored
WHERE u.project_id {among}
ORDER BY u.received_at
LIMIT 500;

-- name: forget_span_update
DELETE FROM span_updates WHERE project_id = $1 AND trace_id = $2 AND span_id = $3;

-- name: forget_old_span_updates
-- {among}: as above.
DELETE FROM span_updates WHERE received_at < $1 AND project_id {among};

-- name: read_stored_span
-- One span with all columns of llm_traces that a SpanRecord has, and its version; its content, whatever the layout.
SELECT t.*, CASE WHEN t.more_parts > 0 THEN shared_attributes(t.project_id, t.ts, t.attributes,
                  t.parts[cardinality(t.parts) - t.more_parts + 1:]) ELSE t.attributes END AS whole_attributes,
       CASE WHEN t.resource_id IS NULL THEN t.resource_attributes
            ELSE shared_resource(t.project_id, t.resource_id) END AS whole_resource_attributes,
       coalesce(t.input_text, shared_text(t.project_id, t.ts, t.parts[1:t.input_parts])) AS whole_input_text,
       coalesce(t.input_messages, shared_messages(t.project_id, t.ts, t.parts[1:t.input_parts])) AS whole_input_messages,
       coalesce(t.output_text, CASE WHEN t.result_alone THEN shared_result(t.project_id, t.ts, t.parts[t.input_parts + 1])
           ELSE shared_text(t.project_id, t.ts, t.parts[t.input_parts + 1:cardinality(t.parts) - coalesce(t.more_parts, 0)]) END) AS whole_output_text,
       coalesce(t.output_messages, CASE WHEN t.result_alone IS NOT TRUE THEN
           shared_answers(t.project_id, t.ts, t.parts[t.input_parts + 1:cardinality(t.parts) - coalesce(t.more_parts, 0)],
                          CASE WHEN t.states_finish THEN t.finish_reason END) END) AS whole_output_messages
FROM trace_summaries s
JOIN llm_traces t ON t.project_id = s.project_id AND t.trace_id = s.trace_id AND t.ts BETWEEN s.start_ts AND s.end_ts
WHERE s.project_id = $1 AND s.trace_id = $2 AND t.span_id = $3
LIMIT 1;

-- name: delete_trace_vectors
WITH gone AS (
    DELETE FROM span_vectors WHERE project_id = $1 AND trace_id = ANY ($2::text[])
    RETURNING model_id, ts, bits IS NOT NULL AS counts
)
INSERT INTO vector_counts (project_id, model_id, hour, vectors)
SELECT $1, model_id, date_trunc('hour', ts, 'UTC'), -count(*) FROM gone WHERE counts GROUP BY 1, 2, 3
RETURNING 1;

-- name: delete_trace_scores
DELETE FROM scores WHERE project_id = $1 AND trace_id = ANY ($2::text[]);

-- name: delete_trace_updates
DELETE FROM span_updates WHERE project_id = $1 AND trace_id = ANY ($2::text[]);

-- name: trace_exists
SELECT true FROM trace_summaries WHERE project_id = $1 AND trace_id = $2;

-- name: store_ingest_settings
UPDATE projects
SET settings = jsonb_strip_nulls(settings || jsonb_build_object(
    'ingest', $2::jsonb, 'redaction', $3::jsonb, 'prices', $4::jsonb))
WHERE project_id = $1 AND deleted_at IS NULL
RETURNING 1;

-- name: settle_text_index
SELECT settle_text_index();
