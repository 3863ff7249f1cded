-- What a tool returned is stored once (docs/decisions/0264-results-of-tools-once.md).
--
-- A tool's own span has the result as its output, and the next call of the conversation has it again in its history, as
-- the message of the tool. Both name that message as a part.

-- true: the output is one part, the message of a tool, of which the span itself reported the response alone. That is its
-- output_text, and it has no output_messages.
ALTER TABLE llm_traces ADD COLUMN result_alone boolean;

-- From when on spans have it: always in a new database. Else from the Monday after this migration on: until then a server
-- of the version before, which shows the message of such spans, may come back. As in 0075.
DO $$
DECLARE
    begins timestamptz := '-infinity';
BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass AND pg_relation_size(inhrelid) > 0) THEN
        begins := date_trunc('week', now(), 'UTC') + interval '7 days';
    END IF;
    EXECUTE format(
        'CREATE FUNCTION shared_results_begin() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE'
        ' RETURN %L::timestamptz', begins);
END $$;
REVOKE ALL ON FUNCTION shared_results_begin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_results_begin() TO observatory_api, observatory_worker;

-- The response in the message of a tool. One plan for all values; a look-up by key.
CREATE FUNCTION shared_result(project text, at timestamptz, id uuid) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    RETURN (SELECT c.body #>> '{parts,0,response}' FROM content_parts c
            WHERE c.project_id = project AND c.part_id = id AND c.week = starts);
END $$;
REVOKE ALL ON FUNCTION shared_result(text, timestamptz, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_result(text, timestamptz, uuid) TO observatory_api, observatory_worker;

-- As in 0105. app.shares_content says what the server knows that changes a span: 'on' of parts, 'results' of
-- result_alone too.
CREATE OR REPLACE FUNCTION note_unused_content() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    gone_parts    uuid[] := OLD.parts;
    gone_resource uuid   := OLD.resource_id;
    knows         text   := coalesce(current_setting('app.shares_content', true), '');
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- A server of an earlier version replaces the content of a span and knows nothing of its parts.
        IF NEW.parts IS NOT NULL AND knows NOT IN ('on', 'results') AND (
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
        -- It stores the parts of another version of the span, none of which is such a message.
        IF NEW.parts IS NULL OR (knows <> 'results' AND NEW.version <> OLD.version) THEN
            NEW.result_alone := NULL;
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
