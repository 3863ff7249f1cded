-- Vectors of what spans say, for search by meaning (docs/decisions/0170-vectors-in-plain-postgresql.md).
--
-- Only types of PostgreSQL itself: bits that an index has beside the project and the time, and the vector in half
-- precision as bytes, which the server compares. Weekly partitions as llm_traces has them, made when needed.

CREATE TABLE embedding_models (
    model_id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 2 AND 4096),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE embedding_models IS 'Models that vectors were made with. Vectors of different models cannot be compared.';
GRANT SELECT, INSERT ON embedding_models TO observatory_api, observatory_worker;

-- Which process makes vectors: one at a time, until it no longer renews this.
CREATE TABLE embedding_lease (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    holder     text NOT NULL,
    expires_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON embedding_lease TO observatory_worker;

CREATE TABLE span_vectors (
    project_id text NOT NULL,
    ts         timestamptz NOT NULL,
    trace_id   text NOT NULL,
    span_id    text NOT NULL,
    model_id   smallint NOT NULL,
    -- Of the span that the text was taken from.
    version    bigint NOT NULL,
    -- Of the text; an equal one of the same project and model is not embedded again. NULL: nothing to embed.
    text_hash  bytea,
    -- The signs of the vector's elements.
    bits       bit varying,
    -- Its elements, as IEEE 754 half precision, little-endian; of length 1.
    vector     bytea,
    added_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((text_hash IS NULL) = (vector IS NULL) AND (vector IS NULL) = (bits IS NULL)),
    PRIMARY KEY (project_id, trace_id, span_id, ts)
) PARTITION BY RANGE (ts);
ALTER TABLE span_vectors ALTER COLUMN bits SET STORAGE PLAIN, ALTER COLUMN vector SET STORAGE EXTERNAL;

-- All that the first step of a search reads, so that it never touches the table.
CREATE INDEX span_vectors_near ON span_vectors (project_id, model_id, ts)
    INCLUDE (trace_id, span_id, added_at, bits) WHERE bits IS NOT NULL;
CREATE INDEX span_vectors_text ON span_vectors (project_id, model_id, text_hash) WHERE text_hash IS NOT NULL;
CALL enable_project_isolation('span_vectors');

-- Makes sure the week that holds "at" has a partition, as ensure_trace_partition does.
CREATE FUNCTION ensure_vector_partition(at timestamptz) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    week_start timestamptz := date_trunc('week', at, 'UTC');
    week_end   timestamptz := week_start + interval '7 days';
    part       text := 'span_vectors_' || to_char(week_start AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    IF at < '2000-01-01Z' OR at >= '2100-01-01Z' THEN
        RAISE EXCEPTION 'no partition for %', at USING ERRCODE = '22008';
    END IF;
    IF to_regclass(part) IS NOT NULL THEN
        RETURN part;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('span_vectors partitions'));
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'span_vectors'::regclass AND c.relname = part) THEN
        RETURN part;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I (LIKE span_vectors INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    -- The index alone answers only where vacuum has noted that all rows of a page are visible.
    EXECUTE format(
        'ALTER TABLE %I SET (toast_tuple_target = 8160, autovacuum_vacuum_insert_threshold = 2000,'
        ' autovacuum_vacuum_insert_scale_factor = 0.02)', part);
    EXECUTE format('ALTER TABLE span_vectors ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, week_start, week_end);
    RETURN part;
END $$;
REVOKE ALL ON FUNCTION ensure_vector_partition(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_vector_partition(timestamptz) TO observatory_api, observatory_worker;

-- Drops the partitions that end at or before "cutoff", as drop_trace_partitions does; returns how many.
CREATE FUNCTION drop_vector_partitions(cutoff timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part text;
    gone integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'span_vectors'::regclass
          AND to_timestamp(right(c.relname, 8) || ' 00+00', 'YYYYMMDD HH24TZH') + interval '7 days' <= cutoff
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        gone := gone + 1;
    END LOOP;
    RETURN gone;
END $$;
REVOKE ALL ON FUNCTION drop_vector_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_vector_partitions(timestamptz) TO observatory_worker;
