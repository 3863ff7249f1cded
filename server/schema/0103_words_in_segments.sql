-- Words of shared content in segments (docs/decisions/0255-words-in-segments.md): who has a word is stored once for many
-- parts, where each part had a tsvector and entries of a GIN index of its own.

-- A segment is the words of parts that were stored together, or of segments that were put together later; nothing in it
-- ever changes. server/queries/filters/word_postings.py describes the blocks.
CREATE TABLE content_words (
    project_id text NOT NULL,
    week       timestamptz NOT NULL,
    -- A random number, so that what is known of a segment is true of no other, in whatever database.
    segment    bigint NOT NULL,
    -- Of the block. Empty: the ids of the parts, 16 bytes each, in the order of their numbers.
    first_word text COLLATE "C" NOT NULL,
    -- Compressed already; EXTERNAL, for a few ids to be read without the others.
    data       bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (project_id, week, segment, first_word)
) PARTITION BY RANGE (week);
CREATE INDEX content_words_segments ON content_words (project_id, week, segment) WHERE first_word = '';
CALL enable_project_isolation('content_words');

-- Parts that were removed, and whose words are in segments still.
CREATE TABLE content_words_garbage (
    project_id text NOT NULL,
    week       timestamptz NOT NULL,
    part_id    uuid NOT NULL
);
CREATE INDEX content_words_garbage_project ON content_words_garbage (project_id);
CALL enable_project_isolation('content_words_garbage');

-- The weeks whose words are in segments: all of them in a new database. One that has spans goes on as it did until the
-- Monday after this migration: until then a server of the version before, which finds no word in segments, may come back.
DO $$
DECLARE
    begins timestamptz := '-infinity';
BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass AND pg_relation_size(inhrelid) > 0) THEN
        begins := date_trunc('week', now(), 'UTC') + interval '7 days';
    ELSE
        DROP INDEX content_parts_words;
    END IF;
    EXECUTE format(
        'CREATE FUNCTION words_in_segments_from() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE'
        ' RETURN %L::timestamptz', begins);
END $$;
REVOKE ALL ON FUNCTION words_in_segments_from() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION words_in_segments_from() TO observatory_api, observatory_worker;

