-- Statements of a rebuild: one project $1, one UTC day from $2 to $3.

-- name: hold_project_rollups
-- For the session, so that the snapshot can be taken after the lock is there.
SELECT pg_advisory_lock(1819045746, hashtext($1));

-- name: release_project_rollups
SELECT pg_advisory_unlock(1819045746, hashtext($1));

-- name: spans_of_day
-- Stands in for span_changes: every span of the day as if it had just come.
SELECT 1::smallint AS sign, * FROM llm_traces WHERE project_id = $1 AND ts >= $2 AND ts < $3;

-- name: forget_day_of_rollup_delta
DELETE FROM rollup_delta WHERE project_id = $1 AND bucket >= $2 AND bucket < $3;

-- name: forget_day_of_rollup_5m
DELETE FROM rollup_5m WHERE project_id = $1 AND bucket >= $2 AND bucket < $3;

-- name: forget_day_of_rollup_1h
DELETE FROM rollup_1h WHERE project_id = $1 AND bucket >= $2 AND bucket < $3;

-- name: forget_day_of_rollup_1d
DELETE FROM rollup_1d WHERE project_id = $1 AND bucket >= $2 AND bucket < $3;

-- name: forget_day_of_slice_1h
DELETE FROM slice_1h WHERE project_id = $1 AND bucket >= $2 AND bucket < $3;

-- name: forget_day_of_actor_delta
DELETE FROM actor_delta WHERE project_id = $1 AND bucket >= $2 AND bucket < $3;

-- name: forget_day_of_actor_pack
DELETE FROM actor_pack WHERE project_id = $1
    AND (bucket >= $2 AND bucket < $3 OR hours = 168 AND bucket = date_bin('7 days', $2, '2000-01-03Z'));
