-- Statements of the folder (server/queries/rollup.py): from pending deltas to the grains.
--
-- Those with {grain} and {width} serve rollup_5m, rollup_1h and rollup_1d alike; fold_grain fills them in.

-- name: list_projects_with_deltas
SELECT DISTINCT project_id FROM rollup_delta UNION SELECT DISTINCT project_id FROM actor_delta ORDER BY project_id;

-- name: lock_project_rollups
-- One folder or rebuild at a time may touch the rollups of a project.
SELECT pg_try_advisory_xact_lock(1819045746, hashtext($1));

-- name: wait_for_project_rollups
SELECT pg_advisory_xact_lock(1819045746, hashtext($1));

-- name: create_fold_tables
-- What was taken from rollup_delta in this transaction.
CREATE TEMP TABLE IF NOT EXISTS taken_delta (
    LIKE rollup_delta, provider text, model text, operation_type text, service_name text, environment text,
    status_code text, error_type text, finish_reason text, agent_name text, tool_name text, prompt_name text,
    prompt_version text, is_generation boolean
) ON COMMIT DELETE ROWS;

-- name: take_rollup_deltas
-- Moves up to $2 pending deltas of a project, summed, into taken_delta. Gives the number of deltas taken.
WITH picked AS MATERIALIZED (
    SELECT ctid AS row_id FROM rollup_delta WHERE project_id = $1 LIMIT $2
),
gone AS (
    DELETE FROM rollup_delta AS d USING picked WHERE d.ctid = picked.row_id AND d.project_id = $1 RETURNING d.*
),
summed AS (
    SELECT
        project_id, bucket, dim_id,
        sum(spans) AS spans, sum(errors) AS errors, sum(traces) AS traces, sum(prompt_tokens) AS prompt_tokens,
        sum(completion_tokens) AS completion_tokens, sum(total_tokens) AS total_tokens, sum(cached_tokens) AS cached_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(reasoning_tokens) AS reasoning_tokens, sum(prompt_cost) AS prompt_cost, sum(completion_cost) AS completion_cost, sum(total_cost) AS total_cost,
        sum(cache_savings) AS cache_savings, sum(error_cost) AS error_cost, sum(duration_us) AS duration_us, sum(ttft_us) AS ttft_us,
        sum(ttft_count) AS ttft_count, sum(speed_us) AS speed_us, sum(speed_tokens) AS speed_tokens, sum(speed_count) AS speed_count,
        string_agg(duration_sketch, ''::bytea) AS duration_sketch,
        string_agg(ttft_sketch, ''::bytea) AS ttft_sketch,
        string_agg(speed_sketch, ''::bytea) AS speed_sketch
    FROM gone
    GROUP BY project_id, bucket, dim_id
),
moved AS (
    INSERT INTO taken_delta
    SELECT
        s.*, d.provider, d.model, d.operation_type, d.service_name, d.environment, d.status_code, d.error_type,
        d.finish_reason, d.agent_name, d.tool_name, d.prompt_name, d.prompt_version, d.is_generation
    FROM summed AS s JOIN span_dimensions AS d ON d.project_id = s.project_id AND d.dim_id = s.dim_id
)
SELECT count(*) FROM gone;

-- name: sketches_of_grain
-- The sketches that a grain will have, not yet merged: what is there and what was taken.
SELECT f.bucket, f.dim_id,
    f.duration_sketch || coalesce(r.duration_sketch, ''::bytea) AS duration_sketch,
    f.ttft_sketch || coalesce(r.ttft_sketch, ''::bytea) AS ttft_sketch,
    f.speed_sketch || coalesce(r.speed_sketch, ''::bytea) AS speed_sketch
FROM (
    SELECT project_id, date_bin('{width}', bucket, '2000-01-01Z') AS bucket, dim_id,
        string_agg(duration_sketch, ''::bytea) AS duration_sketch,
        string_agg(ttft_sketch, ''::bytea) AS ttft_sketch,
        string_agg(speed_sketch, ''::bytea) AS speed_sketch
    FROM taken_delta
    WHERE bucket >= $1
    GROUP BY 1, 2, 3
) AS f
LEFT JOIN {grain} AS r ON r.project_id = f.project_id AND r.bucket = f.bucket AND r.dim_id = f.dim_id;

