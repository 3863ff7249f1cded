-- What the resource of a span says, once a project and week (docs/decisions/0257-resources-stored-once.md).
--
-- Every span of a process came with the same attributes: of its service, its host, its SDK. A span has their id instead.

-- Few rows: a server keeps the resources of a project in the spans once it has met ten thousand in a week.
CREATE TABLE span_resources (
    project_id  text NOT NULL,
    -- A keyed hash of the attributes and the week: nobody learns from it whether another tenant has the same ones.
    resource_id uuid NOT NULL,
    -- Start of the week, UTC, of the spans that have it.
    week        timestamptz NOT NULL,
    attributes  jsonb NOT NULL,
    PRIMARY KEY (project_id, resource_id)
);
CALL enable_project_isolation('span_resources');

-- Null: the attributes are in the row.
ALTER TABLE llm_traces ADD COLUMN resource_id uuid;

-- Resources that a span no longer has; collect_unused_resources() removes those that no other span has.
CREATE TABLE resource_garbage (
    project_id  text NOT NULL,
    week        timestamptz NOT NULL,
    resource_id uuid NOT NULL
);
CREATE INDEX resource_garbage_project ON resource_garbage (project_id);
CALL enable_project_isolation('resource_garbage');

-- From when on spans have it: always in a new database. Else from the Monday after this migration on: until then a server
-- of the version before, which shows no resource attributes of such spans, may come back. As in 0075.
DO $$
DECLARE
    begins timestamptz := '-infinity';
BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass AND pg_relation_size(inhrelid) > 0) THEN
        begins := date_trunc('week', now(), 'UTC') + interval '7 days';
    END IF;
    EXECUTE format(
        'CREATE FUNCTION shared_resources_begin() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE'
        ' RETURN %L::timestamptz', begins);
END $$;
REVOKE ALL ON FUNCTION shared_resources_begin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_resources_begin() TO observatory_api, observatory_worker;

-- As in 0073, and for resources.
CREATE OR REPLACE FUNCTION note_unused_content() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    gone_parts    uuid[] := OLD.parts;
    gone_resource uuid   := OLD.resource_id;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- A server of an earlier version replaces the content of a span and knows nothing of its parts.
        IF NEW.parts IS NOT NULL AND current_setting('app.shares_content', true) IS DISTINCT FROM 'on' AND (
            NEW.version <> OLD.version OR NEW.input_text IS NOT NULL OR NEW.output_text IS NOT NULL
            OR NEW.input_messages IS NOT NULL OR NEW.output_messages IS NOT NULL)
        THEN
            NEW.parts := NULL;
        END IF;
        IF NEW.parts IS NULL THEN
            NEW.input_parts := NULL;
            NEW.content_bytes := NULL;
            NEW.states_finish := NULL;
            NEW.more_parts := NULL;
            IF OLD.more_parts > 0 AND NEW.attributes = OLD.attributes THEN
                NEW.attributes := shared_attributes(
                    OLD.project_id, OLD.ts, OLD.attributes,
                    OLD.parts[cardinality(OLD.parts) - OLD.more_parts + 1:]);
            END IF;
        END IF;
        -- The same of its resource.
        IF NEW.resource_attributes <> '{}' THEN
            NEW.resource_id := NULL;
        END IF;
        IF NEW.parts IS NOT DISTINCT FROM OLD.parts THEN
            gone_parts := NULL;
        END IF;
        IF NEW.resource_id IS NOT DISTINCT FROM OLD.resource_id THEN
            gone_resource := NULL;
        END IF;
    END IF;
    IF gone_parts IS NOT NULL THEN
        INSERT INTO content_garbage (project_id, week, part_id)
        SELECT DISTINCT OLD.project_id, date_trunc('week', OLD.ts, 'UTC'), part_id FROM unnest(gone_parts) AS gone (part_id);
    END IF;
    IF gone_resource IS NOT NULL THEN
        INSERT INTO resource_garbage (project_id, week, resource_id)
        VALUES (OLD.project_id, date_trunc('week', OLD.ts, 'UTC'), gone_resource);
    END IF;
    RETURN CASE TG_OP WHEN 'UPDATE' THEN NEW ELSE OLD END;
END $$;

