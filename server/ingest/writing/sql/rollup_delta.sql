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
    $counters: {name},
    $sketches: {column},
    project_id, bucket, dim_id
)
SELECT
    $counters: {change},
    $sketches: {change},
    t.project_id, date_bin('5 minutes', t.ts, '2000-01-01Z'), t.dim_id
FROM span_changes AS t
GROUP BY t.project_id, date_bin('5 minutes', t.ts, '2000-01-01Z'), t.dim_id
RETURNING 1;