-- name: add_to_grain
-- Adds the counters taken from bucket $1 on; sketches are given merged, in $4 to $6, for the rows of $2 and $3.
INSERT INTO {grain} AS r (
    project_id, bucket, dim_id,
    spans, errors, traces, prompt_tokens, completion_tokens, total_tokens,
    cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost, completion_cost, total_cost,
    cache_savings, error_cost, duration_us, ttft_us, ttft_count, speed_us,
    speed_tokens, speed_count,
    duration_sketch, ttft_sketch, speed_sketch
)
SELECT
    f.project_id, f.bucket, f.dim_id,
    f.spans, f.errors, f.traces, f.prompt_tokens, f.completion_tokens, f.total_tokens,
    f.cached_tokens, f.cache_write_tokens, f.reasoning_tokens, f.prompt_cost, f.completion_cost, f.total_cost,
    f.cache_savings, f.error_cost, f.duration_us, f.ttft_us, f.ttft_count, f.speed_us,
    f.speed_tokens, f.speed_count,
    m.duration_sketch, m.ttft_sketch, m.speed_sketch
FROM (
    SELECT
        project_id, date_bin('{width}', bucket, '2000-01-01Z') AS bucket, dim_id,
        sum(spans) AS spans, sum(errors) AS errors, sum(traces) AS traces, sum(prompt_tokens) AS prompt_tokens,
        sum(completion_tokens) AS completion_tokens, sum(total_tokens) AS total_tokens, sum(cached_tokens) AS cached_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(reasoning_tokens) AS reasoning_tokens, sum(prompt_cost) AS prompt_cost, sum(completion_cost) AS completion_cost, sum(total_cost) AS total_cost,
        sum(cache_savings) AS cache_savings, sum(error_cost) AS error_cost, sum(duration_us) AS duration_us, sum(ttft_us) AS ttft_us,
        sum(ttft_count) AS ttft_count, sum(speed_us) AS speed_us, sum(speed_tokens) AS speed_tokens, sum(speed_count) AS speed_count
    FROM taken_delta
    WHERE bucket >= $1
    GROUP BY 1, 2, 3
) AS f
JOIN unnest($2::timestamptz[], $3::integer[], $4::bytea[], $5::bytea[], $6::bytea[])
    AS m (bucket, dim_id, duration_sketch, ttft_sketch, speed_sketch)
    ON m.bucket = f.bucket AND m.dim_id = f.dim_id
ON CONFLICT (project_id, bucket, dim_id) DO UPDATE SET
    spans = r.spans + excluded.spans, errors = r.errors + excluded.errors,
    traces = r.traces + excluded.traces, prompt_tokens = r.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = r.completion_tokens + excluded.completion_tokens, total_tokens = r.total_tokens + excluded.total_tokens,
    cached_tokens = r.cached_tokens + excluded.cached_tokens, cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens, prompt_cost = r.prompt_cost + excluded.prompt_cost,
    completion_cost = r.completion_cost + excluded.completion_cost, total_cost = r.total_cost + excluded.total_cost,
    cache_savings = r.cache_savings + excluded.cache_savings, error_cost = r.error_cost + excluded.error_cost,
    duration_us = r.duration_us + excluded.duration_us, ttft_us = r.ttft_us + excluded.ttft_us,
    ttft_count = r.ttft_count + excluded.ttft_count, speed_us = r.speed_us + excluded.speed_us,
    speed_tokens = r.speed_tokens + excluded.speed_tokens, speed_count = r.speed_count + excluded.speed_count,
    duration_sketch = excluded.duration_sketch,
    ttft_sketch = excluded.ttft_sketch,
    speed_sketch = excluded.speed_sketch;

