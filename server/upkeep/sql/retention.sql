-- Partitions and rows that are created ahead or dropped.

-- name: lock_retention
SELECT pg_try_advisory_xact_lock(1819045747);

-- name: advance_raw_since
-- Spans before the week of $1 are gone from here on; tells readers and rebuilds. Never goes back.
UPDATE rollup_state SET raw_since = greatest(raw_since, date_trunc('week', $1::timestamptz, 'UTC'));

-- name: drop_partitions
SELECT drop_trace_partitions($1);

-- name: drop_vector_partitions
SELECT drop_vector_partitions($1);

-- name: delete_old_vector_counts
DELETE FROM vector_counts WHERE project_id = $1 AND hour < $2;

-- name: advance_rollup_5m_since
-- 5-minute rollups before $1 are gone from here on.
UPDATE rollup_state SET rollup_5m_since = greatest(rollup_5m_since, date_trunc('day', $1::timestamptz, 'UTC'))
RETURNING raw_since, rollup_5m_since;

-- name: delete_old_rollup_5m
DELETE FROM rollup_5m WHERE project_id = $1 AND bucket < $2;

-- name: delete_old_rollup_1h
DELETE FROM rollup_1h WHERE project_id = $1 AND bucket < $2;

-- name: delete_old_rollup_1d
DELETE FROM rollup_1d WHERE project_id = $1 AND bucket < $2;

-- name: delete_old_slice_1h
DELETE FROM slice_1h WHERE project_id = $1 AND bucket < $2;

-- name: delete_old_actor_pack
DELETE FROM actor_pack WHERE project_id = $1 AND bucket < $2;

-- name: delete_old_actor_names
DELETE FROM actor_names WHERE project_id = $1 AND last_day < ($2::timestamptz AT TIME ZONE 'UTC')::date;

-- name: list_all_projects
SELECT project_id FROM projects ORDER BY project_id;

-- name: analyze_young_partitions
-- Statistics of the keys of partitions that are four times as large as the planner believes; how many those were.
SELECT analyze_young_partitions();
