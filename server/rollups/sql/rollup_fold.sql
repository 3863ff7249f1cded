-- Statements of the folder (server/rollups/fold.py): from pending deltas to the grains.
--
-- Those with {grain} serve rollup_5m, rollup_1h and rollup_1d alike.

-- name: list_projects_with_deltas
-- {among}: a condition on project_id (server/storage/living_nodes.py).
SELECT DISTINCT project_id FROM rollup_delta WHERE project_id {among}
UNION
SELECT DISTINCT project_id FROM actor_delta WHERE project_id {among}
ORDER BY project_id;

-- name: lock_project_rollups
-- One folder or rebuild at a time may touch the rollups of a project.
SELECT pg_try_advisory_xact_lock(1819045746, hashtext($1));

-- name: wait_for_project_rollups
SELECT pg_advisory_xact_lock(1819045746, hashtext($1));

-- name: create_fold_tables
-- Deltas taken from rollup_delta in this transaction.
CREATE TEMP TABLE IF NOT EXISTS taken_delta (LIKE rollup_delta) ON COMMIT DELETE ROWS;

-- name: take_rollup_deltas
-- Moves pending deltas of a project, summed, into taken_delta: the earliest buckets, until $2 deltas are together or
-- none is left. Returns the number of deltas taken. Whole buckets, since nodes of a distributed engine have no common
-- row numbers.
WITH picked AS MATERIALIZED (
    SELECT bucket
    FROM (
        SELECT bucket, sum(count(*)) OVER (ORDER BY bucket) - count(*) AS earlier
        FROM rollup_delta WHERE project_id = $1
        GROUP BY bucket
    ) AS pending
    WHERE earlier < $2
),
gone AS (
    DELETE FROM rollup_delta AS d USING picked WHERE d.project_id = $1 AND d.bucket = picked.bucket RETURNING d.*
),
summed AS (
    SELECT
        $counters: sum({name}) AS {name},
        $sketches: string_agg({column}, ''::bytea) AS {column},
        project_id, bucket, dim_id
    FROM gone
    GROUP BY project_id, bucket, dim_id
),
moved AS (
    INSERT INTO taken_delta (
        $counters: {name},
        $sketches: {column},
        project_id, bucket, dim_id
    )
    SELECT
        $counters: s.{name},
        $sketches: s.{column},
        s.project_id, s.bucket, s.dim_id
    FROM summed AS s JOIN span_dimensions AS d ON d.project_id = $1 AND d.dim_id = s.dim_id
)
SELECT count(*) FROM gone;

-- name: sketches_of_taken
SELECT
    $sketches: {column},
    bucket, dim_id
FROM taken_delta;

-- name: dimensions_of_taken
SELECT dim_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
    agent_name, tool_name, prompt_name, prompt_version, is_generation
FROM span_dimensions
WHERE project_id = $1 AND dim_id IN (SELECT dim_id FROM taken_delta);

-- name: sketches_of_grain
-- The sketches that rows of a grain have already; place: which of $2 and $3, from 1.
SELECT
    $sketches: r.{column},
    m.place
FROM unnest($2::timestamptz[], $3::integer[]) WITH ORDINALITY AS m (bucket, dim_id, place)
JOIN {grain} AS r ON r.project_id = $1 AND r.bucket = m.bucket AND r.dim_id = m.dim_id;

-- name: add_to_grain
-- Adds the counters taken from bucket $1 on, in buckets of width $2; sketches are given merged, in $5 to $7, for the
-- rows of $3 and $4.
INSERT INTO {grain} AS r (
    $counters: {name},
    $sketches: {column},
    project_id, bucket, dim_id
)
SELECT
    $counters: f.{name},
    $sketches: m.{column},
    f.project_id, f.bucket, f.dim_id
