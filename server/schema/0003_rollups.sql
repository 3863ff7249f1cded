-- Aggregates that dashboards read instead of spans. docs/explanation/rollups.md tells the protocol.
--
-- Every change of a span appends signed rows to rollup_delta in the transaction that makes it; a
-- folder moves them into the grains about once a second; a reader adds what is not yet folded. So
-- the sum is exact at every moment, under late, replayed, updated, deleted and re-priced spans.

-- Combinations of low-cardinality dimensions, interned by the server; spans carry dim_id.
CREATE SEQUENCE span_dimensions_id AS integer;
CREATE TABLE span_dimensions (
    project_id     text NOT NULL,
    dim_id         integer NOT NULL DEFAULT nextval('span_dimensions_id'),
    provider       text NOT NULL DEFAULT '',
    model          text NOT NULL DEFAULT '',
    operation_type text NOT NULL DEFAULT '',
    service_name   text NOT NULL DEFAULT '',
    environment    text NOT NULL DEFAULT '',
    status_code    text NOT NULL DEFAULT '',
    error_type     text NOT NULL DEFAULT '',
    finish_reason  text NOT NULL DEFAULT '',
    agent_name     text NOT NULL DEFAULT '',
    tool_name      text NOT NULL DEFAULT '',
    prompt_name    text NOT NULL DEFAULT '',
    prompt_version text NOT NULL DEFAULT '',
    is_generation  boolean NOT NULL,
    PRIMARY KEY (project_id, dim_id),
    UNIQUE (project_id, provider, model, operation_type, service_name, environment, status_code, error_type,
            finish_reason, agent_name, tool_name, prompt_name, prompt_version, is_generation)
);
GRANT USAGE ON SEQUENCE span_dimensions_id TO observatory_api, observatory_worker;
CALL enable_project_isolation('span_dimensions');

-- Signed counters of one (5-minute bucket, dim) from one transaction. Tokens, money, first-token
-- delay and speed are of model calls only (span_dimensions.is_generation). Sums of durations are
-- numeric: a client may send a thousand spans of thirty years each, and the folder must not overflow.
-- Sketches are packed pairs of big-endian int16, bin and signed count, of a logarithmic histogram
-- with relative error 1 % (server/queries/sketch.py); concatenation merges them.
CREATE TABLE rollup_delta (
    project_id         text NOT NULL,
    bucket             timestamptz NOT NULL,
    dim_id             integer NOT NULL,
    spans              bigint NOT NULL,
    errors             bigint NOT NULL,
    traces             bigint NOT NULL,
    prompt_tokens      bigint NOT NULL,
    completion_tokens  bigint NOT NULL,
    total_tokens       bigint NOT NULL,
    cached_tokens      bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens   bigint NOT NULL,
    prompt_cost        numeric NOT NULL,
    completion_cost    numeric NOT NULL,
    total_cost         numeric NOT NULL,
    cache_savings      numeric NOT NULL,
    error_cost         numeric NOT NULL,
    duration_us        numeric NOT NULL,
    ttft_us            numeric NOT NULL,
    ttft_count         bigint NOT NULL,
    speed_us           numeric NOT NULL,
    speed_tokens       bigint NOT NULL,
    speed_count        bigint NOT NULL,
    duration_sketch    bytea NOT NULL,
    ttft_sketch        bytea NOT NULL,
    speed_sketch       bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);
CALL enable_project_isolation('rollup_delta');

-- The same for users and sessions, which are too many for span_dimensions: signed sums of one
-- (hour, user or session) from one transaction.
CREATE TABLE actor_delta (
    project_id   text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('user', 'session')),
    bucket       timestamptz NOT NULL,
    actor_hash   bigint NOT NULL,
    actor        text NOT NULL,
    spans        bigint NOT NULL,
    calls        bigint NOT NULL,
    errors       bigint NOT NULL,
    total_tokens bigint NOT NULL,
    total_cost   numeric NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);
CALL enable_project_isolation('actor_delta');
