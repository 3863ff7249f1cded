-- Content that several spans carry, stored once. See migration 0070.

-- name: read_content_start
-- From when on a database shares content by itself, not before $1.
SELECT greatest(shared_content_begins(), $1::timestamptz);

-- name: read_resource_start
-- From when on spans of a database have the id of their resource in place of its attributes, not before $1.
SELECT greatest(shared_resources_begin(), $1::timestamptz);

-- name: make_content_keys
INSERT INTO content_keys (project_id) SELECT unnest($1::text[]) ON CONFLICT (project_id) DO NOTHING RETURNING project_id;

-- name: read_content_keys
-- With the first week whose words are in segments, not before $2.
SELECT project_id, key, greatest(words_in_segments_from(), $2::timestamptz) AS segments_from
FROM content_keys WHERE project_id = ANY ($1::text[]);

-- name: hold_content
-- The projects $1 in the order of their names, so that nobody waits in a circle.
SELECT project_id, key, generation FROM hold_content($1::text[]);

-- name: store_content_parts
-- Parts as arrays of equal length, in the order of their key. search_text ($7) where PostgreSQL has to make the vector.
INSERT INTO content_parts (project_id, week, part_id, body, text, words)
SELECT p.project_id, p.week, p.part_id, p.body::jsonb, p.text,
       coalesce(p.words, to_tsvector('simple', coalesce(p.search_text, '')))
FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::tsvector[], $7::text[])
         AS p (project_id, week, part_id, body, text, words, search_text)
ON CONFLICT (project_id, part_id, week) DO NOTHING
RETURNING project_id, week, part_id;

-- name: store_resources
-- As arrays of equal length, in the order of their key.
INSERT INTO span_resources (project_id, week, resource_id, attributes)
SELECT r.project_id, r.week, r.resource_id, r.attributes::jsonb
FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[]) AS r (project_id, week, resource_id, attributes)
ON CONFLICT (project_id, resource_id) DO NOTHING
RETURNING project_id, week, resource_id;

-- name: note_content
-- Parts that may be unused.
INSERT INTO content_garbage (project_id, week, part_id)
SELECT project_id, week, part_id FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS p (project_id, week, part_id)
RETURNING 1;

-- name: note_resources
-- The same of resources.
INSERT INTO resource_garbage (project_id, week, resource_id)
SELECT project_id, week, resource_id
FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS r (project_id, week, resource_id)
RETURNING 1;

-- name: hold_content_alone
SELECT hold_content_alone(project_id) FROM unnest(ARRAY[$1::text]) AS p (project_id);

-- name: collect_unused_content
SELECT collect_unused_content(project_id) FROM unnest(ARRAY[$1::text]) AS p (project_id);

-- name: collect_unused_resources
SELECT collect_unused_resources(project_id) FROM unnest(ARRAY[$1::text]) AS p (project_id);

-- name: has_unused_content
SELECT EXISTS (SELECT FROM content_garbage WHERE project_id = $1)
    OR EXISTS (SELECT FROM resource_garbage WHERE project_id = $1);

-- name: list_projects_with_unused_content
-- {among}: a condition on project_id (server/storage/living_nodes.py).
SELECT project_id FROM content_garbage WHERE project_id {among}
UNION
SELECT project_id FROM resource_garbage WHERE project_id {among}
ORDER BY project_id;

-- name: store_content_words
-- Blocks of new segments.
INSERT INTO content_words (project_id, week, segment, first_word, data)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::text[], $5::bytea[])
RETURNING 1;

-- name: list_word_segments
-- The segments of each project and week that has several, with the numbers of their parts.
SELECT project_id, week, array_agg(segment) AS segments, array_agg(octet_length(data) / 16) AS sizes
FROM content_words
WHERE first_word = '' AND project_id IN (SELECT p.project_id FROM projects p WHERE p.deleted_at IS NULL)
GROUP BY project_id, week HAVING count(*) >= $1;

-- name: hold_words
-- Whoever puts segments of project $1 together is alone with them.
SELECT pg_advisory_xact_lock(hashtextextended('words of ' || project_id, 0)) IS NULL
FROM unnest(ARRAY[$1::text]) AS p (project_id);

-- name: read_word_segments
-- The segments $3 of week $2 of project $1 with all of their blocks.
SELECT segment, first_word, data FROM content_words
WHERE project_id = $1 AND week = $2 AND segment = ANY ($3::bigint[])
ORDER BY segment, first_word;

-- name: remove_word_segments
WITH gone AS (
    DELETE FROM content_words WHERE project_id = $1 AND week = $2 AND segment = ANY ($3::bigint[]) RETURNING segment
)
SELECT count(DISTINCT segment) FROM gone;

-- name: list_segment_parts
-- The segments of the weeks $2 of project $1, with the ids of their parts.
SELECT week, segment, data FROM content_words
WHERE project_id = $1 AND week = ANY ($2::timestamptz[]) AND first_word = '';

-- name: take_words_garbage
-- Notes of removed parts of project $1.
DELETE FROM content_words_garbage WHERE project_id = $1 RETURNING week, part_id;

-- name: list_stored_parts
-- Those of the parts $3 of the weeks $2 that are stored (again).
SELECT week, part_id FROM content_parts
WHERE project_id = $1 AND week = ANY ($2::timestamptz[]) AND part_id = ANY ($3::uuid[]);

-- name: list_projects_with_words_garbage
SELECT DISTINCT project_id FROM content_words_garbage ORDER BY project_id;
