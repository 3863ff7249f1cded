-- Summaries of traces, sessions and users, kept exact from the signed rows of span_changes.
--
-- Sums and counts are added. Starts, ends and names are widened while spans only come; where a span went
-- or changed they are read again from the rows. Each step first writes the summary rows, in key order:
-- that locks them, so that what is read afterwards holds every committed change of other writers.

-- name: fold_trace_summaries
-- Adds the changes of pass $1 and puts the summaries' own changes into trace_changes. $2: [trace, parts that spans have,
-- parts that calls lack] (server/ingest/writing/lent_parts.py), as JSON: the length of an array would make PostgreSQL
-- plan the statement each time. Returns one row
-- for each of them: sign, spans, whether it names a session or a user, and the trace if its calls may have to be counted
-- again. MATERIALIZED: ranks are needed a dozen times, and each would be computed again. The first two queries are part
-- of the INSERT, so that on a cluster their rows only go to the node that needs them.
WITH written AS (
    INSERT INTO trace_summaries AS s (
        project_id, trace_id, start_ts, end_ts, root_span_id, root_span_name, service_name, environment,
        session_id, user_id, span_count, generation_count, error_count, prompt_tokens, completion_tokens,
        total_tokens, total_cost_usd, head_rank, session_rank, user_rank, lends, lacks
    )
    WITH ranked AS MATERIALIZED (
        SELECT c.*,
               c.ts + c.duration_ms * interval '1 millisecond' AS end_ts,
               ((c.parent_span_id IS NOT NULL)::int::text
                || lpad((extract(epoch FROM c.ts) * 1000000)::bigint::text, 17, '0') || c.span_id) COLLATE "C" AS rank
        FROM pg_temp.span_changes c
        WHERE c.pass = $1::smallint
    ),
    folded AS (
        SELECT project_id, trace_id,
               coalesce(min(ts) FILTER (WHERE sign > 0), min(ts)) AS start_ts,
               coalesce(max(end_ts) FILTER (WHERE sign > 0), min(end_ts)) AS end_ts,
               -- '9' loses against every rank: what went cannot become the head.
               coalesce(min(rank) FILTER (WHERE sign > 0), '9') AS head_rank,
               min(rank) FILTER (WHERE sign > 0 AND session_id IS NOT NULL) AS session_rank,
               min(rank) FILTER (WHERE sign > 0 AND user_id IS NOT NULL) AS user_rank,
               (array_agg(span_id ORDER BY rank) FILTER (WHERE sign > 0 AND parent_span_id IS NULL))[1] AS root_span_id,
               (array_agg(span_name ORDER BY rank) FILTER (WHERE sign > 0))[1] AS root_span_name,
               (array_agg(service_name ORDER BY rank) FILTER (WHERE sign > 0))[1] AS service_name,
               (array_agg(environment ORDER BY rank) FILTER (WHERE sign > 0))[1] AS environment,
               (array_agg(session_id ORDER BY rank) FILTER (WHERE sign > 0 AND session_id IS NOT NULL))[1] AS session_id,
               (array_agg(user_id ORDER BY rank) FILTER (WHERE sign > 0 AND user_id IS NOT NULL))[1] AS user_id,
               sum(sign) AS span_count,
               coalesce(sum(sign) FILTER (WHERE is_generation), 0) AS generation_count,
               coalesce(sum(sign) FILTER (WHERE status_code = 'ERROR'), 0) AS error_count,
               coalesce(sum(sign * prompt_tokens) FILTER (WHERE is_generation), 0) AS prompt_tokens,
               coalesce(sum(sign * completion_tokens) FILTER (WHERE is_generation), 0) AS completion_tokens,
               coalesce(sum(sign * total_tokens) FILTER (WHERE is_generation), 0) AS total_tokens,
               coalesce(sum(sign * total_cost_usd) FILTER (WHERE is_generation), 0) AS total_cost_usd
        FROM ranked
        GROUP BY project_id, trace_id
    )
    SELECT project_id, trace_id, start_ts, end_ts, root_span_id, root_span_name, service_name, environment,
           session_id, user_id, span_count, generation_count, error_count, prompt_tokens, completion_tokens,
           total_tokens, total_cost_usd, head_rank, session_rank, user_rank, coalesce(p.lends, 0), coalesce(p.lacks, 0)
    FROM folded
    LEFT JOIN (SELECT j.part ->> 0 AS trace, (j.part ->> 1)::smallint AS lends, (j.part ->> 2)::smallint AS lacks
               FROM jsonb_array_elements($2::jsonb) AS j (part)) AS p ON p.trace = folded.trace_id
    ORDER BY project_id, trace_id
    ON CONFLICT (project_id, trace_id) DO UPDATE SET
        start_ts = least(s.start_ts, excluded.start_ts),
        end_ts = greatest(s.end_ts, excluded.end_ts),
        root_span_id = CASE WHEN excluded.head_rank < s.head_rank THEN excluded.root_span_id ELSE s.root_span_id END,
        root_span_name =
            CASE WHEN excluded.head_rank < s.head_rank THEN excluded.root_span_name ELSE s.root_span_name END,
        service_name = CASE WHEN excluded.head_rank < s.head_rank THEN excluded.service_name ELSE s.service_name END,
        environment = CASE WHEN excluded.head_rank < s.head_rank THEN excluded.environment ELSE s.environment END,
        session_id =
            CASE WHEN coalesce(excluded.session_rank < s.session_rank, s.session_rank IS NULL)
                 THEN excluded.session_id ELSE s.session_id END,
        user_id =
            CASE WHEN coalesce(excluded.user_rank < s.user_rank, s.user_rank IS NULL)
                 THEN excluded.user_id ELSE s.user_id END,
        span_count = s.span_count + excluded.span_count,
        generation_count = s.generation_count + excluded.generation_count,
        error_count = s.error_count + excluded.error_count,
        prompt_tokens = s.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = s.completion_tokens + excluded.completion_tokens,
        total_tokens = s.total_tokens + excluded.total_tokens,
        total_cost_usd = s.total_cost_usd + excluded.total_cost_usd,
        head_rank = least(s.head_rank, excluded.head_rank),
        session_rank = least(s.session_rank, excluded.session_rank),
        user_rank = least(s.user_rank, excluded.user_rank),
        lends = s.lends | excluded.lends,
        lacks = s.lacks | excluded.lacks,
        updated_at = excluded.updated_at
    RETURNING
        old.project_id AS old_project_id, old.trace_id AS old_trace_id, old.session_id AS old_session_id,
        old.user_id AS old_user_id, old.start_ts AS old_start_ts, old.end_ts AS old_end_ts,
        old.span_count AS old_span_count, old.generation_count AS old_generation_count,
        old.error_count AS old_error_count, old.prompt_tokens AS old_prompt_tokens,
        old.completion_tokens AS old_completion_tokens, old.total_tokens AS old_total_tokens,
        old.total_cost_usd AS old_total_cost_usd,
        new.project_id, new.trace_id, new.session_id, new.user_id, new.start_ts, new.end_ts, new.span_count,
        new.generation_count, new.error_count, new.prompt_tokens, new.completion_tokens, new.total_tokens,
        new.total_cost_usd, new.is_linked, new.lends & new.lacks <> 0 AS may_lend
)
INSERT INTO pg_temp.trace_changes (
    sign, recomputed, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
    error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd, is_linked, may_lend
)
SELECT -1, false, old_project_id, old_trace_id, old_session_id, old_user_id, old_start_ts, old_end_ts,
       old_span_count, old_generation_count, old_error_count, old_prompt_tokens, old_completion_tokens,
       old_total_tokens, old_total_cost_usd, false, false
