-- Storing spans: staging table, upsert, removal of twins, and the other statements that change llm_traces.
-- Every one of them leaves what it changed in span_changes (one row a sign), from which span_changes.sql
-- and rollup_delta.sql bring summaries and rollups up to date in the same transaction.

-- name: writer_tables_exist
SELECT to_regclass('pg_temp.span_staging') IS NOT NULL AND to_regclass('pg_temp.trace_changes') IS NOT NULL;

-- name: create_span_staging
-- The target of COPY: the columns of llm_traces without those that the INSERT computes. search_text holds the
-- words to index, as server/queries/filters/search_text.py cuts them, of spans that come without a search_vector.
CREATE TEMP TABLE IF NOT EXISTS span_staging (LIKE llm_traces INCLUDING STORAGE) ON COMMIT DELETE ROWS;

-- name: shape_span_staging
ALTER TABLE pg_temp.span_staging
    ALTER COLUMN search_vector DROP NOT NULL,
    DROP COLUMN IF EXISTS ingested_at,
    ADD COLUMN IF NOT EXISTS search_text text STORAGE EXTERNAL,
    SET (toast_tuple_target = 8160);

-- name: create_span_changes
-- One row for each version of a span that went (sign -1) or came (sign +1). pass tells the steps of one
-- transaction apart: 0 the statement itself, 1 the twins that it made superfluous. For spans that are copied straight
-- into their partition the trigger note_copied_spans fills it (migration 0012).
-- STORAGE PLAIN: no column is long, and without a TOAST table there is less to empty at each COMMIT.
CREATE TEMP TABLE IF NOT EXISTS span_changes (
    pass                smallint NOT NULL DEFAULT 0,
    sign                smallint NOT NULL DEFAULT 1,
    project_id          text STORAGE PLAIN NOT NULL,
    ts                  timestamptz NOT NULL,
    trace_id            text STORAGE PLAIN NOT NULL,
    span_id             text STORAGE PLAIN NOT NULL,
    parent_span_id      text STORAGE PLAIN,
    span_name           text STORAGE PLAIN NOT NULL,
    dim_id              integer NOT NULL,
    is_generation       boolean NOT NULL,
    status_code         text STORAGE PLAIN NOT NULL,
    service_name        text STORAGE PLAIN,
    environment         text STORAGE PLAIN NOT NULL,
    session_id          text STORAGE PLAIN,
    user_id             text STORAGE PLAIN,
    prompt_tokens       bigint,
    completion_tokens   bigint,
    total_tokens        bigint,
    cached_tokens       bigint,
    cache_write_tokens  bigint,
    reasoning_tokens    bigint,
    prompt_cost_usd     numeric(20, 10) STORAGE PLAIN,
    completion_cost_usd numeric(20, 10) STORAGE PLAIN,
    total_cost_usd      numeric(20, 10) STORAGE PLAIN,
    cache_savings_usd   numeric(20, 10) STORAGE PLAIN,
    duration_ms         double precision NOT NULL,
    ttft_ms             double precision
) ON COMMIT DELETE ROWS;

-- name: have_copies_noted
-- For as long as the connection lives.
SET app.notes_copied_spans = 'on';

-- name: declare_shared_content
-- For as long as the connection lives: it keeps the parts of a span when it changes the span (migrations 0070 and 0107).
SET app.shares_content = 'results';

-- name: create_trace_changes
-- The same for trace summaries, from which sessions and users follow. recomputed: start, end or names
-- may have become narrower, so that sessions cannot be widened only.
CREATE TEMP TABLE IF NOT EXISTS trace_changes (
    sign              smallint NOT NULL,
    recomputed        boolean NOT NULL,
    project_id        text STORAGE PLAIN NOT NULL,
    trace_id          text STORAGE PLAIN NOT NULL,
    session_id        text STORAGE PLAIN,
    user_id           text STORAGE PLAIN,
    start_ts          timestamptz NOT NULL,
    end_ts            timestamptz NOT NULL,
    span_count        bigint NOT NULL,
    generation_count  bigint NOT NULL,
    error_count       bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    total_tokens      bigint NOT NULL,
    total_cost_usd    numeric STORAGE PLAIN NOT NULL,
    is_linked         boolean NOT NULL DEFAULT false,
    may_lend          boolean NOT NULL DEFAULT false
) ON COMMIT DELETE ROWS;

-- name: prefer_index_lookups
-- For the rest of the transaction: nothing is known of the sizes of TEMP tables, and a few of their rows
-- must never make the planner read a whole partition.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true);

-- name: ensure_partition
SELECT ensure_trace_partition($1);

-- name: list_known_traces
-- Which of the traces $2 of project $1 have spans, and whether each is linked with others.
SELECT trace_id, is_linked FROM trace_summaries WHERE project_id = $1 AND trace_id = ANY ($2::text[]);

