-- Which shared parts have the words of a search. One plan for all values each: planning for partitions costs more than
-- these look-ups.

-- Whether a word or phrase is in 12 or more of 150 parts of a week. The ids are hashes, so the first of them are a fair
-- sample. Then spans with the word are soon found among the newest, and nobody needs to read the index of a word that
-- is everywhere.
CREATE FUNCTION is_common_word(project text, at timestamptz, query tsquery) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    RETURN (
        SELECT count(*) FILTER (WHERE picked.words @@ query) >= 12
        FROM (SELECT c.words FROM content_parts c WHERE c.project_id = project AND c.week = starts
              ORDER BY c.part_id LIMIT 150) AS picked);
END $$;

-- The parts that have a word or phrase, in the weeks of a window, as the text of an array: the server hands it back as it
-- is, where a list of ids would be taken apart and put together again. NULL: more than so many.
CREATE FUNCTION parts_with_word(
    projects text[], begins timestamptz, ends timestamptz, most integer, query tsquery
) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_indexscan = off AS $$
DECLARE
    ids uuid[];
BEGIN
    SELECT array_agg(had.part_id) INTO ids
    FROM (SELECT c.part_id FROM content_parts c
          WHERE c.project_id = ANY (projects) AND c.week > begins - interval '7 days' AND c.week < ends
            AND c.words @@ query
          LIMIT most + 1) AS had;
    RETURN CASE WHEN ids IS NULL THEN '{}' WHEN cardinality(ids) <= most THEN ids::text END;
END $$;

-- The array that parts_with_word() gave. IMMUTABLE, unlike the cast, for it to be a constant in plans.
CREATE FUNCTION part_ids(ids text) RETURNS uuid[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN ids::uuid[];
END $$;

REVOKE ALL ON FUNCTION
    is_common_word(text, timestamptz, tsquery),
    parts_with_word(text[], timestamptz, timestamptz, integer, tsquery), part_ids(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    is_common_word(text, timestamptz, tsquery),
    parts_with_word(text[], timestamptz, timestamptz, integer, tsquery), part_ids(text)
    TO observatory_api, observatory_worker;
