-- As in 0070, but for the last statement: it compares the column itself, since nodes of a cluster refuse a STABLE
-- function of a column in a DELETE (timestamptz + interval is one).
CREATE OR REPLACE FUNCTION drop_trace_partitions(cutoff timestamptz) RETURNS SETOF text
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
        EXECUTE format('DROP TABLE IF EXISTS %I', replace(part, 'llm_traces_', 'content_parts_'));
        RETURN NEXT part;
    END LOOP;
    DELETE FROM content_garbage WHERE week <= cutoff - interval '7 days';
END $$;