FROM (
    SELECT
        $counters: sum({name}) AS {name},
        project_id, date_bin($2, bucket, '2000-01-01Z') AS bucket, dim_id
    FROM taken_delta
    WHERE bucket >= $1
    GROUP BY project_id, date_bin($2, bucket, '2000-01-01Z'), dim_id
) AS f
JOIN unnest($3::timestamptz[], $4::integer[], $5::bytea[], $6::bytea[], $7::bytea[])
    AS m (
        bucket, dim_id,
        $sketches: {column}
    )
    ON m.bucket = f.bucket AND m.dim_id = f.dim_id
ON CONFLICT (project_id, bucket, dim_id) DO UPDATE SET
    $counters: {name} = r.{name} + excluded.{name},
    $sketches: {column} = excluded.{column}
;

-- name: delete_empty_of_grain
-- Rows that deletes have emptied, in the buckets just written. All counters are compared: a row may have no
-- span for the moment and yet wait for the rest of a change.
DELETE FROM {grain}
WHERE project_id = $1
  AND bucket IN (SELECT date_bin($2, bucket, '2000-01-01Z') FROM taken_delta)
  AND (
        $counters: {name},
        $sketches: {column}
      ) = (
        $counters: 0,
        $sketches: ''::bytea
      );

-- name: sketches_of_slices
-- The sketches that slices have already; place: which of $2 to $5, from 1.
SELECT
    $sketches: r.{column},
    m.place
FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::boolean[])
    WITH ORDINALITY AS m (bucket, dimension, value, is_generation, place)
JOIN slice_1h AS r
    ON r.project_id = $1 AND r.dimension = m.dimension AND r.bucket = m.bucket AND r.value = m.value
   AND r.is_generation = m.is_generation;

-- name: add_to_slices
-- $2 and $3 say for each combination of dimensions which values it counts under, by number; the slices of $4 to $8 name
-- the hour and the value. Their sketches are given merged in $9 to $11, and p50, p75, p90, p95 and p99 of them in $12
-- to $14 as array literals.
WITH sums AS MATERIALIZED (
    SELECT
        $counters: sum(h.{name}) AS {name},
        h.bucket, c.number
    FROM (
        SELECT
            $counters: sum({name})::{type} AS {name},
            date_bin('1 hour', bucket, '2000-01-01Z') AS bucket, dim_id
        FROM taken_delta
        GROUP BY date_bin('1 hour', bucket, '2000-01-01Z'), dim_id
    ) AS h
    JOIN unnest($2::integer[], $3::integer[]) AS c (dim_id, number) ON c.dim_id = h.dim_id
    GROUP BY h.bucket, c.number
)
INSERT INTO slice_1h AS r (
    $counters: {name},
    $sketches: {column},
    dimension, value, is_generation, project_id, bucket, duration_quantiles, ttft_quantiles, speed_quantiles
)
SELECT
    $counters: f.{name},
    $sketches: m.{column},
    m.dimension, m.value, m.is_generation, $1, f.bucket,
    m.duration_quantiles::double precision[], m.ttft_quantiles::double precision[], m.speed_quantiles::double precision[]
FROM sums AS f
JOIN unnest($4::timestamptz[], $5::integer[], $6::text[], $7::text[], $8::boolean[], $9::bytea[], $10::bytea[],
            $11::bytea[], $12::text[], $13::text[], $14::text[])
    AS m (
        bucket, number, dimension, value, is_generation,
        $sketches: {column},
        duration_quantiles, ttft_quantiles, speed_quantiles
    )
    ON m.bucket = f.bucket AND m.number = f.number
ON CONFLICT (project_id, dimension, bucket, value, is_generation) DO UPDATE SET
    $counters: {name} = r.{name} + excluded.{name},
    $sketches: {column} = excluded.{column},
    duration_quantiles = excluded.duration_quantiles,
    ttft_quantiles = excluded.ttft_quantiles,
    speed_quantiles = excluded.speed_quantiles;

