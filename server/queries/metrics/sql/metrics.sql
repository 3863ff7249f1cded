-- Fixed statements of the metric engine; the others are composed in raw_sql.py and rollup_sql.py.

-- name: read_rollup_state
-- The times from which raw rows and 5-minute rollups are stored.
SELECT raw_since, rollup_5m_since FROM rollup_state;

-- name: join_by_hash
-- The planner expects one combination of dimensions where a filter leaves a few, and would look each
-- of them up in every hour: four times the work of reading the range once.
SET LOCAL enable_nestloop = off;

-- name: join_as_planned
SET LOCAL enable_nestloop = on;

-- name: list_actor_packs
-- The packed values of users or sessions (kind $2) of the projects $1 within $3–$4, each with its number of ids.
SELECT p.project_id, p.hours, p.bucket, octet_length(p.ids) / 8 AS ids
FROM unnest($3::timestamptz[], $4::timestamptz[]) AS piece (low, high)
JOIN actor_pack AS p
    ON p.project_id = ANY ($1::text[]) AND p.kind = $2 AND p.bucket >= piece.low
   AND p.bucket + make_interval(hours => p.hours) <= piece.high
ORDER BY p.hours DESC, p.bucket;

-- name: read_actor_amounts
SELECT p.bucket, p.ids, p.amounts
FROM unnest($2::text[], $3::smallint[], $4::timestamptz[]) AS chosen (project_id, hours, bucket)
JOIN actor_pack AS p
    ON p.project_id = chosen.project_id AND p.kind = $1 AND p.hours = chosen.hours AND p.bucket = chosen.bucket;

-- name: read_actor_ids
-- Only the ids: of each packed value the share $5 from its start (1: all), and 64 ids more. Ids
-- are sorted hashes, so the start of a value is a fair sample.
SELECT p.bucket,
    substring(p.ids FOR (ceil(octet_length(p.ids) / 8 * $5::double precision)::integer + 64) * 8) AS ids
FROM unnest($2::text[], $3::smallint[], $4::timestamptz[]) AS chosen (project_id, hours, bucket)
JOIN actor_pack AS p
    ON p.project_id = chosen.project_id AND p.kind = $1 AND p.hours = chosen.hours AND p.bucket = chosen.bucket;

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

-- name: read_actor_names
SELECT DISTINCT ON (actor_hash) actor_hash, actor FROM actor_names
WHERE project_id = ANY ($1::text[]) AND kind = $2 AND actor_hash = ANY ($3::bigint[])
ORDER BY actor_hash, project_id;

-- name: list_dimension_values
-- The values of the columns $2 in the combinations that the projects $1 have had; a few hundred rows.
SELECT found.dimension, array_agg(DISTINCT found.value COLLATE "C" ORDER BY found.value COLLATE "C") AS known
FROM span_dimensions AS d
CROSS JOIN LATERAL (VALUES
    ('provider', d.provider), ('model', d.model), ('operation_type', d.operation_type),
    ('service_name', d.service_name), ('environment', d.environment), ('status_code', d.status_code),
    ('error_type', d.error_type), ('finish_reason', d.finish_reason), ('agent_name', d.agent_name),
    ('tool_name', d.tool_name), ('prompt_name', d.prompt_name), ('prompt_version', d.prompt_version)
) AS found (dimension, value)
WHERE d.project_id = ANY ($1::text[]) AND found.dimension = ANY ($2::text[]) AND found.value <> ''
GROUP BY found.dimension;

-- name: count_unpriced_calls
-- Model calls of project $1 that have tokens and no price, from $2 on and before $3, by minute.
SELECT provider, model, (extract(epoch FROM date_trunc('minute', ts)) * 1000)::bigint AS minute_ms, count(*) AS calls
FROM llm_traces
WHERE project_id = $1 AND ts >= $2 AND ts < $3 AND is_generation AND total_cost_usd IS NULL AND total_tokens > 0
GROUP BY 1, 2, 3 ORDER BY 3;
