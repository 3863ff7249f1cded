-- What is copied straight into a partition is noted there (server/ingest/span_writer.py), so that the columns which
-- summaries and rollups are made of need not be sent a second time; and it stays within the tenant wall.
--
-- Fires for a statement that names the partition, which is COPY; not for one that names llm_traces.
-- app.notes_copied_spans: the sender counts on the note. A server of an earlier version sends those columns itself.
CREATE FUNCTION note_copied_spans() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    allowed text[] := visible_projects();
BEGIN
    -- A partition has no policies. Its parent's hold for what is added here too.
    IF row_security_active('llm_traces') AND EXISTS (SELECT FROM copied WHERE project_id <> ALL (allowed)) THEN
        RAISE EXCEPTION 'new row violates row-level security policy for table "llm_traces"' USING ERRCODE = '42501';
    END IF;
    IF current_setting('app.notes_copied_spans', true) = 'on' THEN
        INSERT INTO pg_temp.span_changes (
            project_id, ts, trace_id, span_id, parent_span_id, span_name, dim_id, is_generation, status_code,
            service_name, environment, session_id, user_id, prompt_tokens, completion_tokens, total_tokens,
            cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost_usd, completion_cost_usd, total_cost_usd,
            cache_savings_usd, duration_ms, ttft_ms
        )
        SELECT
            project_id, ts, trace_id, span_id, parent_span_id, span_name, dim_id, is_generation, status_code,
            service_name, environment, session_id, user_id, prompt_tokens, completion_tokens, total_tokens,
            cached_tokens, cache_write_tokens, reasoning_tokens, prompt_cost_usd, completion_cost_usd, total_cost_usd,
            cache_savings_usd, duration_ms, ttft_ms
        FROM copied;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_copied_spans() FROM PUBLIC;

CREATE PROCEDURE note_copies_into(part regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER note_copied_spans AFTER INSERT ON %s REFERENCING NEW TABLE AS copied'
        ' FOR EACH STATEMENT EXECUTE FUNCTION note_copied_spans()', part);
END $$;
REVOKE ALL ON PROCEDURE note_copies_into(regclass) FROM PUBLIC;

-- What 0011 does with every partition, and the note.
ALTER PROCEDURE prepare_trace_partition(regclass) RENAME TO open_trace_partition_to_copies;
CREATE PROCEDURE prepare_trace_partition(part regclass) LANGUAGE plpgsql AS $$
BEGIN
    CALL note_copies_into(part);
    CALL open_trace_partition_to_copies(part);
END $$;
REVOKE ALL ON PROCEDURE prepare_trace_partition(regclass) FROM PUBLIC;

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass LOOP
        CALL note_copies_into(part);
    END LOOP;
END $$;