-- name: delete_empty_of_grain
-- Rows that deletes have emptied, in the buckets just written. All counters are compared: a row may have no
-- span for the moment and yet wait for the rest of a change.
DELETE FROM {grain}
WHERE project_id = $1
  AND bucket IN (SELECT date_bin('{width}', bucket, '2000-01-01Z') FROM taken_delta)
  AND (spans, errors, traces, prompt_tokens, completion_tokens, total_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost,
       completion_cost, total_cost, cache_savings, error_cost, duration_us, ttft_us, ttft_count, speed_us, speed_tokens, speed_count)
    = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  AND duration_sketch = ''::bytea AND ttft_sketch = ''::bytea AND speed_sketch = ''::bytea;

-- name: create_fold_slices
-- The taken deltas by hour and value of each dimension.
CREATE TEMP TABLE IF NOT EXISTS taken_slice (
    dimension text, value text, is_generation boolean, LIKE rollup_delta
) ON COMMIT DELETE ROWS;

-- name: take_slices
INSERT INTO taken_slice (
    dimension, value, is_generation, project_id, bucket, dim_id,
    spans, errors, traces, prompt_tokens, completion_tokens, total_tokens,
    cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost, completion_cost, total_cost,
    cache_savings, error_cost, duration_us, ttft_us, ttft_count, speed_us,
    speed_tokens, speed_count,
    duration_sketch, ttft_sketch, speed_sketch
)
SELECT
    v.dimension, v.value, t.is_generation, t.project_id, date_bin('1 hour', t.bucket, '2000-01-01Z'), 0,
    sum(t.spans), sum(t.errors), sum(t.traces), sum(t.prompt_tokens), sum(t.completion_tokens), sum(t.total_tokens),
    sum(t.cached_tokens), sum(t.cache_write_tokens), sum(t.reasoning_tokens), sum(t.prompt_cost), sum(t.completion_cost), sum(t.total_cost),
    sum(t.cache_savings), sum(t.error_cost), sum(t.duration_us), sum(t.ttft_us), sum(t.ttft_count), sum(t.speed_us),
    sum(t.speed_tokens), sum(t.speed_count),
    string_agg(t.duration_sketch, ''::bytea), string_agg(t.ttft_sketch, ''::bytea), string_agg(t.speed_sketch, ''::bytea)
FROM taken_delta AS t
CROSS JOIN LATERAL (VALUES
    ('all', ''), ('provider', t.provider), ('model', t.model), ('operation_type', t.operation_type),
    ('service_name', t.service_name), ('environment', t.environment), ('status_code', t.status_code),
    ('error_type', t.error_type), ('finish_reason', t.finish_reason), ('agent_name', t.agent_name),
    ('tool_name', t.tool_name), ('prompt_name', t.prompt_name), ('prompt_version', t.prompt_version)
) AS v (dimension, value)
GROUP BY 1, 2, 3, 4, 5;

-- name: sketches_of_slices
SELECT f.bucket, f.dimension, f.value, f.is_generation,
    f.duration_sketch || coalesce(r.duration_sketch, ''::bytea) AS duration_sketch,
    f.ttft_sketch || coalesce(r.ttft_sketch, ''::bytea) AS ttft_sketch,
    f.speed_sketch || coalesce(r.speed_sketch, ''::bytea) AS speed_sketch
FROM taken_slice AS f
LEFT JOIN slice_1h AS r
    ON r.project_id = f.project_id AND r.dimension = f.dimension AND r.bucket = f.bucket AND r.value = f.value
   AND r.is_generation = f.is_generation;

