-- Content that several spans carry, stored once (docs/decisions/0200-conversations-stored-once.md).
--
-- A call of an agent carries the whole conversation before it. With the layout "shared" a message is a row of
-- content_parts, once a project and week, under a keyed hash; a span has the list of their ids in place of
-- its own texts, messages and words. Both layouts stand side by side, span by span: parts IS NULL is the inline one.

CREATE TABLE content_keys (
    project_id text PRIMARY KEY,
    -- Of the hashes, so that nobody learns from an id whether another tenant has the same content.
    key        bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    -- Counts the collections of unused parts: what a server remembers as stored may be gone after one.
    generation bigint NOT NULL DEFAULT 0
);
CALL enable_project_isolation('content_keys');

CREATE TABLE content_parts (
    project_id text NOT NULL,
    -- Start of the week, UTC, of the spans that have it.
    week       timestamptz NOT NULL,
    part_id    uuid NOT NULL,
    -- A message, or the text of a side that has no messages, as a JSON string.
    body       jsonb NOT NULL,
    -- Its text, where that is not simply the text of its only part.
    text       text,
    words      tsvector NOT NULL DEFAULT ''::tsvector,
    PRIMARY KEY (project_id, part_id, week)
) PARTITION BY RANGE (week);
CREATE INDEX content_parts_words ON content_parts USING gin (words)
    WITH (fastupdate = on, gin_pending_list_limit = 131072);
CALL enable_project_isolation('content_parts');

-- Parts that a span no longer has; collect_unused_content() removes those that no other span has.
CREATE TABLE content_garbage (
    project_id text NOT NULL,
    week       timestamptz NOT NULL,
    part_id    uuid NOT NULL
);
CREATE INDEX content_garbage_project ON content_garbage (project_id);
CALL enable_project_isolation('content_garbage');

-- parts: the input first, then the output; input_parts: how many are the input's. content_bytes: size of all of it.
ALTER TABLE llm_traces ADD COLUMN parts uuid[], ADD COLUMN input_parts integer, ADD COLUMN content_bytes integer;
CREATE INDEX llm_traces_parts ON llm_traces USING gin (parts) WITH (fastupdate = on, gin_pending_list_limit = 131072)
    WHERE parts IS NOT NULL;

-- What else becomes of a row that goes or changes. On partitions, as the note of copies (0012).
CREATE FUNCTION note_unused_content() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- A server of an earlier version replaces the content of a span and knows nothing of its parts.
        IF NEW.parts IS NOT NULL AND current_setting('app.shares_content', true) IS DISTINCT FROM 'on' AND (
            NEW.version <> OLD.version OR NEW.input_text IS NOT NULL OR NEW.output_text IS NOT NULL
            OR NEW.input_messages IS NOT NULL OR NEW.output_messages IS NOT NULL)
        THEN
            NEW.parts := NULL;
            NEW.input_parts := NULL;
            NEW.content_bytes := NULL;
        END IF;
        IF NEW.parts IS NOT DISTINCT FROM OLD.parts THEN
            RETURN NEW;
        END IF;
    END IF;
    INSERT INTO content_garbage (project_id, week, part_id)
    SELECT DISTINCT OLD.project_id, date_trunc('week', OLD.ts, 'UTC'), part_id FROM unnest(OLD.parts) AS gone (part_id);
    RETURN CASE TG_OP WHEN 'UPDATE' THEN NEW ELSE OLD END;
END $$;
REVOKE ALL ON FUNCTION note_unused_content() FROM PUBLIC;

ALTER PROCEDURE prepare_trace_partition(regclass) RENAME TO open_trace_partition;
CREATE PROCEDURE prepare_trace_partition(part regclass) LANGUAGE plpgsql AS $$
DECLARE
    event text;
BEGIN
    FOREACH event IN ARRAY '{UPDATE,DELETE}'::text[] LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I BEFORE %s ON %s FOR EACH ROW WHEN (OLD.parts IS NOT NULL)'
            ' EXECUTE FUNCTION note_unused_content()', 'note_content_of_' || lower(event), event, part);
    END LOOP;
    CALL open_trace_partition(part);
END $$;
REVOKE ALL ON PROCEDURE prepare_trace_partition(regclass) FROM PUBLIC;

