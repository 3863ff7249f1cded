-- Statements of a rebuild (server/rollups/rebuild.py): one project $1, spans from $2 to $3.

-- name: hold_project_rollups
-- For the session, so that the snapshot can be taken after the lock is there.
SELECT pg_try_advisory_lock(1819045746, hashtext($1));

-- name: release_project_rollups
SELECT pg_advisory_unlock(1819045746, hashtext($1));

-- name: sort_in_memory
-- Sums of a window are wide; they would go to disk and back.
SET LOCAL work_mem = '128MB';

-- name: count_spans_of_day
-- How many spans each 5 minutes have: what windows are made of.
SELECT date_bin('5 minutes', ts, '2000-01-01Z') AS bucket, count(*) AS spans
FROM llm_traces
WHERE project_id = $1 AND ts >= $2 AND ts < $3
GROUP BY 1
ORDER BY 1;

-- name: forget_taken
TRUNCATE taken_delta;

-- name: take_spans
-- Sum the spans as they are into taken_delta; $4 is the width of the finest rollup that the time has.
INSERT INTO taken_delta (
    $counters: {name},
    $sketches: {column},
    project_id, bucket, dim_id
)
SELECT
    $counters: {total},
    $sketches: {total},
    t.project_id, date_bin($4, t.ts, '2000-01-01Z'), t.dim_id
FROM llm_traces AS t
WHERE t.project_id = $1 AND t.ts >= $2 AND t.ts < $3
GROUP BY t.project_id, date_bin($4, t.ts, '2000-01-01Z'), t.dim_id;

-- name: take_actors
-- Spans are summed by user and session together first: few pairs, of which both kinds are then made.
INSERT INTO taken_actors
WITH pairs AS MATERIALIZED (
    SELECT
        date_bin('1 hour', ts, '2000-01-01Z') AS bucket, user_id, session_id,
        count(*) AS spans,
        count(*) FILTER (WHERE is_generation) AS calls,
        count(*) FILTER (WHERE is_generation AND status_code = 'ERROR') AS errors,
        coalesce(sum(total_tokens) FILTER (WHERE is_generation), 0) AS total_tokens,
        coalesce(sum(total_cost_usd) FILTER (WHERE is_generation), 0) AS total_cost
    FROM llm_traces
    WHERE project_id = $1 AND ts >= $2 AND ts < $3
    GROUP BY 1, 2, 3
)
SELECT kind, bucket, hashtextextended(actor, 0), max(actor), sum(spans), sum(calls), sum(errors), sum(total_tokens),
    floor(sum(total_cost)), (sum(total_cost) - floor(sum(total_cost))) * 10000000000
FROM (
    SELECT 'user' AS kind, user_id AS actor, p.* FROM pairs AS p
    UNION ALL
    SELECT 'session', session_id, p.* FROM pairs AS p
) AS each
WHERE actor <> ''
GROUP BY 1, 2, 3;

-- name: forget_taken_actors
TRUNCATE taken_actors;

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
