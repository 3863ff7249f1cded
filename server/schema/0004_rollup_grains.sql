-- What the folder makes of the deltas. Only the worker writes these tables.

-- Counters by (5 minutes, dim): kept for days. The hour and the day have the same columns and are kept longer.
CREATE TABLE rollup_5m (LIKE rollup_delta);
ALTER TABLE rollup_5m
    ADD PRIMARY KEY (project_id, bucket, dim_id),
    ALTER COLUMN duration_sketch SET STORAGE EXTERNAL,
    ALTER COLUMN ttft_sketch SET STORAGE EXTERNAL,
    ALTER COLUMN speed_sketch SET STORAGE EXTERNAL,
    SET (toast_tuple_target = 4080, fillfactor = 80);
CREATE TABLE rollup_1h (LIKE rollup_5m INCLUDING STORAGE INCLUDING INDEXES);
CREATE TABLE rollup_1d (LIKE rollup_5m INCLUDING STORAGE INCLUDING INDEXES);
ALTER TABLE rollup_1h SET (toast_tuple_target = 4080, fillfactor = 80);
ALTER TABLE rollup_1d SET (toast_tuple_target = 4080, fillfactor = 80);

-- Counters by (hour, one value of one dimension), with percentiles worked out beforehand: what a panel
-- "p95 by model over 30 days" reads. Dimension 'all' with value '' is the total. The quantile arrays hold
-- p50, p75, p90, p95 and p99.
CREATE TABLE slice_1h (
    dimension          text NOT NULL,
    value              text NOT NULL,
    is_generation      boolean NOT NULL,
    LIKE rollup_5m INCLUDING STORAGE,
    duration_quantiles double precision[] NOT NULL,
    ttft_quantiles     double precision[] NOT NULL,
    speed_quantiles    double precision[] NOT NULL
);
ALTER TABLE slice_1h
    DROP COLUMN dim_id,
    ADD PRIMARY KEY (project_id, dimension, bucket, value, is_generation),
    SET (toast_tuple_target = 4080, fillfactor = 80);

-- Users and sessions of a stretch of time as one packed value: "ids" are the sorted 64-bit hashes of their
-- names, "amounts" the sums beside them (server/queries/actor_blob.py). Exact distinct counts that deletes can
-- take back, which HyperLogLog cannot. "hours" is 1, 24 or 168: the hours are the truth, days and weeks (from
-- Monday) are merged copies of them, made once they are past; a change of an hour removes its day and week.
CREATE TABLE actor_pack (
    project_id text NOT NULL,
    kind       text NOT NULL,
    hours      smallint NOT NULL CHECK (hours IN (1, 24, 168)),
    bucket     timestamptz NOT NULL,
    ids        bytea NOT NULL,
    amounts    bytea NOT NULL,
    PRIMARY KEY (project_id, kind, hours, bucket)
);
ALTER TABLE actor_pack ALTER COLUMN ids SET STORAGE EXTERNAL, ALTER COLUMN amounts SET STORAGE EXTERNAL;

-- The names behind the hashes; last_day lets retention forget them.
CREATE TABLE actor_names (
    project_id text NOT NULL,
    kind       text NOT NULL,
    actor_hash bigint NOT NULL,
    actor      text NOT NULL,
    last_day   date NOT NULL,
    PRIMARY KEY (project_id, kind, actor_hash)
);

-- raw_since: spans before it were dropped by retention, so rollups before it cannot be rebuilt.
CREATE TABLE rollup_state (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    raw_since timestamptz NOT NULL DEFAULT '2000-01-01Z',
    rollup_5m_since timestamptz NOT NULL DEFAULT '2000-01-01Z'
);
INSERT INTO rollup_state DEFAULT VALUES;
GRANT SELECT ON rollup_state TO observatory_api;
GRANT SELECT, UPDATE ON rollup_state TO observatory_worker;

DO $$
DECLARE
    grain text;
BEGIN
    FOREACH grain IN ARRAY ARRAY['rollup_5m', 'rollup_1h', 'rollup_1d', 'slice_1h', 'actor_pack', 'actor_names']
    LOOP
        CALL enable_project_isolation(grain::regclass);
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I FROM observatory_api', grain);
    END LOOP;
END $$;
