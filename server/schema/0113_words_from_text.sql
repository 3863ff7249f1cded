-- Words of parts follow from their text (docs/decisions/0271-words-of-parts-follow-from-their-text.md).
--
-- The words of a part took more room than its message, and were in the WAL beside it. Now only the index has them, where
-- the text is short and plain ASCII; whether a part has a word is then asked of the text itself.

-- null: they are those of the text, letters and digits in lower case, each run of others a gap.
ALTER TABLE content_parts ALTER COLUMN words DROP NOT NULL;

-- With bodies that are parsed here, so that they mean the same under the search path of index builds.
-- Its text, as part_text() gives it, with one look into the body of most messages: that of a tool has no content.
CREATE FUNCTION plain_text(body jsonb, own text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(own, body #>> '{parts,0,content}', part_text(body, NULL)) COLLATE "C";
-- Its words. Not in SQL, which the planner would put in place of each call, and then plan.
CREATE FUNCTION plain_lexemes(plain text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    plain := lower(plain COLLATE "C");
    IF plain COLLATE "C" ~ '[^a-z0-9 \n.,?!:;"''{}()_/=[\]-]' THEN
        RETURN array_to_tsvector(array_remove(regexp_split_to_array(plain COLLATE "C", '[^a-z0-9]+'), ''));
    END IF;
    -- The usual gaps one by one: half the time of the expression, which has to begin anew after each of them.
    plain := replace(replace(replace(replace(replace(replace(plain,
        '.', ' '), ',', ' '), '?', ' '), '!', ' '), ':', ' '), ';', ' ');
    plain := replace(replace(replace(replace(replace(replace(plain,
        '"', ' '), '''', ' '), '{', ' '), '}', ' '), '[', ' '), ']', ' ');
    plain := replace(replace(replace(replace(replace(replace(replace(plain,
        '(', ' '), ')', ' '), '_', ' '), '-', ' '), '/', ' '), '=', ' '), E'\n', ' ');
    RETURN array_to_tsvector(array_remove(string_to_array(plain, ' '), ''));
END $$;
-- Whether a word or phrase is in such a text. pattern: as search_text.py writes it, for letters of either case.
CREATE FUNCTION text_has_term(body jsonb, own text, pattern text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN plain_text(body, own) ~* pattern;
REVOKE ALL ON FUNCTION plain_text(jsonb, text), plain_lexemes(text), text_has_term(jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION plain_text(jsonb, text), plain_lexemes(text), text_has_term(jsonb, text, text)
    TO observatory_api, observatory_worker;

-- From when on parts have it: always in a new database. Else from the Monday after this migration on: until then a server
-- of the version before, which does not find such parts, may come back. As in 0075.
DO $$
DECLARE
    begins timestamptz := '-infinity';
BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'llm_traces'::regclass AND pg_relation_size(inhrelid) > 0) THEN
        begins := date_trunc('week', now(), 'UTC') + interval '7 days';
    END IF;
    EXECUTE format(
        'CREATE FUNCTION words_from_text_begin() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE'
        ' RETURN %L::timestamptz', begins);
END $$;
REVOKE ALL ON FUNCTION words_from_text_begin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION words_from_text_begin() TO observatory_api, observatory_worker;

-- The index of such words. That of stored words has an entry for each row, also where there are none, so in a new
-- database it leaves those rows out. Partitions that are there get the index after COMMIT, beside traffic. On a cluster
-- no content is shared, and the nodes do not know these functions.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RETURN;
    END IF;
    CREATE INDEX content_parts_lexemes ON ONLY content_parts USING gin (plain_lexemes(plain_text(body, text)))
        WITH (fastupdate = on, gin_pending_list_limit = 262144) WHERE words IS NULL;
    IF words_from_text_begin() = '-infinity' THEN
        DROP INDEX content_parts_words;
        CREATE INDEX content_parts_words ON ONLY content_parts USING gin (words)
            WITH (fastupdate = on, gin_pending_list_limit = 262144) WHERE words IS NOT NULL;
    END IF;
END $$;

-- As in 0070, for that index too.
CREATE OR REPLACE FUNCTION settle_text_index() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    part  regclass;
    moved bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('llm_traces text index')) THEN
        RETURN 0;
    END IF;
    FOR part IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN (
            to_regclass('llm_traces_text'), to_regclass('llm_traces_parts'), to_regclass('content_parts_words'),
            to_regclass('content_parts_lexemes'))
    LOOP
        moved := moved + gin_clean_pending_list(part);
    END LOOP;
    RETURN moved;
END $$;

-- Whether a word or phrase, as a query for stored words and as a pattern for texts, is in 9 or more of 112 parts of a
-- week: of fewer than in 0074, since to look into a text takes longer.
CREATE FUNCTION is_common_term(project text, at timestamptz, query tsquery, pattern text) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
    few    integer;
BEGIN
    -- What is in none of the first 28 is hardly one.
    FOREACH few IN ARRAY '{28,112}'::integer[] LOOP
        IF (SELECT count(*) FILTER (WHERE CASE WHEN picked.words IS NULL
                                               THEN text_has_term(picked.body, picked.text, pattern)
                                               ELSE picked.words @@ query END)
            FROM (SELECT c.words, c.body, c.text FROM content_parts c WHERE c.project_id = project AND c.week = starts
                  ORDER BY c.part_id LIMIT few) AS picked) < (CASE few WHEN 28 THEN 1 ELSE 9 END)
        THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- The parts of one partition with a word or phrase, at most so many. lexemes: all of its words, wherever they are; the
-- index knows no places. So the text is looked at for phrases, and for them alone: the index knows exactly which parts
-- have a single word, or one that begins like this, and a look into each of some hundred texts was a tenth of a search.
-- With the owner's rights: row-level security would keep these functions out of the index. It tells about ids, which
-- lead to nothing that the caller may not see; parts_with_term() has checked the projects.
CREATE FUNCTION week_parts_with_term(
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

-- As parts_with_word() in 0074: the parts that have a word or phrase, as the text of an array. NULL: more than so many.
CREATE FUNCTION parts_with_term(
    projects text[], begins timestamptz, ends timestamptz, most integer, query tsquery, lexemes tsquery, pattern text
) RETURNS text
    LANGUAGE plpgsql STABLE STRICT
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    -- Those of them that the caller may see: row-level security decides.
    visible text[] := ARRAY(SELECT k.project_id FROM content_keys k WHERE k.project_id = ANY (projects));
    ids     uuid[] := '{}';
    part    regclass;
BEGIN
    FOR part IN
        SELECT c.oid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'content_parts'::regclass
          AND to_timestamp(right(c.relname, 8) || ' 00+00', 'YYYYMMDD HH24TZH') > begins - interval '7 days'
          AND to_timestamp(right(c.relname, 8) || ' 00+00', 'YYYYMMDD HH24TZH') < ends
          AND pg_relation_size(c.oid) > 0
        ORDER BY c.relname DESC
    LOOP
        ids := ids || week_parts_with_term(part, visible, most + 1 - cardinality(ids), query, lexemes, pattern);
        IF cardinality(ids) > most THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN ids::text;
END $$;

-- As in 0070, the sum of the parts' ranks. pattern: any of the words and phrases.
CREATE FUNCTION shared_rank(project text, at timestamptz, ids uuid[], query tsquery, pattern text) RETURNS double precision
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    starts timestamptz := date_trunc('week', at, 'UTC');
BEGIN
    RETURN (
        SELECT coalesce(sum(found.rank), 0)
        FROM (SELECT (SELECT ts_rank_cd(
                                 CASE WHEN c.words IS NOT NULL THEN c.words
                                      WHEN text_has_term(c.body, c.text, pattern) THEN to_tsvector(
                                          'simple', regexp_replace(plain_text(c.body, c.text), '[^A-Za-z0-9]+', ' ', 'g'))
                                 END, query)::double precision
                      FROM content_parts c
                      WHERE c.project_id = project AND c.part_id = wanted.id AND c.week = starts) AS rank
              FROM unnest(ids) AS wanted (id)) AS found);
END $$;

REVOKE ALL ON FUNCTION
    is_common_term(text, timestamptz, tsquery, text),
    week_parts_with_term(regclass, text[], integer, tsquery, tsquery, text),
    parts_with_term(text[], timestamptz, timestamptz, integer, tsquery, tsquery, text),
    shared_rank(text, timestamptz, uuid[], tsquery, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    is_common_term(text, timestamptz, tsquery, text),
    week_parts_with_term(regclass, text[], integer, tsquery, tsquery, text),
    parts_with_term(text[], timestamptz, timestamptz, integer, tsquery, tsquery, text),
    shared_rank(text, timestamptz, uuid[], tsquery, text)
    TO observatory_api, observatory_worker;
