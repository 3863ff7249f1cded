-- An answer is the same part as in the history of the calls after it (docs/decisions/0200-conversations-stored-once.md).

-- Senders state why an answer ended in the message itself, and leave that out when they send it again as history. true:
-- each message of the output has the member finish_reason with the value of the column, and its part is without it.
ALTER TABLE llm_traces ADD COLUMN states_finish boolean;

-- The text of a part without its role, by the rule of server/ingest/messages/message_rendering.py.
CREATE FUNCTION part_text(body jsonb, own text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT coalesce(
    own,
    CASE WHEN body #>> '{parts,0,type}' = 'tool_call_response'
         THEN '[tool_result ' || coalesce(body #>> '{parts,0,id}', '') || '] ' || (body #>> '{parts,0,response}')
         ELSE body #>> '{parts,0,content}' END,
    body #>> '{}')
$$;
REVOKE ALL ON FUNCTION part_text(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION part_text(jsonb, text) TO observatory_api, observatory_worker;

-- The messages of an output, each with the finish reason, unless that is null.
CREATE FUNCTION shared_answers(project text, at timestamptz, ids uuid[], finish text) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    IF ids IS NULL OR finish IS NULL THEN
        RETURN shared_messages(project, at, ids);
    END IF;
    RETURN (
        SELECT jsonb_agg(found.body || jsonb_build_object('finish_reason', finish) ORDER BY found.place)
        FROM (SELECT wanted.place, (SELECT c.body FROM content_parts c
                                    WHERE c.project_id = project AND c.part_id = wanted.id AND c.week = starts) AS body
              FROM unnest(ids) WITH ORDINALITY AS wanted (id, place)) AS found);
END $$;
REVOKE ALL ON FUNCTION shared_answers(text, timestamptz, uuid[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_answers(text, timestamptz, uuid[], text) TO observatory_api, observatory_worker;

-- As in 0070, with part_text().
CREATE OR REPLACE FUNCTION shared_text(project text, at timestamptz, ids uuid[]) RETURNS text
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
        SELECT c.body ->> 'role', part_text(c.body, c.text) INTO role, whole
        FROM content_parts c WHERE c.project_id = project AND c.part_id = ids[1] AND c.week = starts;
        RETURN CASE WHEN role IS NULL OR role IN ('user', 'assistant') THEN whole ELSE role || ': ' || whole END;
    END IF;
    RETURN (
        SELECT string_agg(found.line, E'\n' ORDER BY found.place)
        FROM (SELECT wanted.place, (SELECT (c.body ->> 'role') || ': ' || part_text(c.body, c.text)
                                    FROM content_parts c
                                    WHERE c.project_id = project AND c.part_id = wanted.id AND c.week = starts) AS line
              FROM unnest(ids) WITH ORDINALITY AS wanted (id, place)) AS found);
END $$;
