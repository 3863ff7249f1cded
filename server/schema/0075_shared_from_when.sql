-- From when on the layout "auto" shares content: always in a new database. One that has spans goes on as it did until
-- the Monday after this migration: until then a server of the version before, which shows no content of such spans, may
-- come back. By size, since the tenant wall hides rows from the owner too.
DO $$
DECLARE
    begins timestamptz := '-infinity';
BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass AND pg_relation_size(inhrelid) > 0) THEN
        begins := date_trunc('week', now(), 'UTC') + interval '7 days';
    END IF;
    EXECUTE format(
        'CREATE FUNCTION shared_content_begins() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE'
        ' RETURN %L::timestamptz', begins);
END $$;
REVOKE ALL ON FUNCTION shared_content_begins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shared_content_begins() TO observatory_api, observatory_worker;
