-- Statements of the erasure of a user.

-- name: list_traces_of_user
-- Up to $3 traces of project $1 that belong to user $2, and as many in which a span names it, with their numbers of spans.
SELECT found.trace_id, coalesce(s.span_count, 1) AS spans
FROM (
    (SELECT trace_id FROM trace_summaries WHERE project_id = $1 AND user_id = $2 LIMIT $3)
    UNION
    (SELECT trace_id FROM llm_traces WHERE project_id = $1 AND user_id = $2 LIMIT $3)
) AS found
LEFT JOIN trace_summaries AS s ON s.project_id = $1 AND s.trace_id = found.trace_id;

-- name: list_sessions_of_user
SELECT session_id FROM user_sessions WHERE project_id = $1 AND user_id = $2;

-- name: has_name_of_user
SELECT EXISTS (
    SELECT FROM actor_names
    WHERE project_id = $1 AND kind = 'user' AND actor_hash = hashtextextended($2, 0) AND actor = $2
);

-- name: erase_actor_names
-- Puts a name without meaning behind the hashes of user $2, and of those of the sessions $3 that have no trace any more:
-- sums of days whose spans are gone stay what they were. A hash without a row gets one, so that the removals that are
-- not folded yet cannot bring the name back.
INSERT INTO actor_names AS n (project_id, kind, actor_hash, actor, last_day)
SELECT $1, actor.kind, hashtextextended(actor.name, 0), 'erased:' || to_hex(hashtextextended(actor.name, 0)),
    (now() AT TIME ZONE 'UTC')::date
FROM (
    SELECT 'user' AS kind, $2::text AS name
    UNION ALL
    SELECT 'session', s.name FROM unnest($3::text[]) AS s (name)
    WHERE NOT EXISTS (SELECT FROM session_summaries AS k WHERE k.project_id = $1 AND k.session_id = s.name)
) AS actor
ON CONFLICT (project_id, kind, actor_hash) DO UPDATE SET actor = excluded.actor
RETURNING 1;

-- name: delete_figures_of_person
DELETE FROM agent_figures WHERE project_id = $1 AND person = $2 RETURNING 1;

-- name: delete_updates_of_user
DELETE FROM span_updates WHERE project_id = $1 AND columns ->> 'user_id' = $2;
