-- Stored spans in the order in which they can be read without missing any: by snapshots. See migration 0047.

-- name: feed_now
SELECT pg_current_snapshot()::text;

-- name: read_feed
-- Rows that a reader with the snapshot $1 has not seen and $2 shows, after the row $3; $4 of them.
SELECT seq, project_id, trace_ids, span_ids, starts, updates
FROM span_feed
WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
  AND pg_visible_in_snapshot(xid, $2::text::pg_snapshot) AND seq > $3
ORDER BY seq
LIMIT $4;

-- name: list_projects_in_feed
-- Runs as the worker. The snapshot of this moment, and the projects with news since the snapshot $1.
SELECT pg_current_snapshot()::text AS snapshot,
       ARRAY(SELECT DISTINCT project_id FROM span_feed
             WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
               AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)) AS projects;

-- name: list_changed_spans
-- The spans with the keys $1 to $4, element by element, and for each of several filters whether the span matches it.
SELECT {columns}, k.place, {matches}
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) WITH ORDINALITY
         AS k (project_id, trace_id, span_id, start, place)
JOIN llm_traces t ON t.project_id = k.project_id AND t.trace_id = k.trace_id AND t.span_id = k.span_id
                 AND t.ts = k.start
WHERE {any_match}

-- name: clip_changed_spans
-- Like list_changed_spans, with the beginnings of long texts.
SELECT {columns}, {others} FROM ({spans}) AS page

-- name: check_snapshot
-- Fails for a text that is not a snapshot.
SELECT $1::text::pg_snapshot IS NOT NULL;