-- The attributes of a resource. One plan for all values; a look-up by key.
CREATE FUNCTION shared_resource(project text, id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (SELECT r.attributes FROM span_resources r WHERE r.project_id = project AND r.resource_id = id);
END $$;
REVOKE ALL ON FUNCTION shared_resource(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_resource(text, uuid) TO observatory_api, observatory_worker;

-- What a partition needs whose spans have resources: notes of those that go, and an index that tells whether a span has
-- one. Spans of a process are stored beside each other, so a summary of each 128 pages is enough for that. It is made for
-- a hundred resources: 180 bytes, where without a number PostgreSQL expects a tenth of the rows that could be there at
-- most, and takes 6,700. More resources than that are found as well, with some pages read for nothing.
CREATE PROCEDURE share_resources_in(part regclass) LANGUAGE plpgsql AS $$
DECLARE
    event text;
BEGIN
    FOREACH event IN ARRAY '{UPDATE,DELETE}'::text[] LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I BEFORE %s ON %s FOR EACH ROW'
            ' WHEN (OLD.parts IS NOT NULL OR OLD.resource_id IS NOT NULL)'
            ' EXECUTE FUNCTION note_unused_content()', 'note_content_of_' || lower(event), event, part);
    END LOOP;
    EXECUTE format(
        'CREATE INDEX IF NOT EXISTS %I ON %s'
        ' USING brin (resource_id uuid_bloom_ops(false_positive_rate = 0.001, n_distinct_per_range = 100))'
        ' WITH (autosummarize = on)',
        (SELECT relname FROM pg_class WHERE oid = part) || '_resource', part);
END $$;
REVOKE ALL ON PROCEDURE share_resources_in(regclass) FROM PUBLIC;

ALTER PROCEDURE prepare_trace_partition(regclass) RENAME TO prepare_shared_partition;
CREATE PROCEDURE prepare_trace_partition(part regclass) LANGUAGE plpgsql AS $$
BEGIN
    CALL prepare_shared_partition(part);
    CALL share_resources_in(part);
END $$;
REVOKE ALL ON PROCEDURE prepare_trace_partition(regclass) FROM PUBLIC;

-- Those that are still empty; the others will have no such spans.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass AND pg_relation_size(inhrelid) = 0
    LOOP
        CALL share_resources_in(part);
    END LOOP;
END $$;

-- Whether a span of a week has a resource. With the owner's rights: in the partition alone there is one index to go by,
-- where the planner would rather read all spans of the project. It tells about ids, which nobody can guess.
CREATE FUNCTION resource_is_used(week_start timestamptz, id uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    part text := 'llm_traces_' || to_char(week_start AT TIME ZONE 'UTC', 'YYYYMMDD');
    found_one boolean := false;
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE resource_id = $1)', part) INTO found_one USING id;
    END IF;
    RETURN found_one;
END $$;
REVOKE ALL ON FUNCTION resource_is_used(timestamptz, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION resource_is_used(timestamptz, uuid) TO observatory_api, observatory_worker;

-- Looks at a thousand noted resources of a project, removes those that no span has any more, and gives how many notes
-- there were. After hold_content_alone(), like collect_unused_content().
CREATE FUNCTION collect_unused_resources(project text) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    noted   record;
    seen    bigint := 0;
    removed bigint := 0;
BEGIN
    FOR noted IN
        WITH picked AS (
            SELECT g.week, g.resource_id FROM resource_garbage g WHERE g.project_id = project LIMIT 1000),
        gone AS (DELETE FROM resource_garbage g USING (SELECT DISTINCT s.week, s.resource_id FROM picked s) AS n
                 WHERE g.project_id = project AND g.week = n.week AND g.resource_id = n.resource_id
                 RETURNING g.week, g.resource_id)
        SELECT gone.week, gone.resource_id, count(*) AS notes FROM gone GROUP BY 1, 2
    LOOP
        seen := seen + noted.notes;
        IF NOT resource_is_used(noted.week, noted.resource_id) THEN
            DELETE FROM span_resources r WHERE r.project_id = project AND r.resource_id = noted.resource_id;
            removed := removed + 1;
        END IF;
    END LOOP;
    IF removed > 0 THEN
        UPDATE content_keys k SET generation = k.generation + 1 WHERE k.project_id = project;
    END IF;
    RETURN seen;
END $$;
REVOKE ALL ON FUNCTION collect_unused_resources(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION collect_unused_resources(text) TO observatory_api, observatory_worker;

-- The resources of a week go with its spans.
ALTER FUNCTION drop_trace_partitions(timestamptz) RENAME TO drop_content_partitions;
CREATE FUNCTION drop_trace_partitions(cutoff timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RETURN QUERY SELECT * FROM drop_content_partitions(cutoff);
    DELETE FROM resource_garbage WHERE week <= cutoff - interval '7 days';
    DELETE FROM span_resources WHERE week <= cutoff - interval '7 days';
END $$;
REVOKE ALL ON FUNCTION drop_trace_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_trace_partitions(timestamptz) TO observatory_worker;
