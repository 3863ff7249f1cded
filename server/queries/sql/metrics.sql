-- Fixed statements of the metric engine; the others are composed in metric_sql.py and metric_rollup_sql.py.

-- name: read_rollup_state
-- From when on there are raw rows and 5-minute rollups.
SELECT raw_since, rollup_5m_since FROM rollup_state;

-- name: read_actor_amounts
-- Packed users or sessions (kind $2) of projects $1: merged days within $3–$4 where there are some, else their
-- hours, and hours within $5–$6.
WITH days AS (
    SELECT d.project_id, d.bucket, d.ids, d.amounts
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
    JOIN actor_1d AS d
        ON d.project_id = ANY ($1::text[]) AND d.kind = $2 AND d.bucket >= piece.low AND d.bucket < piece.high
)
SELECT bucket, ids, amounts FROM days
UNION ALL
SELECT h.bucket, h.ids, h.amounts
FROM unnest($5::timestamptz[], $6::timestamptz[]) AS piece (low, high)
JOIN actor_1h AS h
    ON h.project_id = ANY ($1::text[]) AND h.kind = $2 AND h.bucket >= piece.low AND h.bucket < piece.high
UNION ALL
SELECT h.bucket, h.ids, h.amounts
FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
JOIN actor_1h AS h
    ON h.project_id = ANY ($1::text[]) AND h.kind = $2 AND h.bucket >= piece.low AND h.bucket < piece.high
WHERE NOT EXISTS (
    SELECT FROM days AS d WHERE d.project_id = h.project_id AND d.bucket = date_bin('1 day', h.bucket, '2000-01-01Z')
);

-- name: count_actor_ids
-- How many ids read_actor_amounts would give; the packed values themselves are not read.
WITH days AS (
    SELECT d.project_id, d.bucket, octet_length(d.ids) AS size
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
    JOIN actor_1d AS d
        ON d.project_id = ANY ($1::text[]) AND d.kind = $2 AND d.bucket >= piece.low AND d.bucket < piece.high
)
SELECT coalesce(sum(size), 0)::bigint / 8 FROM (
    SELECT size FROM days
    UNION ALL
    SELECT octet_length(h.ids)
    FROM unnest($5::timestamptz[], $6::timestamptz[]) AS piece (low, high)
    JOIN actor_1h AS h
        ON h.project_id = ANY ($1::text[]) AND h.kind = $2 AND h.bucket >= piece.low AND h.bucket < piece.high
    UNION ALL
    SELECT octet_length(h.ids)
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
    JOIN actor_1h AS h
        ON h.project_id = ANY ($1::text[]) AND h.kind = $2 AND h.bucket >= piece.low AND h.bucket < piece.high
    WHERE NOT EXISTS (
        SELECT FROM days AS d WHERE d.project_id = h.project_id AND d.bucket = date_bin('1 day', h.bucket, '2000-01-01Z')
    )
) AS sizes;

-- name: read_actor_ids
-- The ids alone; of each packed value the first $7 of it (1: all), and 64 ids more. Ids are sorted hashes, so a
-- part from the front is a fair sample.
WITH days AS (
    SELECT d.project_id, d.bucket, d.ids
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
    JOIN actor_1d AS d
        ON d.project_id = ANY ($1::text[]) AND d.kind = $2 AND d.bucket >= piece.low AND d.bucket < piece.high
),
packed AS (
    SELECT bucket, ids FROM days
    UNION ALL
    SELECT h.bucket, h.ids
    FROM unnest($5::timestamptz[], $6::timestamptz[]) AS piece (low, high)
    JOIN actor_1h AS h
        ON h.project_id = ANY ($1::text[]) AND h.kind = $2 AND h.bucket >= piece.low AND h.bucket < piece.high
    UNION ALL
    SELECT h.bucket, h.ids
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
    JOIN actor_1h AS h
        ON h.project_id = ANY ($1::text[]) AND h.kind = $2 AND h.bucket >= piece.low AND h.bucket < piece.high
    WHERE NOT EXISTS (
        SELECT FROM days AS d WHERE d.project_id = h.project_id AND d.bucket = date_bin('1 day', h.bucket, '2000-01-01Z')
    )
)
SELECT bucket, substring(ids FOR (ceil(octet_length(ids) / 8 * $7::double precision)::integer + 64) * 8) AS ids
FROM packed;

-- name: read_pending_actors
-- Deltas of users or sessions that are not folded yet, within $3–$4.
SELECT d.bucket AS moment, d.actor_hash, max(d.actor) AS actor, sum(d.spans)::bigint AS spans,
    sum(d.calls)::bigint AS calls, sum(d.errors)::bigint AS errors, sum(d.total_tokens)::bigint AS total_tokens,
    floor(sum(d.total_cost))::bigint AS cost_whole,
    ((sum(d.total_cost) - floor(sum(d.total_cost))) * 10000000000)::bigint AS cost_rest
FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
JOIN actor_delta AS d
    ON d.project_id = ANY ($1::text[]) AND d.kind = $2 AND d.bucket >= piece.low AND d.bucket < piece.high
GROUP BY d.bucket, d.actor_hash;

-- name: read_raw_actors
-- The same from raw rows within $3–$4: the parts of hours at the ends of a range.
SELECT r.low AS moment, hashtextextended(r.actor, 0) AS actor_hash, r.actor, count(*) AS spans,
    count(*) FILTER (WHERE r.is_generation) AS calls,
    count(*) FILTER (WHERE r.is_generation AND r.status_code = 'ERROR') AS errors,
    coalesce(sum(r.total_tokens) FILTER (WHERE r.is_generation), 0)::bigint AS total_tokens,
    floor(coalesce(sum(r.total_cost_usd) FILTER (WHERE r.is_generation), 0))::bigint AS cost_whole,
    ((coalesce(sum(r.total_cost_usd) FILTER (WHERE r.is_generation), 0)
        - floor(coalesce(sum(r.total_cost_usd) FILTER (WHERE r.is_generation), 0))) * 10000000000)::bigint AS cost_rest
FROM (
    SELECT piece.low, CASE $2::text WHEN 'user' THEN t.user_id ELSE t.session_id END AS actor, t.is_generation,
        t.status_code, t.total_tokens, t.total_cost_usd
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
    JOIN llm_traces AS t ON t.project_id = ANY ($1::text[]) AND t.ts >= piece.low AND t.ts < piece.high
) AS r
WHERE r.actor <> ''
GROUP BY r.low, r.actor;

-- name: read_actor_names
SELECT DISTINCT ON (actor_hash) actor_hash, actor FROM actor_names
WHERE project_id = ANY ($1::text[]) AND kind = $2 AND actor_hash = ANY ($3::bigint[])
ORDER BY actor_hash, project_id;