-- name: add_to_slices
-- Sketches are given merged in $5 to $7, their p50, p75, p90, p95 and p99 in $8 to $10 as array literals, for the
-- rows of $1 to $4.
INSERT INTO slice_1h AS r (
    dimension, value, is_generation, project_id, bucket,
    spans, errors, traces, prompt_tokens, completion_tokens, total_tokens,
    cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost, completion_cost, total_cost,
    cache_savings, error_cost, duration_us, ttft_us, ttft_count, speed_us,
    speed_tokens, speed_count,
    duration_sketch, ttft_sketch, speed_sketch, duration_quantiles, ttft_quantiles, speed_quantiles
)
SELECT
    f.dimension, f.value, f.is_generation, f.project_id, f.bucket,
    f.spans, f.errors, f.traces, f.prompt_tokens, f.completion_tokens, f.total_tokens,
    f.cached_tokens, f.cache_write_tokens, f.reasoning_tokens, f.prompt_cost, f.completion_cost, f.total_cost,
    f.cache_savings, f.error_cost, f.duration_us, f.ttft_us, f.ttft_count, f.speed_us,
    f.speed_tokens, f.speed_count,
    m.duration_sketch, m.ttft_sketch, m.speed_sketch,
    m.duration_quantiles::double precision[], m.ttft_quantiles::double precision[], m.speed_quantiles::double precision[]
FROM taken_slice AS f
JOIN unnest($1::timestamptz[], $2::text[], $3::text[], $4::boolean[], $5::bytea[], $6::bytea[], $7::bytea[],
            $8::text[], $9::text[], $10::text[])
    AS m (bucket, dimension, value, is_generation, duration_sketch, ttft_sketch, speed_sketch,
          duration_quantiles, ttft_quantiles, speed_quantiles)
    ON m.bucket = f.bucket AND m.dimension = f.dimension AND m.value = f.value AND m.is_generation = f.is_generation
ON CONFLICT (project_id, dimension, bucket, value, is_generation) DO UPDATE SET
    spans = r.spans + excluded.spans, errors = r.errors + excluded.errors,
    traces = r.traces + excluded.traces, prompt_tokens = r.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = r.completion_tokens + excluded.completion_tokens, total_tokens = r.total_tokens + excluded.total_tokens,
    cached_tokens = r.cached_tokens + excluded.cached_tokens, cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
    reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens, prompt_cost = r.prompt_cost + excluded.prompt_cost,
    completion_cost = r.completion_cost + excluded.completion_cost, total_cost = r.total_cost + excluded.total_cost,
    cache_savings = r.cache_savings + excluded.cache_savings, error_cost = r.error_cost + excluded.error_cost,
    duration_us = r.duration_us + excluded.duration_us, ttft_us = r.ttft_us + excluded.ttft_us,
    ttft_count = r.ttft_count + excluded.ttft_count, speed_us = r.speed_us + excluded.speed_us,
    speed_tokens = r.speed_tokens + excluded.speed_tokens, speed_count = r.speed_count + excluded.speed_count,
    duration_sketch = excluded.duration_sketch,
    ttft_sketch = excluded.ttft_sketch,
    speed_sketch = excluded.speed_sketch,
    duration_quantiles = excluded.duration_quantiles,
    ttft_quantiles = excluded.ttft_quantiles,
    speed_quantiles = excluded.speed_quantiles;

-- name: delete_empty_slices
DELETE FROM slice_1h
WHERE project_id = $1
  AND (dimension, bucket) IN (SELECT dimension, bucket FROM taken_slice)
  AND (spans, errors, traces, prompt_tokens, completion_tokens, total_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost,
       completion_cost, total_cost, cache_savings, error_cost, duration_us, ttft_us, ttft_count, speed_us, speed_tokens, speed_count)
    = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  AND duration_sketch = ''::bytea AND ttft_sketch = ''::bytea AND speed_sketch = ''::bytea;

-- name: taken_has_removals
-- Whether something taken lowers a count, so that rows may have become empty.
SELECT EXISTS (SELECT FROM taken_delta WHERE spans <= 0);

