-- Sessions, users, and the traces that belong to one of them: read from the summaries, never from spans.
-- server/queries/lists/session_reader.py replaces the braces, from its own tables of names.

-- name: list_summaries_of_project
-- One page of one project (or of many, if a branch for each would cost more). The rows
-- were active at some moment of the window: $1 <= last_ts, first_ts < $2.
SELECT {columns}
FROM {table} AS t
WHERE {project}
  AND t.last_ts >= $1::timestamptz AND t.first_ts < $2::timestamptz
  {filters}
  AND {after}
ORDER BY {order}
LIMIT $3;

-- name: sessions_of_users
-- A filter: sessions in which one of the users {users} took part, even if another began them.
AND EXISTS (
    SELECT 1 FROM user_sessions AS u
    WHERE u.project_id = t.project_id AND u.session_id = t.session_id AND u.user_id = ANY({users})
);

-- name: summaries_named
AND t.{id} = ANY({names});

-- name: find_summary
-- Two rows at most: more than one means that the id is not unique in the projects $1.
SELECT {columns}
FROM {table} AS t
WHERE t.project_id = ANY($1::text[]) AND t.{id} = $2
ORDER BY t.project_id
LIMIT 2;

-- name: list_traces_of_summary
-- The traces of one session or user, in order of their start.
SELECT t.trace_id, t.project_id, t.root_span_id, t.root_span_name, t.service_name, t.environment,
       t.session_id, t.user_id, t.start_ts, t.end_ts, t.span_count, t.generation_count, t.error_count,
       t.prompt_tokens, t.completion_tokens, t.total_tokens, t.total_cost_usd
FROM trace_summaries AS t
WHERE t.project_id = $1 AND t.{id} = $2 AND {after}
ORDER BY {order}
LIMIT $3;
