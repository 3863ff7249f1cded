-- name: list_call_path_spans
-- Every span of the traces $3 of the project $1 that began at $2 or later, without payloads:
-- the data of node graphs and flame graphs. At most $4 spans.
SELECT t.trace_id, t.span_id, t.parent_span_id, t.ts, t.span_name, t.operation_type, t.is_generation,
       t.agent_name, t.tool_name, t.model, t.status_code, t.duration_ms, t.total_cost_usd
FROM llm_traces AS t
WHERE t.project_id = $1 AND t.ts >= $2 AND t.trace_id = ANY ($3::text[])
ORDER BY t.trace_id, t.ts, t.span_id
LIMIT $4;