FROM written WHERE old_trace_id IS NOT NULL
UNION ALL
SELECT 1, false, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
       error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd, is_linked, may_lend
FROM written
RETURNING sign, span_count, session_id IS NOT NULL AS has_session, user_id IS NOT NULL AS has_user, project_id,
          is_linked,
          -- Whether its calls may be counted twice, or lack what a span above has: one alone is counted once, unless
          -- another trace has it too.
          CASE WHEN sign < 0 OR generation_count > 1 OR is_linked OR may_lend THEN trace_id END AS trace_id;

-- name: recompute_trace_summaries
-- Reads start, end and names again from the rows of those traces from which a span went. Most stay as they are: sessions
-- and users, which may have many traces, are only read again for one whose time, session or user is another now.
WITH ranked AS MATERIALIZED (
    SELECT t.project_id, t.trace_id, t.span_id, t.parent_span_id, t.span_name, t.service_name, t.environment,
           t.session_id, t.user_id, t.ts,
           t.ts + t.duration_ms * interval '1 millisecond' AS end_ts,
           ((t.parent_span_id IS NOT NULL)::int::text
            || lpad((extract(epoch FROM t.ts) * 1000000)::bigint::text, 17, '0') || t.span_id) COLLATE "C" AS rank
    FROM (SELECT DISTINCT project_id, trace_id FROM pg_temp.span_changes WHERE sign < 0) c
    JOIN trace_summaries s ON s.project_id = c.project_id AND s.trace_id = c.trace_id
    JOIN llm_traces t ON t.project_id = c.project_id AND t.trace_id = c.trace_id
                     AND t.ts BETWEEN s.start_ts AND s.end_ts
),
fresh AS (
    SELECT project_id, trace_id,
           min(ts) AS start_ts,
           max(end_ts) AS end_ts,
           min(rank) AS head_rank,
           min(rank) FILTER (WHERE session_id IS NOT NULL) AS session_rank,
           min(rank) FILTER (WHERE user_id IS NOT NULL) AS user_rank,
           (array_agg(span_id ORDER BY rank) FILTER (WHERE parent_span_id IS NULL))[1] AS root_span_id,
           (array_agg(span_name ORDER BY rank))[1] AS root_span_name,
           (array_agg(service_name ORDER BY rank))[1] AS service_name,
           (array_agg(environment ORDER BY rank))[1] AS environment,
           (array_agg(session_id ORDER BY rank) FILTER (WHERE session_id IS NOT NULL))[1] AS session_id,
           (array_agg(user_id ORDER BY rank) FILTER (WHERE user_id IS NOT NULL))[1] AS user_id
    FROM ranked
    GROUP BY project_id, trace_id
),
written AS (
    UPDATE trace_summaries s SET
        start_ts = f.start_ts, end_ts = f.end_ts, head_rank = f.head_rank, session_rank = f.session_rank,
        user_rank = f.user_rank, root_span_id = f.root_span_id, root_span_name = f.root_span_name,
        service_name = f.service_name, environment = f.environment, session_id = f.session_id, user_id = f.user_id
    FROM fresh f
    WHERE s.project_id = f.project_id AND s.trace_id = f.trace_id
      AND (s.start_ts, s.end_ts, s.head_rank, s.session_rank, s.user_rank, s.root_span_id, s.root_span_name,
           s.service_name, s.environment, s.session_id, s.user_id)
          IS DISTINCT FROM
          (f.start_ts, f.end_ts, f.head_rank, f.session_rank, f.user_rank, f.root_span_id, f.root_span_name,
           f.service_name, f.environment, f.session_id, f.user_id)
    RETURNING old.session_id AS old_session_id, old.user_id AS old_user_id, old.start_ts AS old_start_ts,
              old.end_ts AS old_end_ts, new.project_id, new.trace_id, new.session_id, new.user_id, new.start_ts,
              new.end_ts, new.span_count, new.generation_count, new.error_count, new.prompt_tokens,
              new.completion_tokens, new.total_tokens, new.total_cost_usd
),
moved AS (
    SELECT *, (old_start_ts, old_end_ts, old_session_id, old_user_id)
              IS DISTINCT FROM (start_ts, end_ts, session_id, user_id) AS is_moved
    FROM written
)
INSERT INTO pg_temp.trace_changes (
    sign, recomputed, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
    error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
)
SELECT -1, is_moved, project_id, trace_id, old_session_id, old_user_id, old_start_ts, old_end_ts, span_count,
       generation_count, error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
