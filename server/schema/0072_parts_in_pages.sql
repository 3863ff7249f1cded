-- Parts are read where they are: a message and its words stay in the row (up to a page of 8 kB) instead of being cut
-- into pieces of another table from 2 kB on, after an attempt to compress them which costs more than it saves.

-- As in 0070, with toast_tuple_target as that of llm_traces.
CREATE OR REPLACE PROCEDURE ensure_content_partition(week_start timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    part       text := 'content_parts_' || to_char(week_start AT TIME ZONE 'UTC', 'YYYYMMDD');
    text_index regclass;
BEGIN
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'content_parts'::regclass AND c.relname = part) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I (LIKE content_parts INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    EXECUTE format(
        'ALTER TABLE %I SET (toast_tuple_target = 8160, autovacuum_analyze_threshold = 50000,'
        ' autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_insert_threshold = 50000,'
        ' autovacuum_vacuum_insert_scale_factor = 0.05)', part);
    EXECUTE format('ALTER TABLE content_parts ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   part, week_start, week_start + interval '7 days');
    FOR text_index IN
        SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = part::regclass AND a.amname = 'gin'
    LOOP
        EXECUTE format('ALTER INDEX %s SET (gin_pending_list_limit = 262144)', text_index);
    END LOOP;
END $$;

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'content_parts'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = 8160)', part);
    END LOOP;
END $$;

-- As in 0070, but the newest part alone and then all others at once: a look-up has its cost for each statement.
CREATE OR REPLACE FUNCTION shared_words_match(project text, at timestamptz, ids uuid[], query tsquery) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
    last   integer := cardinality(ids);
    is_hit boolean;
BEGIN
    SELECT c.words @@ query INTO is_hit FROM content_parts c
    WHERE c.project_id = project AND c.part_id = ids[last] AND c.week = starts;
    IF is_hit THEN
        RETURN true;
    END IF;
    -- Not as a condition, for which the planner would go by the index of words.
    SELECT bool_or(c.words @@ query) INTO is_hit FROM content_parts c
    WHERE c.project_id = project AND c.part_id = ANY (ids[:last - 1]) AND c.week = starts;
    RETURN coalesce(is_hit, false);
END $$;
