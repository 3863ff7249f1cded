-- The spans themselves. One row is one span; a trace is the set of rows with one trace_id.
--
-- Weekly range partitions by ts (see docs/decisions): made ahead by the server, dropped by retention.
-- Large columns are STORAGE EXTERNAL: compressing them cost twice the backend CPU and saved 8 %.

CREATE TABLE llm_traces (
    project_id          text NOT NULL,
    ts                  timestamptz NOT NULL CHECK (ts >= '2000-01-01Z' AND ts < '2100-01-01Z'),
    trace_id            text NOT NULL CHECK (length(trace_id) BETWEEN 1 AND 64),
    span_id             text NOT NULL CHECK (length(span_id) BETWEEN 1 AND 64),
    parent_span_id      text,
    span_name           text NOT NULL,
    span_kind           text NOT NULL,
    service_name        text,
    service_version     text,
    environment         text NOT NULL,
    provider            text,
    model               text,
    request_model       text,
    operation_type      text NOT NULL,
    is_generation       boolean NOT NULL,
    agent_name          text,
    tool_name           text,
    prompt_name         text,
    prompt_version      text,
    input_type          text,
    input_text          text,
    input_messages      jsonb,
    output_text         text,
    output_messages     jsonb,
    finish_reason       text,
    prompt_tokens       bigint CHECK (prompt_tokens BETWEEN 0 AND 1000000000000),
    completion_tokens   bigint CHECK (completion_tokens BETWEEN 0 AND 1000000000000),
    total_tokens        bigint CHECK (total_tokens BETWEEN 0 AND 2000000000000),
    cached_tokens       bigint CHECK (cached_tokens BETWEEN 0 AND 1000000000000),
    cache_write_tokens  bigint CHECK (cache_write_tokens BETWEEN 0 AND 1000000000000),
    reasoning_tokens    bigint CHECK (reasoning_tokens BETWEEN 0 AND 1000000000000),
    -- numeric accepts NaN and Infinity, and NaN is greater than everything: the upper bound refuses all three.
    prompt_cost_usd     numeric(20, 10) CHECK (prompt_cost_usd >= 0 AND prompt_cost_usd < 1000000000),
    completion_cost_usd numeric(20, 10) CHECK (completion_cost_usd >= 0 AND completion_cost_usd < 1000000000),
    total_cost_usd      numeric(20, 10) CHECK (total_cost_usd >= 0 AND total_cost_usd < 1000000000),
    cache_savings_usd   numeric(20, 10) CHECK (cache_savings_usd > -1000000000 AND cache_savings_usd < 1000000000),
    cost_source         text NOT NULL CHECK (cost_source IN ('reported', 'computed', 'override', 'none')),
    price_version       text,
    duration_ms         double precision NOT NULL CHECK (duration_ms >= 0 AND duration_ms < 1e12),
    ttft_ms             double precision CHECK (ttft_ms >= 0 AND ttft_ms < 1e12),
    status_code         text NOT NULL CHECK (status_code IN ('OK', 'ERROR', 'UNSET')),
    error_type          text,
    error_message       text,
    user_id             text,
    session_id          text,
    tags                text[] NOT NULL DEFAULT '{}',
    attributes          jsonb NOT NULL DEFAULT '{}',
    resource_attributes jsonb NOT NULL DEFAULT '{}',
    events              jsonb NOT NULL DEFAULT '[]',
    links               jsonb NOT NULL DEFAULT '[]',
    dialect             text NOT NULL,
    usage_rule          smallint,
    dropped             jsonb,
    dim_id              integer NOT NULL,
    -- The end of the span in µs since the epoch: of two versions of one span the later end wins.
    version             bigint NOT NULL,
    search_vector       tsvector NOT NULL DEFAULT ''::tsvector,
    ingested_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT llm_traces_key PRIMARY KEY (project_id, trace_id, span_id, ts)
) PARTITION BY RANGE (ts);

ALTER TABLE llm_traces
    ALTER COLUMN input_text SET STORAGE EXTERNAL,
    ALTER COLUMN input_messages SET STORAGE EXTERNAL,
    ALTER COLUMN output_text SET STORAGE EXTERNAL,
    ALTER COLUMN output_messages SET STORAGE EXTERNAL,
    ALTER COLUMN attributes SET STORAGE EXTERNAL,
    ALTER COLUMN resource_attributes SET STORAGE EXTERNAL,
    ALTER COLUMN events SET STORAGE EXTERNAL,
    ALTER COLUMN links SET STORAGE EXTERNAL,
    ALTER COLUMN search_vector SET STORAGE EXTERNAL;