-- The partition of content_parts for a week; in the transaction that makes that of llm_traces.
CREATE PROCEDURE ensure_content_partition(week_start timestamptz) LANGUAGE plpgsql AS $$
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
        'ALTER TABLE %I SET (autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0.2,'
        ' autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0.05)', part);
    EXECUTE format('ALTER TABLE content_parts ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   part, week_start, week_start + interval '7 days');
    FOR text_index IN
        SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = part::regclass AND a.amname = 'gin'
    LOOP
        EXECUTE format('ALTER INDEX %s SET (gin_pending_list_limit = 262144)', text_index);
    END LOOP;
END $$;
REVOKE ALL ON PROCEDURE ensure_content_partition(timestamptz) FROM PUBLIC;

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass LOOP
        CALL ensure_content_partition(to_timestamp(right(part::text, 8) || ' 00+00', 'YYYYMMDD HH24TZH'));
        CALL prepare_trace_partition(part);
    END LOOP;
END $$;

-- As in 0011, with a partition for shared content.
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
    CALL ensure_content_partition(week_start);
    EXECUTE format('CREATE TABLE %I (LIKE llm_traces INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    EXECUTE format('ALTER TABLE %I SET (toast_tuple_target = 8160)', part);
    EXECUTE format('ALTER TABLE llm_traces ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, week_start, week_end);
    CALL prepare_trace_partition(part::regclass);
    RETURN part;
END $$;

-- As in 0002; the shared content of a week goes with its spans.
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
    DELETE FROM content_garbage WHERE week + interval '7 days' <= cutoff;
END $$;

-- As in 0008, for the text indexes of both layouts and the index of parts.
CREATE OR REPLACE FUNCTION settle_text_index() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part  regclass;
    moved bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('llm_traces text index')) THEN
        RETURN 0;
    END IF;
    FOR part IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN (
            to_regclass('llm_traces_text'), to_regclass('llm_traces_parts'), to_regclass('content_parts_words'))
    LOOP
        moved := moved + gin_clean_pending_list(part);
    END LOOP;
    RETURN moved;
END $$;

-- Reading. One plan for all values each, whatever the caller's transaction asks for: a look-up by key for each part.
-- Missing parts cannot be; a null would show the place.

-- The messages with these ids, in order; NULL for none, and for a side that is a text alone.
CREATE FUNCTION shared_messages(project text, at timestamptz, ids uuid[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    RETURN (
        SELECT jsonb_agg(found.body ORDER BY found.place) FILTER (WHERE jsonb_typeof(found.body) <> 'string')
        FROM (SELECT wanted.place, (SELECT c.body FROM content_parts c
                                    WHERE c.project_id = project AND c.part_id = wanted.id AND c.week = starts) AS body
              FROM unnest(ids) WITH ORDINALITY AS wanted (id, place)) AS found);
END $$;

-- Their text, by the rule of server/ingest/messages/message_rendering.py. NULL for none.
CREATE FUNCTION shared_text(project text, at timestamptz, ids uuid[]) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
    whole  text;
    role   text;
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN NULL;
    ELSIF cardinality(ids) = 1 THEN
        SELECT c.body ->> 'role', coalesce(c.text, c.body #>> '{parts,0,content}', c.body #>> '{}')
        INTO role, whole
        FROM content_parts c WHERE c.project_id = project AND c.part_id = ids[1] AND c.week = starts;
        RETURN CASE WHEN role IS NULL OR role IN ('user', 'assistant') THEN whole ELSE role || ': ' || whole END;
    END IF;
    RETURN (
        SELECT string_agg(found.line, E'\n' ORDER BY found.place)
        FROM (SELECT wanted.place, (SELECT (c.body ->> 'role') || ': ' || coalesce(c.text, c.body #>> '{parts,0,content}')
                                    FROM content_parts c
                                    WHERE c.project_id = project AND c.part_id = wanted.id AND c.week = starts) AS line
              FROM unnest(ids) WITH ORDINALITY AS wanted (id, place)) AS found);
END $$;

-- Whether one of the parts has the words. The newest first: it is where a conversation differs from others.
CREATE FUNCTION shared_words_match(project text, at timestamptz, ids uuid[], query tsquery) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
    place  integer := cardinality(ids);
    is_hit boolean;
BEGIN
    WHILE place > 0 LOOP
        SELECT c.words @@ query INTO is_hit FROM content_parts c
        WHERE c.project_id = project AND c.part_id = ids[place] AND c.week = starts;
        IF is_hit THEN
            RETURN true;
        END IF;
        place := place - 1;
    END LOOP;
    RETURN false;
END $$;

-- The sum of the parts' ranks.
CREATE FUNCTION shared_rank(project text, at timestamptz, ids uuid[], query tsquery) RETURNS double precision
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    RETURN (
        SELECT coalesce(sum(found.rank), 0)
        FROM (SELECT (SELECT ts_rank_cd(c.words, query)::double precision FROM content_parts c
                      WHERE c.project_id = project AND c.part_id = wanted.id AND c.week = starts) AS rank
              FROM unnest(ids) AS wanted (id)) AS found);
END $$;

REVOKE ALL ON FUNCTION
    shared_messages(text, timestamptz, uuid[]), shared_text(text, timestamptz, uuid[]),
    shared_words_match(text, timestamptz, uuid[], tsquery), shared_rank(text, timestamptz, uuid[], tsquery) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    shared_messages(text, timestamptz, uuid[]), shared_text(text, timestamptz, uuid[]),
    shared_words_match(text, timestamptz, uuid[], tsquery), shared_rank(text, timestamptz, uuid[], tsquery)
    TO observatory_api, observatory_worker;

-- Writing. Servers that store spans share a lock a project until they commit; whoever removes parts has it alone. So no
-- part goes while a span comes that counts on it. Gives the keys, and how often parts were removed.
CREATE FUNCTION hold_content(projects text[])
    RETURNS TABLE (project_id text, key bytea, generation bigint)
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    project text;
BEGIN
    FOREACH project IN ARRAY projects LOOP
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('content of ' || project, 0));
    END LOOP;
    RETURN QUERY SELECT k.project_id, k.key, k.generation FROM content_keys k WHERE k.project_id = ANY (projects);
END $$;
REVOKE ALL ON FUNCTION hold_content(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hold_content(text[]) TO observatory_api, observatory_worker;

-- Takes that lock alone, until the end of the transaction.
CREATE FUNCTION hold_content_alone(project text) RETURNS boolean
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('content of ' || project, 0));
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION hold_content_alone(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hold_content_alone(text) TO observatory_api, observatory_worker;

-- Looks at a thousand of the noted parts of a project, removes those that no span has any more, and gives how many
-- notes there were. After hold_content_alone().
CREATE FUNCTION collect_unused_content(project text) RETURNS bigint
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
            removed := removed + 1;
        END IF;
    END LOOP;
    IF removed > 0 THEN
        UPDATE content_keys k SET generation = k.generation + 1 WHERE k.project_id = project;
    END IF;
    RETURN seen;
END $$;
REVOKE ALL ON FUNCTION collect_unused_content(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION collect_unused_content(text) TO observatory_api, observatory_worker;