FROM moved
UNION ALL
SELECT 1, is_moved, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count,
       generation_count, error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
FROM moved
RETURNING sign, session_id IS NOT NULL AS has_session, user_id IS NOT NULL AS has_user;

-- name: delete_empty_trace_summaries
WITH written AS (
    DELETE FROM trace_summaries s
    USING (SELECT DISTINCT project_id, trace_id FROM pg_temp.span_changes WHERE sign < 0) c
    WHERE s.project_id = c.project_id AND s.trace_id = c.trace_id AND s.span_count = 0
    RETURNING old.project_id, old.trace_id, old.session_id, old.user_id, old.start_ts, old.end_ts, old.span_count,
              old.generation_count, old.error_count, old.prompt_tokens, old.completion_tokens, old.total_tokens,
              old.total_cost_usd
)
INSERT INTO pg_temp.trace_changes (
    sign, recomputed, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
    error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
)
SELECT -1, true, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
       error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
FROM written
RETURNING sign, session_id IS NOT NULL AS has_session, user_id IS NOT NULL AS has_user;

-- name: expire_trace_summaries
-- Forgets the traces of project $1 that ended before $2, when retention has dropped their spans. The start, which is
-- no later, has the index.
WITH written AS (
    DELETE FROM trace_summaries s
    WHERE s.project_id = $1 AND s.end_ts < $2 AND s.start_ts < $2
    RETURNING old.project_id, old.trace_id, old.session_id, old.user_id, old.start_ts, old.end_ts, old.span_count,
              old.generation_count, old.error_count, old.prompt_tokens, old.completion_tokens, old.total_tokens,
              old.total_cost_usd
)
INSERT INTO pg_temp.trace_changes (
    sign, recomputed, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
    error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
)
SELECT -1, true, project_id, trace_id, session_id, user_id, start_ts, end_ts, span_count, generation_count,
       error_count, prompt_tokens, completion_tokens, total_tokens, total_cost_usd
