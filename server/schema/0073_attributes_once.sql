-- Long attributes that calls repeat, such as the definitions of tools, are parts too.

-- How many of the parts, the last ones, are attributes: objects of one member each. The attribute of the row is null.
ALTER TABLE llm_traces ADD COLUMN more_parts integer;

-- The attributes of a row with those that are parts.
CREATE FUNCTION shared_attributes(project text, at timestamptz, own jsonb, ids uuid[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    RETURN own || (
        SELECT coalesce(jsonb_object_agg(member.key, member.value), '{}')
        FROM content_parts c CROSS JOIN LATERAL jsonb_each(c.body) AS member
        WHERE c.project_id = project AND c.part_id = ANY (ids) AND c.week = starts);
END $$;
REVOKE ALL ON FUNCTION shared_attributes(text, timestamptz, jsonb, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_attributes(text, timestamptz, jsonb, uuid[]) TO observatory_api, observatory_worker;

-- As in 0070; a span that gives up its parts gets its attributes back.
CREATE OR REPLACE FUNCTION note_unused_content() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
        IF NEW.parts IS NOT DISTINCT FROM OLD.parts THEN
            RETURN NEW;
        END IF;
    END IF;
    INSERT INTO content_garbage (project_id, week, part_id)
    SELECT DISTINCT OLD.project_id, date_trunc('week', OLD.ts, 'UTC'), part_id FROM unnest(OLD.parts) AS gone (part_id);
    RETURN CASE TG_OP WHEN 'UPDATE' THEN NEW ELSE OLD END;
END $$;
