-- Counting calls again if a trace comes in pieces (server/ingest/writing/stored_counts.py). Runs after the
-- summaries of the traces are written, which locks them: what is read holds every committed span of other writers.

-- name: list_changed_traces
-- Traces of which a version of a span went.
SELECT DISTINCT project_id, trace_id FROM pg_temp.span_changes WHERE sign < 0;

-- name: list_reports_to_count
-- The data of the decision: spans of the traces $2 of the projects $1 (pair by pair) that report a call or usage.
-- A row from before the rules has no count_rule; it reports if it was counted.
SELECT t.project_id, t.trace_id, t.span_id, t.parent_span_id, t.ts, t.duration_ms, t.span_kind, t.operation_type,
       t.is_generation, t.count_rule, t.counted_in, t.inherited, t.model, t.prompt_tokens, t.completion_tokens,
       t.total_tokens, coalesce(t.total_cost_usd > 0, false) AS has_cost,
       coalesce(t.total_cost_usd > 0 AND t.cost_source = 'reported', false) AS is_billed, t.provider, t.service_name, t.environment,
       t.status_code, t.error_type, t.finish_reason, t.agent_name, t.tool_name, t.prompt_name, t.prompt_version,
       t.user_id, t.session_id, t.tags,
       coalesce(t.cached_tokens, 0) + coalesce(t.cache_write_tokens, 0) AS cache_tokens,
       t.attributes ->> 'gen_ai.response.id' AS response_id,
       CASE WHEN t.count_rule > 8
           THEN coalesce(t.attributes ->> 'mcp.tool.name', t.attributes ->> 'gen_ai.tool.name') END AS tool_called,
       t.attributes ->> 'otel.scope.name' AS scope,
       t.input_text IS NOT NULL OR t.input_messages IS NOT NULL OR coalesce(t.input_parts > 0, false) AS has_input,
       t.output_text IS NOT NULL OR t.output_messages IS NOT NULL
       OR coalesce(cardinality(t.parts) - coalesce(t.more_parts, 0) > t.input_parts, false) AS has_output
FROM unnest($1::text[], $2::text[]) AS k (project_id, trace_id)
JOIN trace_summaries s ON s.project_id = k.project_id AND s.trace_id = k.trace_id
JOIN llm_traces t ON t.project_id = k.project_id AND t.trace_id = k.trace_id AND t.ts BETWEEN s.start_ts AND s.end_ts
WHERE t.count_rule IS NOT NULL OR t.is_generation OR t.span_id = ANY ($3::text[]);

-- name: list_spans_between
-- The other spans of these traces: what may lie between two reports, or lends its user (1), session (2), tags (4) or
-- agent (8) to those below. One row a trace, since there are many and only their place is asked for; of agents and tools
-- also when they ran and who told of them.
SELECT k.project_id, k.trace_id, array_agg(t.span_id) AS span_ids, array_agg(t.parent_span_id) AS parents,
       array_agg(t.operation_type) AS operations,
       array_agg(CASE t.operation_type WHEN 'tool' THEN t.tool_name WHEN 'agent' THEN t.agent_name END) AS names,
       array_agg(CASE WHEN t.operation_type IN ('agent', 'tool') THEN t.attributes ->> 'otel.scope.name' END) AS scopes,
       array_agg(CASE WHEN t.operation_type IN ('agent', 'tool')
                      THEN (extract(epoch FROM t.ts) * 1000000)::bigint END) AS starts,
       array_agg(CASE WHEN t.operation_type IN ('agent', 'tool')
                      THEN round(t.duration_ms * 1000)::bigint END) AS lengths,
       array_agg((t.user_id <> '' IS TRUE)::int + 2 * (t.session_id <> '' IS TRUE)::int
                 + 4 * (cardinality(t.tags) > 0)::int + 8 * (t.agent_name <> '' IS TRUE)::int) AS lent
FROM unnest($1::text[], $2::text[]) AS k (project_id, trace_id)
JOIN trace_summaries s ON s.project_id = k.project_id AND s.trace_id = k.trace_id
JOIN llm_traces t ON t.project_id = k.project_id AND t.trace_id = k.trace_id AND t.ts BETWEEN s.start_ts AND s.end_ts
WHERE t.count_rule IS NULL AND NOT t.is_generation AND t.span_id <> ALL ($3::text[])
GROUP BY k.project_id, k.trace_id;