FROM written
RETURNING sign, session_id IS NOT NULL AS has_session, user_id IS NOT NULL AS has_user;

-- name: fold_session_and_user_summaries
-- Adds the changes of traces to their sessions and users.
WITH sessions AS (
    INSERT INTO session_summaries AS s (
        project_id, session_id, user_id, first_ts, last_ts, trace_count, span_count, generation_count, error_count,
        prompt_tokens, completion_tokens, total_tokens, total_cost_usd
    )
    SELECT project_id, session_id,
           min(user_id COLLATE "C") FILTER (WHERE sign > 0),
           coalesce(min(start_ts) FILTER (WHERE sign > 0), min(start_ts)),
           coalesce(max(end_ts) FILTER (WHERE sign > 0), min(end_ts)),
           sum(sign), sum(sign * span_count), sum(sign * generation_count), sum(sign * error_count),
           sum(sign * prompt_tokens), sum(sign * completion_tokens), sum(sign * total_tokens), sum(sign * total_cost_usd)
    FROM pg_temp.trace_changes
    WHERE session_id IS NOT NULL
    GROUP BY project_id, session_id
    ORDER BY project_id, session_id
    ON CONFLICT (project_id, session_id) DO UPDATE SET
        user_id = least(s.user_id COLLATE "C", excluded.user_id COLLATE "C"),
        first_ts = least(s.first_ts, excluded.first_ts),
        last_ts = greatest(s.last_ts, excluded.last_ts),
        trace_count = s.trace_count + excluded.trace_count,
        span_count = s.span_count + excluded.span_count,
        generation_count = s.generation_count + excluded.generation_count,
        error_count = s.error_count + excluded.error_count,
        prompt_tokens = s.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = s.completion_tokens + excluded.completion_tokens,
        total_tokens = s.total_tokens + excluded.total_tokens,
        total_cost_usd = s.total_cost_usd + excluded.total_cost_usd
    RETURNING 1
),
counted AS (
    INSERT INTO user_sessions AS s (project_id, user_id, session_id, trace_count)
    SELECT project_id, user_id, session_id, sum(sign)
    FROM pg_temp.trace_changes
    WHERE user_id IS NOT NULL AND session_id IS NOT NULL
    GROUP BY project_id, user_id, session_id
    HAVING sum(sign) <> 0
    ORDER BY project_id, user_id, session_id
    ON CONFLICT (project_id, user_id, session_id) DO UPDATE SET trace_count = s.trace_count + excluded.trace_count
    RETURNING new.project_id, new.user_id,
              (new.trace_count > 0)::int - (coalesce(old.trace_count, 0) > 0)::int AS step
),
steps AS (
    SELECT project_id, user_id, sum(step) AS steps FROM counted GROUP BY project_id, user_id
),
folded AS (
    SELECT project_id, user_id,
           coalesce(min(start_ts) FILTER (WHERE sign > 0), min(start_ts)) AS first_ts,
           coalesce(max(end_ts) FILTER (WHERE sign > 0), min(end_ts)) AS last_ts,
           sum(sign) AS trace_count, sum(sign * span_count) AS span_count,
           sum(sign * generation_count) AS generation_count, sum(sign * error_count) AS error_count,
           sum(sign * prompt_tokens) AS prompt_tokens, sum(sign * completion_tokens) AS completion_tokens,
           sum(sign * total_tokens) AS total_tokens, sum(sign * total_cost_usd) AS total_cost_usd
    FROM pg_temp.trace_changes
    WHERE user_id IS NOT NULL
    GROUP BY project_id, user_id
)
INSERT INTO user_summaries AS s (
    project_id, user_id, first_ts, last_ts, session_count, trace_count, span_count, generation_count, error_count,
    prompt_tokens, completion_tokens, total_tokens, total_cost_usd
)
SELECT f.project_id, f.user_id, f.first_ts, f.last_ts, coalesce(n.steps, 0), f.trace_count, f.span_count,
       f.generation_count, f.error_count, f.prompt_tokens, f.completion_tokens, f.total_tokens, f.total_cost_usd
