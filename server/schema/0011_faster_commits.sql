-- Spans of traces that nobody has seen yet are copied straight into their partition (server/ingest/span_writer.py).
--
-- COPY is refused on a table under row-level security, which llm_traces is and its partitions are not; so the API role
-- may add rows to partitions, and still neither read nor change them there. What it adds goes into trace_summaries
-- in the same transaction, and row-level security refuses that for a project which the transaction did not name.
--
-- The list of entries that wait for the text index of a partition may be twice as long as the partitioned index says
-- (which cannot be altered), so that a burst of some thousand long texts ends before they are moved
-- (server/ingest/text_index.py).
CREATE PROCEDURE prepare_trace_partition(part regclass) LANGUAGE plpgsql AS $$
DECLARE
    text_index regclass;
BEGIN
    CALL set_trace_partition_upkeep(part);
    EXECUTE format('GRANT INSERT ON %s TO observatory_api', part);
    FOR text_index IN
        SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = part AND a.amname = 'gin'
    LOOP
        EXECUTE format('ALTER INDEX %s SET (gin_pending_list_limit = 262144)', text_index);
    END LOOP;
END $$;
REVOKE ALL ON PROCEDURE prepare_trace_partition(regclass) FROM PUBLIC;

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass LOOP
        CALL prepare_trace_partition(part);
    END LOOP;
END $$;

-- As in 0010, with what every partition needs in a procedure of its own.
CREATE OR REPLACE FUNCTION ensure_trace_partition(at timestamptz) RETURNS text
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
    EXECUTE format('ALTER TABLE %I SET (toast_tuple_target = 8160)', part);
    EXECUTE format('ALTER TABLE llm_traces ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, week_start, week_end);
    CALL prepare_trace_partition(part::regclass);
    RETURN part;
END $$;