-- name: read_lent_identities
-- The identity of the spans $3 of the traces $2 of the projects $1, element by element.
SELECT t.project_id, t.trace_id, t.span_id, t.user_id, t.session_id, t.tags, t.agent_name
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (project_id, trace_id, span_id)
JOIN trace_summaries s ON s.project_id = k.project_id AND s.trace_id = k.trace_id
JOIN llm_traces t ON t.project_id = k.project_id AND t.trace_id = k.trace_id AND t.span_id = k.span_id
                 AND t.ts BETWEEN s.start_ts AND s.end_ts;

-- name: read_span_contents
-- The words of the spans $3 of the traces $2 of the projects $1, element by element.
SELECT t.project_id, t.trace_id, t.span_id, t.input_type,
       coalesce(t.input_text, shared_text(t.project_id, t.ts, t.parts[1:t.input_parts])) AS input_text,
       coalesce(t.input_messages, shared_messages(t.project_id, t.ts, t.parts[1:t.input_parts])) AS input_messages,
       coalesce(t.output_text, CASE WHEN t.result_alone THEN shared_result(t.project_id, t.ts, t.parts[t.input_parts + 1])
           ELSE shared_text(t.project_id, t.ts, t.parts[t.input_parts + 1:cardinality(t.parts) - coalesce(t.more_parts, 0)]) END) AS output_text,
       coalesce(t.output_messages, CASE WHEN t.result_alone IS NOT TRUE THEN
           shared_answers(t.project_id, t.ts, t.parts[t.input_parts + 1:cardinality(t.parts) - coalesce(t.more_parts, 0)],
                          CASE WHEN t.states_finish THEN t.finish_reason END) END) AS output_messages
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS k (project_id, trace_id, span_id, ts)
JOIN llm_traces t ON t.project_id = k.project_id AND t.trace_id = k.trace_id AND t.span_id = k.span_id AND t.ts = k.ts;

-- name: store_counts
-- Decisions and what counted spans take from other reports, as JSON objects. A row whose takes_identity (takes_content)
-- is false keeps those columns, one without an operation_type keeps it and its tool_name. tool_told: the attribute in
-- which a further report of a tool keeps its name.
WITH decided AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS d (
        project_id text, trace_id text, span_id text, ts timestamptz, is_generation boolean, count_rule smallint,
        counted_in text, inherited jsonb, dim_id integer, takes_identity boolean, user_id text, session_id text,
        tags text[], agent_name text, prompt_name text, prompt_version text, takes_content boolean, input_type text,
        input_text text, input_messages jsonb, output_text text, output_messages jsonb, search_text text,
        operation_type text, tool_name text, tool_told jsonb
    )
),
written AS (
    UPDATE llm_traces t SET
        is_generation = d.is_generation, count_rule = d.count_rule, counted_in = d.counted_in, dim_id = d.dim_id,
        inherited = d.inherited,
        operation_type = coalesce(d.operation_type, t.operation_type),
        tool_name = CASE WHEN d.operation_type IS NULL THEN t.tool_name ELSE d.tool_name END,
        attributes = CASE WHEN d.tool_told IS NULL THEN t.attributes
            ELSE t.attributes || d.tool_told END,
        user_id = CASE WHEN d.takes_identity THEN d.user_id ELSE t.user_id END,
        session_id = CASE WHEN d.takes_identity THEN d.session_id ELSE t.session_id END,
        tags = CASE WHEN d.takes_identity THEN d.tags ELSE t.tags END,
        agent_name = CASE WHEN d.takes_identity THEN d.agent_name ELSE t.agent_name END,
        prompt_name = CASE WHEN d.takes_identity THEN d.prompt_name ELSE t.prompt_name END,
        prompt_version = CASE WHEN d.takes_identity THEN d.prompt_version ELSE t.prompt_version END,
        input_type = CASE WHEN d.takes_content THEN d.input_type ELSE t.input_type END,
        input_text = CASE WHEN d.takes_content THEN d.input_text ELSE t.input_text END,
        input_messages = CASE WHEN d.takes_content THEN d.input_messages ELSE t.input_messages END,
        output_text = CASE WHEN d.takes_content THEN d.output_text ELSE t.output_text END,
        output_messages = CASE WHEN d.takes_content THEN d.output_messages ELSE t.output_messages END,
        -- Content that is taken from several spans is stored in this row; the trigger note_content_of_update does the rest.
        parts = CASE WHEN d.takes_content THEN NULL ELSE t.parts END,
        search_vector =
            CASE WHEN d.takes_content THEN to_tsvector('simple', coalesce(d.search_text, '')) ELSE t.search_vector END
    FROM decided d
    WHERE t.project_id = d.project_id AND t.trace_id = d.trace_id AND t.span_id = d.span_id AND t.ts = d.ts
    RETURNING
        $columns(span_change, old.* AS old_*), new.is_generation AS new_is_generation, new.dim_id AS new_dim_id,
        new.session_id AS new_session_id, new.user_id AS new_user_id
)
INSERT INTO pg_temp.span_changes (
    pass, sign, $columns(span_change)
)
SELECT
    2, v.sign, old_project_id, old_ts, old_trace_id, old_span_id, old_parent_span_id, old_span_name, v.dim_id,
    v.is_generation, old_status_code, old_service_name, old_environment, v.session_id, v.user_id, old_prompt_tokens,
    old_completion_tokens, old_total_tokens, old_cached_tokens, old_cache_write_tokens, old_reasoning_tokens,
    old_prompt_cost_usd, old_completion_cost_usd, old_total_cost_usd, old_cache_savings_usd, old_duration_ms,
    old_ttft_ms
