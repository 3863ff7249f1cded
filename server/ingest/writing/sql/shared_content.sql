-- Content that several spans carry, stored once. See migration 0070.

-- name: read_content_start
-- From when on a database shares content by itself, not before $1.
SELECT greatest(shared_content_begins(), $1::timestamptz);

-- name: read_resource_start
-- From when on spans of a database have the id of their resource in place of its attributes, not before $1.
SELECT greatest(shared_resources_begin(), $1::timestamptz);

-- name: read_result_start
-- From when on the result of a tool is the part that later calls have, not before $1.
SELECT greatest(shared_results_begin(), $1::timestamptz);

-- name: read_words_start
-- From when on the words of short plain parts are those of their text, and not stored, not before $1.
SELECT greatest(words_from_text_begin(), $1::timestamptz);

-- name: make_content_keys
INSERT INTO content_keys (project_id) SELECT unnest($1::text[]) ON CONFLICT (project_id) DO NOTHING RETURNING project_id;

-- name: read_content_keys
SELECT project_id, key FROM content_keys WHERE project_id = ANY ($1::text[]);

-- name: hold_content
-- The projects $1 in the order of their names, so that nobody waits in a circle.
SELECT project_id, key, generation FROM hold_content($1::text[]);

-- name: store_content_parts
-- Parts as arrays of equal length, in the order of their key. search_text ($7) where PostgreSQL has to make the vector;
-- neither: the words are those of the text.
INSERT INTO content_parts (project_id, week, part_id, body, text, words)
SELECT p.project_id, p.week, p.part_id, p.body::jsonb, p.text,
       coalesce(p.words, to_tsvector('simple', p.search_text))
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
