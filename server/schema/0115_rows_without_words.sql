-- Spans whose content is in parts are not in the index of words in rows (docs/decisions/0288-rows-and-ids-without-stored-words.md).
--
-- Such an index has an entry for a row without words too: 250 bytes of WAL a span, for the change of its list of new
-- entries alone. Words that are null can be left out, and a search is never true of null, so the planner
-- uses the index as before. Servers of the version before store no words, not null, and read both.
ALTER TABLE llm_traces ALTER COLUMN search_vector DROP NOT NULL;

-- In a new database, as in 0113. Elsewhere partitions would have two such indexes until the version after this one;
-- there it has null entries.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') OR words_from_text_begin() <> '-infinity' THEN
        RETURN;
    END IF;
    DROP INDEX llm_traces_text;
    CREATE INDEX llm_traces_text ON ONLY llm_traces USING gin (search_vector)
        WITH (fastupdate = on, gin_pending_list_limit = 131072) WHERE search_vector IS NOT NULL;
END $$;
