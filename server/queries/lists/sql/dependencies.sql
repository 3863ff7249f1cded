-- name: service_dependencies
-- How often spans of one service called spans of another: $1 projects, $2 from, $3 to, $4 most rows.
-- A parent may have started before the window; an hour of reach covers all but the longest runs.
SELECT coalesce(p.service_name, 'unknown_service') AS parent,
       coalesce(c.service_name, 'unknown_service') AS child,
       count(*) AS calls
FROM llm_traces c
JOIN llm_traces p
  ON p.project_id = c.project_id AND p.trace_id = c.trace_id AND p.span_id = c.parent_span_id
 AND p.ts >= $2::timestamptz - interval '1 hour' AND p.ts < $3
WHERE c.project_id = ANY ($1::text[]) AND c.ts >= $2 AND c.ts < $3
  AND c.parent_span_id IS NOT NULL
  AND c.service_name IS DISTINCT FROM p.service_name
GROUP BY 1, 2
ORDER BY calls DESC, parent, child
LIMIT $4;
