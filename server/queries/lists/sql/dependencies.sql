-- name: plan_dependencies
-- Row-level security hides the number of spans from the planner: it expects one row where there
-- are thousands, and would compare each with each. So only hash joins are enabled.
SET LOCAL enable_nestloop = off;
SET LOCAL enable_mergejoin = off;

-- name: service_dependencies
-- How often spans of one service called spans of another: $1 projects, $2 from, $3 to, $4 most rows.
-- A parent may have started before the window; an hour of reach covers all but the longest runs.
WITH callers AS MATERIALIZED (
    SELECT project_id, trace_id, span_id, service_name
    FROM llm_traces
    WHERE project_id = ANY ($1::text[]) AND ts >= $2::timestamptz - interval '1 hour' AND ts < $3
),
called AS MATERIALIZED (
    SELECT project_id, trace_id, parent_span_id, service_name
    FROM llm_traces
    WHERE project_id = ANY ($1::text[]) AND ts >= $2 AND ts < $3 AND parent_span_id IS NOT NULL
)
SELECT coalesce(callers.service_name, 'unknown_service') AS parent,
       coalesce(called.service_name, 'unknown_service') AS child,
       count(*) AS calls
FROM called
JOIN callers
  ON callers.project_id = called.project_id AND callers.trace_id = called.trace_id
 AND callers.span_id = called.parent_span_id
WHERE called.service_name IS DISTINCT FROM callers.service_name
GROUP BY 1, 2
ORDER BY calls DESC, parent, child
LIMIT $4;
