-- Statements that keep the rollups in the transaction that changes spans.

-- name: append_rollup_delta
-- Adds what changed to rollup_delta and actor_delta. Reads the TEMP table span_changes: one row per
-- sign, -1 for the span as it was, +1 for the span as it is. Tokens, money, first-token delay and
-- speed count for model calls only. RETURNING 1 is for Citus, which refuses INSERT … SELECT into a
-- table under row-level security without it.
WITH actors AS (
    INSERT INTO actor_delta (project_id, kind, bucket, actor_hash, actor, spans, calls, errors, total_tokens, total_cost)
    SELECT
        c.project_id,
        a.kind,
        date_bin('1 hour', c.ts, '2000-01-01Z'),
        hashtextextended(a.actor, 0),
        a.actor,
        sum(c.sign),
        coalesce(sum(c.sign) FILTER (WHERE c.is_generation), 0),
        coalesce(sum(c.sign) FILTER (WHERE c.is_generation AND c.status_code = 'ERROR'), 0),
        coalesce(sum(c.sign * c.total_tokens) FILTER (WHERE c.is_generation), 0),
        coalesce(sum(c.sign * c.total_cost_usd) FILTER (WHERE c.is_generation), 0)
    FROM span_changes AS c
    CROSS JOIN LATERAL (VALUES ('user', c.user_id), ('session', c.session_id)) AS a (kind, actor)
    WHERE a.actor <> ''
    GROUP BY 1, 2, 3, 4, 5
    RETURNING 1
)
INSERT INTO rollup_delta (
    project_id, bucket, dim_id, spans, errors, traces,
    prompt_tokens, completion_tokens, total_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
    prompt_cost, completion_cost, total_cost, cache_savings, error_cost,
    duration_us, ttft_us, ttft_count, speed_us, speed_tokens, speed_count,
    duration_sketch, ttft_sketch, speed_sketch
)
SELECT
    project_id,
    date_bin('5 minutes', ts, '2000-01-01Z'),
    dim_id,
    sum(sign),
    coalesce(sum(sign) FILTER (WHERE status_code = 'ERROR'), 0),
    coalesce(sum(sign) FILTER (WHERE parent_span_id IS NULL), 0),
    coalesce(sum(sign * prompt_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * completion_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * total_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * cached_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * cache_write_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * reasoning_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * prompt_cost_usd) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * completion_cost_usd) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * total_cost_usd) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * cache_savings_usd) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign * total_cost_usd) FILTER (WHERE is_generation AND status_code = 'ERROR'), 0),
    sum(sign * round(duration_ms * 1000)::bigint),
    coalesce(sum(sign * round(ttft_ms * 1000)::bigint) FILTER (WHERE is_generation), 0),
    coalesce(sum(sign) FILTER (WHERE is_generation AND ttft_ms IS NOT NULL), 0),
    coalesce(sum(sign * round(duration_ms * 1000)::bigint)
        FILTER (WHERE is_generation AND completion_tokens > 0 AND duration_ms >= 0.001), 0),
    coalesce(sum(sign * completion_tokens)
        FILTER (WHERE is_generation AND completion_tokens > 0 AND duration_ms >= 0.001), 0),
    coalesce(sum(sign) FILTER (WHERE is_generation AND completion_tokens > 0 AND duration_ms >= 0.001), 0),
    string_agg(sketch_entry(duration_ms, sign), ''::bytea),
    coalesce(string_agg(sketch_entry(ttft_ms, sign), ''::bytea)
        FILTER (WHERE is_generation AND ttft_ms IS NOT NULL), ''::bytea),
    coalesce(string_agg(sketch_entry(completion_tokens * 1000 / duration_ms, sign), ''::bytea) FILTER (WHERE is_generation AND completion_tokens > 0 AND duration_ms >= 0.001), ''::bytea)
FROM span_changes
GROUP BY 1, 2, 3
RETURNING 1;
