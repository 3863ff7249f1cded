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

-- counters of one (5-minute bucket, dim), signed; sketches are packed pairs of big-endian int16:
-- bin of a logarithmic histogram with relative error 1 %, signed count.
CREATE TABLE rollup_delta (
    project_id         text NOT NULL,
    bucket             timestamptz NOT NULL,
    dim_id             integer NOT NULL,
    spans              bigint NOT NULL,
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
    duration_us        bigint NOT NULL,
    ttft_us            bigint NOT NULL,
    ttft_count         bigint NOT NULL,
    duration_sketch    bytea NOT NULL,
    ttft_sketch        bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);
CALL enable_project_isolation('rollup_delta');
