-- Content that several spans carry, stored once. See migration 0070.

-- name: read_content_start
-- From when on a database shares content by itself, not before $1.
SELECT greatest(shared_content_begins(), $1::timestamptz);

-- name: make_content_keys
INSERT INTO content_keys (project_id) SELECT unnest($1::text[]) ON CONFLICT (project_id) DO NOTHING RETURNING project_id;

-- name: read_content_keys
SELECT project_id, key FROM content_keys WHERE project_id = ANY ($1::text[]);

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

-- name: note_content
-- Parts that may be unused.
INSERT INTO content_garbage (project_id, week, part_id)
SELECT project_id, week, part_id FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS p (project_id, week, part_id)
RETURNING 1;

-- name: hold_content_alone
SELECT hold_content_alone(project_id) FROM unnest(ARRAY[$1::text]) AS p (project_id);

-- name: collect_unused_content
SELECT collect_unused_content(project_id) FROM unnest(ARRAY[$1::text]) AS p (project_id);

-- name: has_unused_content
SELECT EXISTS (SELECT FROM content_garbage WHERE project_id = $1);

-- name: list_projects_with_unused_content
SELECT DISTINCT project_id FROM content_garbage ORDER BY project_id;
