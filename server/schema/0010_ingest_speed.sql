-- When PostgreSQL looks after partitions of llm_traces by itself.
--
-- To analyze one reads 30,000 sampled rows and counts their words, three seconds of a processor, and by default that is
-- done whenever a tenth is new: every 15 seconds while a new week fills. Up to 50,000 rows the planner does well
-- without; after that a fifth has to be new. Vacuum after inserts only marks pages as visible to all, and goes by
-- the same number of rows.
CREATE PROCEDURE set_trace_partition_upkeep(part regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE %s SET (autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0.2,
                             autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0.05)',
        part);
END $$;
REVOKE ALL ON PROCEDURE set_trace_partition_upkeep(regclass) FROM PUBLIC;

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass LOOP
        CALL set_trace_partition_upkeep(part);
    END LOOP;
END $$;

-- As in 0002, with these settings.
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
    CALL set_trace_partition_upkeep(part::regclass);
    EXECUTE format('ALTER TABLE llm_traces ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, week_start, week_end);
    RETURN part;
END $$;