CREATE PROCEDURE ensure_words_partition(week_start timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    part text := 'content_words_' || to_char(week_start AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'content_words'::regclass AND c.relname = part) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I (LIKE content_words INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    -- Blocks stay in their row, and the room of those that were put together is soon used again.
    EXECUTE format(
        'ALTER TABLE %I SET (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.1,'
        ' toast.autovacuum_vacuum_scale_factor = 0.1)', part);
    EXECUTE format('ALTER TABLE content_words ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   part, week_start, week_start + interval '7 days');
END $$;
REVOKE ALL ON PROCEDURE ensure_words_partition(timestamptz) FROM PUBLIC;

-- The partition of words is made with that of parts, in the transaction that makes that of llm_traces.
ALTER PROCEDURE ensure_content_partition(timestamptz) RENAME TO ensure_parts_partition;
CREATE PROCEDURE ensure_content_partition(week_start timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    CALL ensure_parts_partition(week_start);
    CALL ensure_words_partition(week_start);
END $$;
REVOKE ALL ON PROCEDURE ensure_content_partition(timestamptz) FROM PUBLIC;

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'content_parts'::regclass LOOP
        CALL ensure_words_partition(to_timestamp(right(part::text, 8) || ' 00+00', 'YYYYMMDD HH24TZH'));
    END LOOP;
END $$;

-- The words of a week go with its spans.
ALTER FUNCTION drop_trace_partitions(timestamptz) RENAME TO drop_spans_and_parts;
CREATE FUNCTION drop_trace_partitions(cutoff timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part text;
BEGIN
    FOR part IN SELECT * FROM drop_spans_and_parts(cutoff) LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', replace(part, 'llm_traces_', 'content_words_'));
        RETURN NEXT part;
    END LOOP;
    DELETE FROM content_words_garbage WHERE week <= cutoff - interval '7 days';
END $$;
REVOKE ALL ON FUNCTION drop_trace_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_trace_partitions(timestamptz) TO observatory_worker;

-- The blocks of all segments of the weeks of a window that may have words from lows to highs, which are pairs. Look-ups by
-- key, a week at a time: with the week as a value the plan starts in its partition alone.
CREATE FUNCTION word_blocks(projects text[], begins timestamptz, ends timestamptz, lows text[], highs text[])
    RETURNS TABLE (project_id text, week timestamptz, segment bigint, first_word text, data bytea)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    starts timestamptz[];
    at     timestamptz;
BEGIN
    IF ends - begins < interval '30 days' THEN
        starts := ARRAY(SELECT generate_series(date_trunc('week', begins, 'UTC'), ends, interval '7 days'));
    ELSE
        starts := ARRAY(SELECT DISTINCT s.week FROM content_words s
                        WHERE s.project_id = ANY (projects) AND s.week > begins - interval '7 days' AND s.week < ends
                          AND s.first_word = '');
    END IF;
    FOREACH at IN ARRAY starts LOOP
        RETURN QUERY
        SELECT s.project_id, at, s.segment, b.first_word, b.data
        FROM content_words s
        CROSS JOIN unnest(lows, highs) AS asked (low, high)
        CROSS JOIN LATERAL (
            (SELECT w.first_word, w.data FROM content_words w
             WHERE w.project_id = s.project_id AND w.week = at AND w.segment = s.segment
               AND w.first_word <= asked.low COLLATE "C"
             ORDER BY w.first_word DESC LIMIT 1)
            UNION ALL
            (SELECT w.first_word, w.data FROM content_words w
             WHERE asked.high > asked.low COLLATE "C"
               AND w.project_id = s.project_id AND w.week = at AND w.segment = s.segment
               AND w.first_word > asked.low COLLATE "C" AND w.first_word <= asked.high COLLATE "C")) AS b
        WHERE s.project_id = ANY (projects) AND s.week = at AND s.first_word = '' AND b.first_word <> '';
    END LOOP;
END $$;

-- Ids of parts of segments of a week: all of them, or of a large segment those with some numbers (the text of an array).
CREATE FUNCTION segment_parts(project text, at timestamptz, segments bigint[], numbers text[])
    RETURNS TABLE (segment bigint, is_whole boolean, data bytea)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    SELECT asked.segment, w.is_whole,
           CASE WHEN w.is_whole THEN w.data
                ELSE (SELECT string_agg(substring(w.data FROM 16 * n.number + 1 FOR 16), ''::bytea ORDER BY n.place)
                      FROM unnest(asked.few::integer[]) WITH ORDINALITY AS n (number, place)) END
    FROM unnest(segments, numbers) AS asked (segment, few)
    CROSS JOIN LATERAL (
        SELECT c.data, asked.few IS NULL OR octet_length(c.data) <= 65536 AS is_whole FROM content_words c
        WHERE c.project_id = project AND c.week = at AND c.segment = asked.segment AND c.first_word = '') AS w;
END $$;
REVOKE ALL ON FUNCTION
    word_blocks(text[], timestamptz, timestamptz, text[], text[]),
    segment_parts(text, timestamptz, bigint[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    word_blocks(text[], timestamptz, timestamptz, text[], text[]),
    segment_parts(text, timestamptz, bigint[], text[])
    TO observatory_api, observatory_worker;

-- As in 0070; the words of what is removed are noted.
CREATE OR REPLACE FUNCTION collect_unused_content(project text) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_indexscan = off AS $$
DECLARE
    noted   record;
    seen    bigint := 0;
    removed bigint := 0;
BEGIN
    FOR noted IN
        WITH noted_parts AS (SELECT g.week, g.part_id FROM content_garbage g WHERE g.project_id = project LIMIT 1000),
        gone AS (DELETE FROM content_garbage g USING noted_parts n
                 WHERE g.project_id = project AND g.week = n.week AND g.part_id = n.part_id
                 RETURNING g.week, g.part_id)
        SELECT DISTINCT gone.week, gone.part_id FROM gone
    LOOP
        seen := seen + 1;
        IF NOT EXISTS (SELECT FROM llm_traces t
                       WHERE t.project_id = project AND t.parts @> ARRAY[noted.part_id]
                         AND t.ts >= noted.week AND t.ts < noted.week + interval '7 days') THEN
            DELETE FROM content_parts c
            WHERE c.project_id = project AND c.week = noted.week AND c.part_id = noted.part_id;
            INSERT INTO content_words_garbage (project_id, week, part_id)
            SELECT project, noted.week, noted.part_id WHERE noted.week >= words_in_segments_from();
            removed := removed + 1;
        END IF;
    END LOOP;
    IF removed > 0 THEN
        UPDATE content_keys k SET generation = k.generation + 1 WHERE k.project_id = project;
    END IF;
    RETURN seen;
END $$;