CREATE INDEX llm_traces_time ON llm_traces (project_id, ts DESC);
CREATE INDEX llm_traces_model ON llm_traces (project_id, model, ts DESC);
CREATE INDEX llm_traces_session ON llm_traces (project_id, session_id, ts DESC) WHERE session_id IS NOT NULL;
CREATE INDEX llm_traces_user ON llm_traces (project_id, user_id, ts DESC) WHERE user_id IS NOT NULL;
CREATE INDEX llm_traces_error ON llm_traces (project_id, ts DESC) WHERE status_code = 'ERROR';
CREATE INDEX llm_traces_cost ON llm_traces (project_id, total_cost_usd DESC NULLS LAST, ts DESC) WHERE total_cost_usd IS NOT NULL;
CREATE INDEX llm_traces_duration ON llm_traces (project_id, duration_ms DESC, ts DESC);
CREATE INDEX llm_traces_text ON llm_traces USING gin (search_vector) WITH (fastupdate = on, gin_pending_list_limit = 131072);

CALL enable_project_isolation('llm_traces');

-- Row-level security keeps an operator out of an index unless its function is marked leakproof
-- (it could otherwise tell about rows the policy hides). None of these raises an error or
-- writes anything that depends on its arguments. Only a superuser may say so; without it text
-- search still answers, more slowly, and migrate says what to ask the administrator for.
DO $$
BEGIN
    ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF;
    ALTER FUNCTION pg_catalog.arrayoverlap(anyarray, anyarray) LEAKPROOF;
    ALTER FUNCTION pg_catalog.arraycontains(anyarray, anyarray) LEAKPROOF;
    -- Comparisons of money: bounds on costs, and pages of a list in the order of cost.
    ALTER FUNCTION pg_catalog.numeric_eq(numeric, numeric) LEAKPROOF;
    ALTER FUNCTION pg_catalog.numeric_lt(numeric, numeric) LEAKPROOF;
    ALTER FUNCTION pg_catalog.numeric_le(numeric, numeric) LEAKPROOF;
    ALTER FUNCTION pg_catalog.numeric_gt(numeric, numeric) LEAKPROOF;
    ALTER FUNCTION pg_catalog.numeric_ge(numeric, numeric) LEAKPROOF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'text search, tags and money will not use their indexes under row-level security: ask a superuser for the statements in docs/how-to/deploy.md';
END $$;