-- name: take_actor_deltas
-- Takes the pending deltas of up to $2 hours of users or sessions, summed by actor; money in 1e-10 US dollars.
-- Whole hours, so that a packed hour is never in the middle of a change: its ids are those with spans.
WITH hours AS MATERIALIZED (
    SELECT kind, bucket FROM actor_delta WHERE project_id = $1 GROUP BY kind, bucket LIMIT $2
),
gone AS (
    DELETE FROM actor_delta AS d USING hours AS h
    WHERE d.project_id = $1 AND d.kind = h.kind AND d.bucket = h.bucket
    RETURNING d.*
)
SELECT kind, bucket, actor_hash, max(actor) AS actor, count(*) AS deltas, sum(spans)::bigint AS spans,
    sum(calls)::bigint AS calls, sum(errors)::bigint AS errors, sum(total_tokens)::bigint AS total_tokens,
    floor(sum(total_cost))::bigint AS cost_whole,
    ((sum(total_cost) - floor(sum(total_cost))) * 10000000000)::bigint AS cost_rest
FROM gone
GROUP BY kind, bucket, actor_hash;

-- name: read_actor_hours
SELECT kind, bucket, ids, amounts FROM actor_pack
WHERE project_id = $1 AND hours = 1 AND (kind, bucket) IN (SELECT * FROM unnest($2::text[], $3::timestamptz[]));

-- name: write_actor_hours
INSERT INTO actor_pack (project_id, hours, kind, bucket, ids, amounts)
SELECT $1, 1, m.* FROM unnest($2::text[], $3::timestamptz[], $4::bytea[], $5::bytea[]) AS m
ON CONFLICT (project_id, kind, hours, bucket) DO UPDATE SET ids = excluded.ids, amounts = excluded.amounts;

-- name: delete_empty_actor_hours
DELETE FROM actor_pack WHERE project_id = $1 AND hours = 1 AND ids = ''::bytea
    AND (kind, bucket) IN (SELECT * FROM unnest($2::text[], $3::timestamptz[]));

-- name: forget_merged_actors
-- A changed hour makes its day and its week stale.
DELETE FROM actor_pack AS p USING unnest($2::text[], $3::timestamptz[]) AS m (kind, bucket)
WHERE p.project_id = $1 AND p.kind = m.kind
  AND (p.hours = 24 AND p.bucket = date_bin('1 day', m.bucket, '2000-01-03Z')
       OR p.hours = 168 AND p.bucket = date_bin('7 days', m.bucket, '2000-01-03Z'));

-- name: remember_actor_names
INSERT INTO actor_names AS n (project_id, kind, actor_hash, actor, last_day)
SELECT $1, m.* FROM unnest($2::text[], $3::bigint[], $4::text[], $5::date[]) AS m
ON CONFLICT (project_id, kind, actor_hash) DO UPDATE SET last_day = excluded.last_day
    WHERE n.last_day < excluded.last_day;

-- name: list_unmerged_actors
-- Stretches of $1 hours that ended by $2 and are not merged yet, though shorter ones of $3 hours are there; at most $4.
SELECT DISTINCT part.project_id, part.kind, date_bin(make_interval(hours => $1), part.bucket, '2000-01-03Z') AS bucket
FROM actor_pack AS part
WHERE part.hours = $3 AND part.bucket < $2
  AND date_bin(make_interval(hours => $1), part.bucket, '2000-01-03Z') + make_interval(hours => $1) <= $2
  AND NOT EXISTS (
      SELECT FROM actor_pack AS merged
      WHERE merged.project_id = part.project_id AND merged.kind = part.kind AND merged.hours = $1
        AND merged.bucket = date_bin(make_interval(hours => $1), part.bucket, '2000-01-03Z')
  )
LIMIT $4;

-- name: read_actor_parts
-- The hours of a stretch that begins at $3 and is $4 hours long.
SELECT ids, amounts FROM actor_pack
WHERE project_id = $1 AND kind = $2 AND hours = 1 AND bucket >= $3 AND bucket < $3 + make_interval(hours => $4);

-- name: write_merged_actors
INSERT INTO actor_pack (project_id, kind, bucket, hours, ids, amounts) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project_id, kind, hours, bucket) DO UPDATE SET ids = excluded.ids, amounts = excluded.amounts;
