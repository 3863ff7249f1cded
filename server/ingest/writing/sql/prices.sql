-- Prices: overrides, re-pricing, and what has no price.

-- name: list_repriceable_calls
-- The next model calls of project $1 from $2 on and before $3, after the key ($4, $5, $6), whose price was not
-- reported by the sender. {filter} is the caller's filter over t.
SELECT t.ts, t.trace_id, t.span_id, t.version, t.provider, t.model, t.prompt_tokens, t.completion_tokens,
       t.cached_tokens, t.cache_write_tokens, t.reasoning_tokens, t.prompt_cost_usd, t.completion_cost_usd,
       t.total_cost_usd, t.cache_savings_usd, t.cost_source, t.price_version, t.usage_details, t.attributes
FROM llm_traces t
WHERE t.project_id = $1 AND t.ts >= $2 AND t.ts < $3
  AND (t.ts, t.trace_id, t.span_id) > ($4, $5, $6)
  AND t.is_generation AND t.cost_source <> 'reported'
  AND {filter}
ORDER BY t.ts, t.trace_id, t.span_id
LIMIT $7;

-- name: apply_prices
-- New prices for spans of project $1, as arrays of equal length. A span that changed since it was read (its
-- version, $5) is left alone: the newer version was priced when it came.
WITH written AS (
    UPDATE llm_traces t SET
        prompt_cost_usd = p.prompt_cost_usd, completion_cost_usd = p.completion_cost_usd,
        total_cost_usd = p.total_cost_usd, cache_savings_usd = p.cache_savings_usd,
        cost_source = p.cost_source, price_version = p.price_version
    FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::numeric[], $7::numeric[], $8::numeric[],
                $9::numeric[], $10::text[], $11::text[])
        AS p (ts, trace_id, span_id, version, prompt_cost_usd, completion_cost_usd, total_cost_usd,
              cache_savings_usd, cost_source, price_version)
    WHERE t.project_id = $1 AND t.trace_id = p.trace_id AND t.span_id = p.span_id AND t.ts = p.ts
      AND t.version = p.version AND t.cost_source <> 'reported'
    RETURNING
        $columns(span_change, old.* AS old_*), $columns(span_change, new.* AS new_*)
)
INSERT INTO pg_temp.span_changes (
    pass, sign, $columns(span_change)
)
SELECT
    0, -1, $columns(span_change, old_*)
FROM written
UNION ALL
SELECT
    0, 1, $columns(span_change, new_*)
FROM written
RETURNING sign;

-- name: store_price_override
INSERT INTO price_overrides AS p (
    project_id, provider, model, valid_from, input_usd_per_mtok, output_usd_per_mtok, cache_read_usd_per_mtok,
    cache_write_usd_per_mtok, created_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (project_id, provider, model, valid_from) DO UPDATE SET
    input_usd_per_mtok = excluded.input_usd_per_mtok, output_usd_per_mtok = excluded.output_usd_per_mtok,
    cache_read_usd_per_mtok = excluded.cache_read_usd_per_mtok,
    cache_write_usd_per_mtok = excluded.cache_write_usd_per_mtok, created_by = excluded.created_by
RETURNING new.*, old.project_id IS NULL AS is_new;

-- name: delete_price_override
DELETE FROM price_overrides
WHERE project_id = $1 AND provider = $2 AND model = $3 AND valid_from = $4
RETURNING 1;

-- name: list_unpriced_models
-- Model calls of project $1 that have tokens and no price, from $2 on and before $3.
SELECT project_id, provider, model, count(*) AS calls, sum(total_tokens)::bigint AS total_tokens,
       min(ts) AS first_seen, max(ts) AS last_seen
FROM llm_traces
WHERE project_id = $1 AND ts >= $2 AND ts < $3 AND is_generation AND total_cost_usd IS NULL AND total_tokens > 0
GROUP BY project_id, provider, model
ORDER BY calls DESC, provider, model
LIMIT 1000;