FROM written
CROSS JOIN LATERAL (
    VALUES (-1, old_dim_id, old_is_generation, old_session_id, old_user_id),
           (1, new_dim_id, new_is_generation, new_session_id, new_user_id)
) AS v (sign, dim_id, is_generation, session_id, user_id)
RETURNING sign;

-- name: note_responses
-- Notes that the answers $2 were reported in the traces $3 of the projects $1, and returns the notes that came to name
-- several traces. One that names more than $4 tells nothing, and is left as it is.
WITH noted AS (
    INSERT INTO response_notes AS n (project_id, response, traces)
    SELECT k.project_id, hashtextextended(k.response_id, 0), (array_agg(DISTINCT k.trace_id))[:$4::integer + 1]
    FROM unnest($1::text[], $2::text[], $3::text[]) AS k (project_id, response_id, trace_id)
    GROUP BY 1, 2
    ORDER BY 1, 2
    ON CONFLICT (project_id, response) DO UPDATE
        SET traces = ARRAY(SELECT DISTINCT unnest(n.traces || excluded.traces) ORDER BY 1 LIMIT $4::integer + 1)
        WHERE cardinality(n.traces) <= $4::integer AND NOT n.traces @> excluded.traces
    RETURNING project_id, traces
)
SELECT project_id, traces FROM noted WHERE cardinality(traces) > 1;

-- name: link_traces
-- Marks the traces $2 of the projects $1 as linked, and locks their summaries.
UPDATE trace_summaries s SET is_linked = true
FROM (
    SELECT t.project_id, t.trace_id
    FROM unnest($1::text[], $2::text[]) AS k (project_id, trace_id)
    JOIN trace_summaries t ON t.project_id = k.project_id AND t.trace_id = k.trace_id
    ORDER BY t.project_id, t.trace_id
    FOR UPDATE OF t
) AS locked
WHERE s.project_id = locked.project_id AND s.trace_id = locked.trace_id;

-- name: list_linked_traces
-- The notes of answers in the traces $2 of the projects $1 that name several traces, at most $3; and those of the
-- traces themselves, at most $4.
SELECT DISTINCT n.project_id, n.traces
FROM unnest($1::text[], $2::text[]) AS k (project_id, trace_id)
JOIN trace_summaries s ON s.project_id = k.project_id AND s.trace_id = k.trace_id
JOIN llm_traces t ON t.project_id = k.project_id AND t.trace_id = k.trace_id AND t.ts BETWEEN s.start_ts AND s.end_ts
JOIN response_notes n ON n.project_id = t.project_id
                     AND n.response = ANY (ARRAY[hashtextextended(t.attributes ->> 'gen_ai.response.id', 0),
                                                 hashtextextended('linked ' || k.trace_id, 0)])
WHERE (t.count_rule IS NOT NULL OR t.is_generation) AND cardinality(n.traces) > 1
  AND cardinality(n.traces) <= CASE WHEN n.response = hashtextextended('linked ' || k.trace_id, 0)
                                    THEN $4::integer ELSE $3::integer END;

-- name: forget_old_response_notes
-- {among}: a condition on project_id (server/storage/living_nodes.py).
DELETE FROM response_notes WHERE noted_at < $1 AND project_id {among};
