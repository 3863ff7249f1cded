-- The summaries by which resource_is_used() finds spans (0105) are made for a hundred resources in 128 pages of spans: 180
-- bytes each. Without a number PostgreSQL expects a tenth of the rows that could be there at most, and takes 6,700 bytes.
-- More resources than that are found as well, with some pages read for nothing.
CREATE OR REPLACE PROCEDURE share_resources_in(part regclass) LANGUAGE plpgsql AS $$
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

-- Partitions that are still empty get the small index now.
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT c.oid::regclass AS id, c.relname || '_resource' AS index
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'llm_traces'::regclass AND pg_relation_size(c.oid) = 0
    LOOP
        EXECUTE format('DROP INDEX IF EXISTS %I', part.index);
        CALL share_resources_in(part.id);
    END LOOP;
END $$;
