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
-- Insert the sums that append_rollup_delta makes of changes, but of the spans as they are, into taken_delta; $4 is the
-- width of the finest rollup that the time has. The properties of a combination of dimensions (is_generation,
-- status_code) are read once per group and not once per span.
INSERT INTO taken_delta
SELECT
    s.project_id, s.bucket, s.dim_id, s.spans,
    CASE WHEN d.status_code = 'ERROR' THEN s.spans ELSE 0 END,
    s.traces,
    CASE WHEN d.is_generation THEN coalesce(s.prompt_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.completion_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.total_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.cached_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.cache_write_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.reasoning_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.prompt_cost, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.completion_cost, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.total_cost, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.cache_savings, 0) ELSE 0 END,
    CASE WHEN d.is_generation AND d.status_code = 'ERROR' THEN coalesce(s.total_cost, 0) ELSE 0 END,
    s.duration_us,
    CASE WHEN d.is_generation THEN coalesce(s.ttft_us, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN s.ttft_count ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.speed_us, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN coalesce(s.speed_tokens, 0) ELSE 0 END,
    CASE WHEN d.is_generation THEN s.speed_count ELSE 0 END,
    s.duration_sketch,
    CASE WHEN d.is_generation THEN coalesce(s.ttft_sketch, ''::bytea) ELSE ''::bytea END,
    CASE WHEN d.is_generation THEN coalesce(s.speed_sketch, ''::bytea) ELSE ''::bytea END
FROM (
    SELECT
        t.project_id, date_bin($4, t.ts, '2000-01-01Z') AS bucket, t.dim_id,
        count(*) AS spans,
        count(*) FILTER (WHERE t.parent_span_id IS NULL) AS traces,
        sum(t.prompt_tokens) AS prompt_tokens,
        sum(t.completion_tokens) AS completion_tokens,
        sum(t.total_tokens) AS total_tokens,
        sum(t.cached_tokens) AS cached_tokens,
        sum(t.cache_write_tokens) AS cache_write_tokens,
        sum(t.reasoning_tokens) AS reasoning_tokens,
        sum(t.prompt_cost_usd) AS prompt_cost,
        sum(t.completion_cost_usd) AS completion_cost,
        sum(t.total_cost_usd) AS total_cost,
        sum(t.cache_savings_usd) AS cache_savings,
        sum(t.duration_us) AS duration_us,
        sum(round(t.ttft_ms * 1000)::bigint) AS ttft_us,
        count(t.ttft_ms) AS ttft_count,
        sum(t.duration_us) FILTER (WHERE t.has_speed) AS speed_us,
        sum(t.completion_tokens) FILTER (WHERE t.has_speed) AS speed_tokens,
        count(*) FILTER (WHERE t.has_speed) AS speed_count,
        string_agg(sketch_entry(t.duration_ms, 1), ''::bytea) AS duration_sketch,
        string_agg(sketch_entry(t.ttft_ms, 1), ''::bytea) FILTER (WHERE t.ttft_ms IS NOT NULL) AS ttft_sketch,
        string_agg(sketch_entry(t.completion_tokens * 1000 / t.duration_ms, 1), ''::bytea)
            FILTER (WHERE t.has_speed) AS speed_sketch
    FROM (
        SELECT
            project_id, ts, dim_id, parent_span_id, prompt_tokens, completion_tokens, total_tokens, cached_tokens,
            cache_write_tokens, reasoning_tokens, prompt_cost_usd, completion_cost_usd, total_cost_usd,
            cache_savings_usd, duration_ms, ttft_ms, round(duration_ms * 1000)::bigint AS duration_us,
            is_generation AND completion_tokens > 0 AND duration_ms >= 0.001 AS has_speed
        FROM llm_traces
        WHERE project_id = $1 AND ts >= $2 AND ts < $3
        OFFSET 0
    ) AS t
    GROUP BY 1, 2, 3
) AS s
JOIN span_dimensions AS d ON d.project_id = s.project_id AND d.dim_id = s.dim_id;

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
