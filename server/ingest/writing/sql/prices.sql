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
        old.project_id AS old_project_id, old.ts AS old_ts, old.trace_id AS old_trace_id, old.span_id AS old_span_id,
        old.parent_span_id AS old_parent_span_id, old.span_name AS old_span_name, old.dim_id AS old_dim_id,
        old.is_generation AS old_is_generation, old.status_code AS old_status_code,
        old.service_name AS old_service_name, old.environment AS old_environment, old.session_id AS old_session_id,
        old.user_id AS old_user_id, old.prompt_tokens AS old_prompt_tokens,
        old.completion_tokens AS old_completion_tokens, old.total_tokens AS old_total_tokens,
        old.cached_tokens AS old_cached_tokens, old.cache_write_tokens AS old_cache_write_tokens,
        old.reasoning_tokens AS old_reasoning_tokens, old.prompt_cost_usd AS old_prompt_cost_usd,
        old.completion_cost_usd AS old_completion_cost_usd, old.total_cost_usd AS old_total_cost_usd,
        old.cache_savings_usd AS old_cache_savings_usd, old.duration_ms AS old_duration_ms,
        old.ttft_ms AS old_ttft_ms, new.project_id AS new_project_id, new.ts AS new_ts, new.trace_id AS new_trace_id,
        new.span_id AS new_span_id, new.parent_span_id AS new_parent_span_id, new.span_name AS new_span_name,
        new.dim_id AS new_dim_id, new.is_generation AS new_is_generation, new.status_code AS new_status_code,
        new.service_name AS new_service_name, new.environment AS new_environment, new.session_id AS new_session_id,
        new.user_id AS new_user_id, new.prompt_tokens AS new_prompt_tokens,
        new.completion_tokens AS new_completion_tokens, new.total_tokens AS new_total_tokens,
        new.cached_tokens AS new_cached_tokens, new.cache_write_tokens AS new_cache_write_tokens,
        new.reasoning_tokens AS new_reasoning_tokens, new.prompt_cost_usd AS new_prompt_cost_usd,
        new.completion_cost_usd AS new_completion_cost_usd, new.total_cost_usd AS new_total_cost_usd,
        new.cache_savings_usd AS new_cache_savings_usd, new.duration_ms AS new_duration_ms, new.ttft_ms AS new_ttft_ms
)
INSERT INTO pg_temp.span_changes (
    pass, sign, project_id, ts, trace_id, span_id, parent_span_id, span_name, dim_id, is_generation, status_code,
    service_name, environment, session_id, user_id, prompt_tokens, completion_tokens, total_tokens, cached_tokens,
    cache_write_tokens, reasoning_tokens, prompt_cost_usd, completion_cost_usd, total_cost_usd, cache_savings_usd,
    duration_ms, ttft_ms
)
SELECT
    0, -1, old_project_id, old_ts, old_trace_id, old_span_id, old_parent_span_id, old_span_name, old_dim_id,
    old_is_generation, old_status_code, old_service_name, old_environment, old_session_id, old_user_id,
    old_prompt_tokens, old_completion_tokens, old_total_tokens, old_cached_tokens, old_cache_write_tokens,
    old_reasoning_tokens, old_prompt_cost_usd, old_completion_cost_usd, old_total_cost_usd, old_cache_savings_usd,
    old_duration_ms, old_ttft_ms
FROM written
UNION ALL
SELECT
    0, 1, new_project_id, new_ts, new_trace_id, new_span_id, new_parent_span_id, new_span_name, new_dim_id,
    new_is_generation, new_status_code, new_service_name, new_environment, new_session_id, new_user_id,
    new_prompt_tokens, new_completion_tokens, new_total_tokens, new_cached_tokens, new_cache_write_tokens,
    new_reasoning_tokens, new_prompt_cost_usd, new_completion_cost_usd, new_total_cost_usd, new_cache_savings_usd,
    new_duration_ms, new_ttft_ms
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