-- name: delete_empty_slices
DELETE FROM slice_1h
WHERE project_id = $1
  AND dimension = ANY ($2::text[])
  AND bucket IN (SELECT date_bin('1 hour', bucket, '2000-01-01Z') FROM taken_delta)
  AND (
        $counters: {name},
        $sketches: {column}
      ) = (
        $counters: 0,
        $sketches: ''::bytea
      );

-- name: taken_has_removals
-- Whether something taken lowers a count, so that rows may have become empty.
SELECT EXISTS (SELECT FROM taken_delta WHERE spans <= 0);

-- name: create_taken_actors
-- Users and sessions of the spans in hand, by hour; money in 1e-10 US dollars.
CREATE TEMP TABLE IF NOT EXISTS taken_actors (
    kind text, bucket timestamptz, actor_hash bigint, actor text, spans bigint, calls bigint, errors bigint,
    total_tokens bigint, cost_whole bigint, cost_rest bigint
) ON COMMIT DELETE ROWS;

-- name: take_actor_deltas
-- Moves the pending deltas of up to $2 hours of users or sessions, summed by actor, into taken_actors. Gives how many.
-- Whole hours, so that a packed hour is never in the middle of a change: its ids are those with spans.
WITH hours AS MATERIALIZED (
    SELECT kind, bucket FROM actor_delta WHERE project_id = $1 GROUP BY kind, bucket LIMIT $2
),
gone AS (
    DELETE FROM actor_delta AS d USING hours AS h
    WHERE d.project_id = $1 AND d.kind = h.kind AND d.bucket = h.bucket
    RETURNING d.*
),
moved AS (
    INSERT INTO taken_actors
    SELECT kind, bucket, actor_hash, max(actor), sum(spans), sum(calls), sum(errors), sum(total_tokens),
        floor(sum(total_cost)), (sum(total_cost) - floor(sum(total_cost))) * 10000000000
    FROM gone
    GROUP BY kind, bucket, actor_hash
)
SELECT count(*) FROM gone;

-- name: pack_taken_actors
-- One row an hour and kind: hashes and amounts as strings of big-endian int64, in the order of the hashes.
SELECT kind, bucket,
    string_agg(int8send(actor_hash), ''::bytea ORDER BY actor_hash) AS ids,
    string_agg(int8send(spans), ''::bytea ORDER BY actor_hash)
        || string_agg(int8send(calls), ''::bytea ORDER BY actor_hash)
        || string_agg(int8send(errors), ''::bytea ORDER BY actor_hash)
        || string_agg(int8send(total_tokens), ''::bytea ORDER BY actor_hash)
        || string_agg(int8send(cost_whole), ''::bytea ORDER BY actor_hash)
        || string_agg(int8send(cost_rest), ''::bytea ORDER BY actor_hash) AS amounts
FROM taken_actors
GROUP BY kind, bucket
ORDER BY kind, bucket;

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

-- name: remember_taken_actors
-- Removals alone bring no name: it may have been erased. A name that was erased comes back with new spans.
INSERT INTO actor_names AS n (project_id, kind, actor_hash, actor, last_day)
SELECT $1, kind, actor_hash, CASE WHEN sum(spans) > 0 THEN max(actor) ELSE '' END,
    (max(bucket) AT TIME ZONE 'UTC')::date
FROM taken_actors GROUP BY kind, actor_hash
ON CONFLICT (project_id, kind, actor_hash) DO UPDATE SET
    last_day = greatest(n.last_day, excluded.last_day),
    actor = CASE WHEN excluded.actor <> '' THEN excluded.actor ELSE n.actor END
    WHERE n.last_day < excluded.last_day OR excluded.actor NOT IN ('', n.actor);

-- name: list_unmerged_actors
-- Stretches of $1 hours that ended by $2 and are not merged yet, though shorter ones of $3 hours are there; at most $4.
-- {among}: as above.
SELECT DISTINCT part.project_id, part.kind, date_bin(make_interval(hours => $1), part.bucket, '2000-01-03Z') AS bucket
FROM actor_pack AS part
WHERE part.project_id {among} AND part.hours = $3 AND part.bucket < $2
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