FROM folded f LEFT JOIN steps n ON (n.project_id, n.user_id) = (f.project_id, f.user_id)
ORDER BY f.project_id, f.user_id
ON CONFLICT (project_id, user_id) DO UPDATE SET
    first_ts = least(s.first_ts, excluded.first_ts),
    last_ts = greatest(s.last_ts, excluded.last_ts),
    session_count = s.session_count + excluded.session_count,
    trace_count = s.trace_count + excluded.trace_count,
    span_count = s.span_count + excluded.span_count,
    generation_count = s.generation_count + excluded.generation_count,
    error_count = s.error_count + excluded.error_count,
    prompt_tokens = s.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = s.completion_tokens + excluded.completion_tokens,
    total_tokens = s.total_tokens + excluded.total_tokens,
    total_cost_usd = s.total_cost_usd + excluded.total_cost_usd
RETURNING 1;

-- name: recompute_session_summaries
-- First, last and user of the sessions that lost a trace or hold one that became narrower.
WITH touched AS (
    SELECT DISTINCT project_id, session_id FROM (
        SELECT project_id, session_id, trace_id FROM pg_temp.trace_changes
        WHERE session_id IS NOT NULL
        GROUP BY project_id, session_id, trace_id
        HAVING sum(sign) < 0 OR bool_or(recomputed) OR count(DISTINCT user_id) > 1
    ) narrowed
),
fresh AS (
    SELECT t.project_id, t.session_id, min(t.user_id COLLATE "C") AS user_id, min(t.start_ts) AS first_ts,
           max(t.end_ts) AS last_ts
    FROM touched c JOIN trace_summaries t ON t.project_id = c.project_id AND t.session_id = c.session_id
    GROUP BY t.project_id, t.session_id
)
UPDATE session_summaries s SET user_id = f.user_id, first_ts = f.first_ts, last_ts = f.last_ts
FROM fresh f
WHERE s.project_id = f.project_id AND s.session_id = f.session_id;

-- name: delete_empty_session_summaries
DELETE FROM session_summaries s
USING (SELECT DISTINCT project_id, session_id FROM pg_temp.trace_changes WHERE session_id IS NOT NULL AND sign < 0) c
WHERE s.project_id = c.project_id AND s.session_id = c.session_id AND s.trace_count = 0;

-- name: recompute_user_summaries
-- First and last of the users that lost a trace or have one that became narrower.
WITH touched AS (
    SELECT DISTINCT project_id, user_id FROM (
        SELECT project_id, user_id, trace_id FROM pg_temp.trace_changes
        WHERE user_id IS NOT NULL
        GROUP BY project_id, user_id, trace_id
        HAVING sum(sign) < 0 OR bool_or(recomputed)
    ) narrowed
),
fresh AS (
    SELECT t.project_id, t.user_id, min(t.start_ts) AS first_ts, max(t.end_ts) AS last_ts
    FROM touched c JOIN trace_summaries t ON t.project_id = c.project_id AND t.user_id = c.user_id
    GROUP BY t.project_id, t.user_id
)
UPDATE user_summaries s SET first_ts = f.first_ts, last_ts = f.last_ts
FROM fresh f
WHERE s.project_id = f.project_id AND s.user_id = f.user_id;

-- name: delete_empty_user_summaries
DELETE FROM user_summaries s
USING (SELECT DISTINCT project_id, user_id FROM pg_temp.trace_changes WHERE user_id IS NOT NULL AND sign < 0) c
WHERE s.project_id = c.project_id AND s.user_id = c.user_id AND s.trace_count = 0;

-- name: delete_empty_user_sessions
DELETE FROM user_sessions s
USING (
    SELECT DISTINCT project_id, user_id, session_id FROM pg_temp.trace_changes
    WHERE user_id IS NOT NULL AND session_id IS NOT NULL AND sign < 0
) c
WHERE s.project_id = c.project_id AND s.user_id = c.user_id AND s.session_id = c.session_id AND s.trace_count = 0;
