-- Statistics of young partitions of llm_traces.
--
-- PostgreSQL analyzes a partition by itself from 50,000 new rows on (0010). Before that the planner knows nothing of it,
-- takes every index that begins with project_id for as good as the one on traces, and reads a whole project for each
-- span that a score judges: minutes for three thousand scores. The columns of the keys alone are analyzed in a fraction
-- of a second, because the words of the texts are not counted. Done whenever a partition is four times as large as the
-- planner believes. Runs with the owner's rights, which ANALYZE asks for; 0 where somebody else is at it.
CREATE FUNCTION analyze_young_partitions() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part regclass;
    done integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('llm_traces statistics')) THEN
        RETURN 0;
    END IF;
    FOR part IN
        SELECT c.oid::regclass FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'llm_traces'::regclass
          AND pg_stat_get_live_tuples(c.oid) BETWEEN 500 AND 100000
          AND pg_stat_get_live_tuples(c.oid) > 4 * greatest(c.reltuples, 0)
    LOOP
        EXECUTE format('ANALYZE %s (project_id, trace_id, span_id, parent_span_id, ts)', part);
        done := done + 1;
    END LOOP;
    RETURN done;
END $$;
REVOKE ALL ON FUNCTION analyze_young_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analyze_young_partitions() TO observatory_worker;
