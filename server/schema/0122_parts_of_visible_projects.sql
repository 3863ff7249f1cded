-- A function that reads with the owner's rights checks the projects itself, whoever calls it.
--
-- week_parts_with_term() left that to parts_with_term(). A role that may call the one may call the other, so row-level
-- security was only as good as the statements that the server sends. As in 0113, but for the check; an error and not a
-- narrowed answer, as no question of the server can come to it.
CREATE OR REPLACE FUNCTION week_parts_with_term(
    part regclass, projects text[], most integer, query tsquery, lexemes tsquery, pattern text
) RETURNS uuid[]
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off SET enable_indexscan = off AS $$
DECLARE
    ids uuid[];
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = part AND inhparent = 'content_parts'::regclass) THEN
        RAISE EXCEPTION '% holds no parts', part USING ERRCODE = '42501';
    END IF;
    IF NOT projects <@ visible_projects() THEN
        RAISE EXCEPTION 'not all of these projects are visible' USING ERRCODE = '42501';
    END IF;
    EXECUTE format(
        'SELECT array_agg(had.part_id) FROM ('
        ' SELECT c.part_id FROM %1$s c WHERE c.project_id = ANY ($1) AND c.words @@ $3'
        ' UNION ALL'
        ' SELECT c.part_id FROM %1$s c WHERE c.project_id = ANY ($1) AND c.words IS NULL'
        ' AND plain_lexemes(plain_text(c.body, c.text)) @@ $4 %2$s'
        ' LIMIT $2) AS had', part, CASE WHEN numnode(lexemes) > 1 THEN 'AND text_has_term(c.body, c.text, $5)' END)
    INTO ids USING projects, most, query, lexemes, pattern;
    RETURN coalesce(ids, '{}');
END $$;

-- The background work searches for no words. Its role sees all projects, which this function cannot know of it.
REVOKE ALL ON FUNCTION
    week_parts_with_term(regclass, text[], integer, tsquery, tsquery, text),
    parts_with_term(text[], timestamptz, timestamptz, integer, tsquery, tsquery, text)
    FROM observatory_worker;
