-- The feed of stored spans that live tails read.

-- name: note_in_feed
-- From the rows of span_changes. A span of which a version went and another came is an update; one that lost against
-- a version with another start is named too, and readers do not find it.
INSERT INTO span_feed (project_id, trace_ids, span_ids, starts, updates)
SELECT project_id, array_agg(trace_id ORDER BY start, span_id), array_agg(span_id ORDER BY start, span_id),
       array_agg(start ORDER BY start, span_id), array_agg(is_update ORDER BY start, span_id)
FROM (SELECT project_id, trace_id, span_id, max(ts) FILTER (WHERE sign > 0) AS start, sum(sign) < 1 AS is_update
      FROM pg_temp.span_changes
      GROUP BY project_id, trace_id, span_id) AS span
WHERE start IS NOT NULL
GROUP BY project_id
RETURNING 1;

-- name: trim_span_feed
-- Runs as the worker. $1: seconds that the feed is kept.
DELETE FROM span_feed WHERE noted_at < now() - make_interval(secs => $1);
