-- What log records say about spans that are not stored yet: filled in when the span comes, dropped after an hour.
CREATE TABLE span_updates (
    project_id  text NOT NULL,
    trace_id    text NOT NULL,
    span_id     text NOT NULL,
    columns     jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, trace_id, span_id)
);
CALL enable_project_isolation('span_updates');

-- Model calls with tokens and without a price: few, and looked for by GET /api/v1/costs/unpriced.
CREATE INDEX llm_traces_unpriced ON llm_traces (project_id, ts DESC)
    WHERE is_generation AND total_cost_usd IS NULL AND total_tokens > 0;

-- Moves the words of new spans from the pending list of each text index into the index itself, and gives the
-- number of pages moved. Done often by the server, so that no writer has to do it all at once in the middle of a
-- commit. Runs with the owner's rights, which gin_clean_pending_list asks for; 0 where somebody else is at it.
CREATE FUNCTION settle_text_index() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part  regclass;
    moved bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('llm_traces text index')) THEN
        RETURN 0;
    END IF;
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = to_regclass('llm_traces_text') LOOP
        moved := moved + gin_clean_pending_list(part);
    END LOOP;
    RETURN moved;
END $$;
REVOKE ALL ON FUNCTION settle_text_index() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION settle_text_index() TO observatory_worker;