-- columns: span_key
project_id, ts, trace_id, span_id;

-- columns: span_value
-- The columns of a span beside its key and the words to index (search_vector).
parent_span_id, span_name, span_kind, service_name, service_version, environment, provider, model,
request_model, operation_type, is_generation, agent_name, tool_name, prompt_name, prompt_version, input_type,
input_text, input_messages, output_text, output_messages, finish_reason, prompt_tokens, completion_tokens,
total_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost_usd, completion_cost_usd,
total_cost_usd, cache_savings_usd, cost_source, price_version, duration_ms, ttft_ms, status_code, error_type,
error_message, user_id, session_id, tags, attributes, resource_attributes, events, links, dialect, usage_rule,
count_rule, counted_in, inherited, usage_details, dropped, dim_id, version, parts, input_parts, content_bytes,
states_finish, more_parts, history_parts, result_alone, resource_id;

-- columns: span_change
-- The columns that summaries and rollups are made of: those of span_changes beside pass and sign.
project_id, ts, trace_id, span_id, parent_span_id, span_name, dim_id, is_generation, status_code, service_name,
environment, session_id, user_id, prompt_tokens, completion_tokens, total_tokens, cached_tokens,
cache_write_tokens, reasoning_tokens, prompt_cost_usd, completion_cost_usd, total_cost_usd, cache_savings_usd,
duration_ms, ttft_ms;

-- name: store_staged_spans
-- The staged spans become rows; a row that is there gives way only to a later version. They are read in the order of
-- COPY, which is that of their key, so that two writers with the same spans wait for each other and do not deadlock.
-- Gives back the sign of each version that came (1) or went (-1).
WITH written AS (
    INSERT INTO llm_traces AS t (
        $columns(span_key), $columns(span_value), search_vector
    )
    SELECT
        $columns(span_key, s.*), $columns(span_value, s.*),
        coalesce(s.search_vector, to_tsvector('simple', s.search_text))
    FROM pg_temp.span_staging s
    ON CONFLICT (project_id, trace_id, span_id, ts) DO UPDATE SET
        $columns(span_value, * = excluded.*), search_vector = excluded.search_vector, ingested_at = excluded.ingested_at
    WHERE excluded.version > t.version
    RETURNING
        $columns(span_change, old.* AS old_*), $columns(span_change, new.* AS new_*)
)
INSERT INTO pg_temp.span_changes (
    pass, sign, $columns(span_change)
)
SELECT
    0, -1, $columns(span_change, old_*)
FROM written WHERE old_span_id IS NOT NULL
UNION ALL
SELECT
    0, 1, $columns(span_change, new_*)
FROM written WHERE new_span_id IS NOT NULL
RETURNING sign;

-- name: remove_span_twins
-- A later version of a span may have another start time, which is in the key of llm_traces. Of all rows of
-- one span only the one with the latest version stays; of equals, the one that was stored first. Runs after
-- the trace summaries are locked by fold_trace_summaries, so that no other writer is in between.
WITH candidates AS (
    SELECT t.project_id, t.trace_id, t.span_id, t.ts,
           row_number() OVER (
               PARTITION BY t.project_id, t.trace_id, t.span_id ORDER BY t.version DESC, t.ingested_at, t.ts
           ) AS place
    FROM pg_temp.span_changes c
    JOIN pg_temp.trace_changes was ON was.project_id = c.project_id AND was.trace_id = c.trace_id AND was.sign < 0
    JOIN pg_temp.trace_changes now ON now.project_id = c.project_id AND now.trace_id = c.trace_id AND now.sign > 0
    JOIN llm_traces t ON t.project_id = c.project_id AND t.trace_id = c.trace_id AND t.span_id = c.span_id
                     AND t.ts BETWEEN now.start_ts AND now.end_ts
    WHERE c.sign > 0
),
written AS (
    DELETE FROM llm_traces t USING candidates c
    WHERE c.place > 1
      AND t.project_id = c.project_id AND t.trace_id = c.trace_id AND t.span_id = c.span_id AND t.ts = c.ts
    RETURNING
        $columns(span_change, old.* AS old_*)
)
INSERT INTO pg_temp.span_changes (
    pass, sign, $columns(span_change)
)
SELECT
    1, -1, $columns(span_change, old_*)
FROM written WHERE old_span_id IS NOT NULL
RETURNING sign;

-- name: delete_trace_spans
-- All spans of the traces $2 of project $1. Returns the trace of each.
WITH written AS (
    DELETE FROM llm_traces t WHERE t.project_id = $1 AND t.trace_id = ANY ($2::text[])
    RETURNING
        $columns(span_change, old.* AS old_*)
)
INSERT INTO pg_temp.span_changes (
    pass, sign, $columns(span_change)
)
SELECT
    0, -1, $columns(span_change, old_*)
FROM written WHERE old_span_id IS NOT NULL
RETURNING trace_id;