-- Makes sure the week that holds "at" has a partition. Runs with the owner's rights, since the
-- server's roles may not create tables. Built aside and attached, so that readers never wait.
CREATE FUNCTION ensure_trace_partition(at timestamptz) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    week_start timestamptz := date_trunc('week', at, 'UTC');
    week_end   timestamptz := week_start + interval '7 days';
    part       text := 'llm_traces_' || to_char(week_start AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    IF at < '2000-01-01Z' OR at >= '2100-01-01Z' THEN
        RAISE EXCEPTION 'no partition for %', at USING ERRCODE = '22008';
    END IF;
    IF to_regclass(part) IS NOT NULL THEN
        RETURN part;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('llm_traces partitions'));
    -- Not to_regclass again: this session remembers its first "no" until it is told otherwise, and the
    -- lock tells it nothing. A query sees what the holder of the lock before us has committed.
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'llm_traces'::regclass AND c.relname = part) THEN
        RETURN part;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE llm_traces INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    EXECUTE format('ALTER TABLE %I SET (toast_tuple_target = 8160, autovacuum_vacuum_insert_scale_factor = 0.05)', part);
    EXECUTE format('ALTER TABLE llm_traces ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, week_start, week_end);
    RETURN part;
END $$;
REVOKE ALL ON FUNCTION ensure_trace_partition(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_trace_partition(timestamptz) TO observatory_api, observatory_worker;

-- Drops the partitions that end at or before "cutoff"; gives their names.
CREATE FUNCTION drop_trace_partitions(cutoff timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part text;
BEGIN
    FOR part IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'llm_traces'::regclass
          AND to_timestamp(right(c.relname, 8) || ' 00+00', 'YYYYMMDD HH24TZH') + interval '7 days' <= cutoff
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        RETURN NEXT part;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION drop_trace_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_trace_partitions(timestamptz) TO observatory_worker;

-- One row a trace, kept by the span writer in the transaction that stores the spans.
-- Token and money columns count model calls only (llm_traces.is_generation).
-- The name columns come from one span each: the first by rank among those that have the value. A rank
-- is '0' for a root and '1' for others, the start in µs, and the span id; so a root always comes first.
CREATE TABLE trace_summaries (
    project_id        text NOT NULL,
    trace_id          text NOT NULL,
    start_ts          timestamptz NOT NULL,
    end_ts            timestamptz NOT NULL,
    root_span_id      text,
    root_span_name    text,
    service_name      text,
    environment       text,
    session_id        text,
    user_id           text,
    span_count        bigint NOT NULL,
    generation_count  bigint NOT NULL,
    error_count       bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    total_tokens      bigint NOT NULL,
    total_cost_usd    numeric NOT NULL,
    head_rank         text COLLATE "C" NOT NULL,
    session_rank      text COLLATE "C",
    user_rank         text COLLATE "C",
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, trace_id)
);
CREATE INDEX trace_summaries_time ON trace_summaries (project_id, start_ts DESC);
CREATE INDEX trace_summaries_session ON trace_summaries (project_id, session_id, start_ts DESC) WHERE session_id IS NOT NULL;
CREATE INDEX trace_summaries_user ON trace_summaries (project_id, user_id, start_ts DESC) WHERE user_id IS NOT NULL;
CALL enable_project_isolation('trace_summaries');

-- One row a session: the sum of the traces whose summary names it. user_id: the first by alphabet.
CREATE TABLE session_summaries (
    project_id        text NOT NULL,
    session_id        text NOT NULL,
    user_id           text,
    first_ts          timestamptz NOT NULL,
    last_ts           timestamptz NOT NULL,
    trace_count       bigint NOT NULL,
    span_count        bigint NOT NULL,
    generation_count  bigint NOT NULL,
    error_count       bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    total_tokens      bigint NOT NULL,
    total_cost_usd    numeric NOT NULL,
    PRIMARY KEY (project_id, session_id)
);
CREATE INDEX session_summaries_last ON session_summaries (project_id, last_ts DESC);
CREATE INDEX session_summaries_cost ON session_summaries (project_id, total_cost_usd DESC);
CALL enable_project_isolation('session_summaries');

-- How many traces a user has in each session: what user_summaries.session_count is counted from.
CREATE TABLE user_sessions (
    project_id  text NOT NULL,
    user_id     text NOT NULL,
    session_id  text NOT NULL,
    trace_count bigint NOT NULL,
    PRIMARY KEY (project_id, user_id, session_id)
);
CALL enable_project_isolation('user_sessions');

-- One row a user: the sum of the traces whose summary names the user.
CREATE TABLE user_summaries (
    project_id        text NOT NULL,
    user_id           text NOT NULL,
    first_ts          timestamptz NOT NULL,
    last_ts           timestamptz NOT NULL,
    session_count     bigint NOT NULL,
    trace_count       bigint NOT NULL,
    span_count        bigint NOT NULL,
    generation_count  bigint NOT NULL,
    error_count       bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    total_tokens      bigint NOT NULL,
    total_cost_usd    numeric NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX user_summaries_last ON user_summaries (project_id, last_ts DESC);
CREATE INDEX user_summaries_cost ON user_summaries (project_id, total_cost_usd DESC);
CALL enable_project_isolation('user_summaries');

-- Judgements of a trace or of one of its spans.
CREATE TABLE scores (
    project_id   text NOT NULL,
    score_id     text NOT NULL,
    trace_id     text NOT NULL,
    span_id      text,
    name         text NOT NULL,
    data_type    text NOT NULL CHECK (data_type IN ('numeric', 'boolean', 'categorical')),
    value        double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    string_value text,
    source       text NOT NULL CHECK (source IN ('human', 'eval', 'api')),
    comment      text,
    ts           timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text,
    CHECK (CASE data_type WHEN 'categorical' THEN string_value IS NOT NULL ELSE value IS NOT NULL END),
    CHECK (data_type <> 'boolean' OR value IN (0, 1)),
    PRIMARY KEY (project_id, score_id)
);
CREATE INDEX scores_trace ON scores (project_id, trace_id);
CREATE INDEX scores_name ON scores (project_id, name, ts DESC);
CALL enable_project_isolation('scores');

-- Prices that the operator set; they win over the built-in catalogue. US dollars a million tokens.
CREATE TABLE price_overrides (
    project_id            text NOT NULL,
    provider              text NOT NULL,
    model                 text NOT NULL,
    valid_from            timestamptz NOT NULL,
    input_usd_per_mtok       numeric NOT NULL CHECK (input_usd_per_mtok >= 0 AND input_usd_per_mtok < 1000000),
    output_usd_per_mtok      numeric NOT NULL CHECK (output_usd_per_mtok >= 0 AND output_usd_per_mtok < 1000000),
    cache_read_usd_per_mtok  numeric CHECK (cache_read_usd_per_mtok >= 0 AND cache_read_usd_per_mtok < 1000000),
    cache_write_usd_per_mtok numeric CHECK (cache_write_usd_per_mtok >= 0 AND cache_write_usd_per_mtok < 1000000),
    created_at            timestamptz NOT NULL DEFAULT now(),
    created_by            text,
    PRIMARY KEY (project_id, provider, model, valid_from)
);
CALL enable_project_isolation('price_overrides');
