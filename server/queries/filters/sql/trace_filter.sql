-- Fragments that server/queries/filters/filter_sql.py puts together. {…} are other fragments and
-- placeholders of bound values, never text from a caller.

-- name: has_span
-- The trace or session of a row has a span that passes a filter.
EXISTS (SELECT 1 FROM llm_traces h
        WHERE h.project_id = {t}.project_id AND h.{column} = {t}.{column}{bounds} AND {part})

-- name: has_score
-- The span, or its trace as a whole, has a score of a name that passes a comparison.
EXISTS (SELECT 1 FROM scores s
        WHERE s.project_id = {t}.project_id AND s.trace_id = {t}.trace_id
          AND (s.span_id IS NULL OR s.span_id = {t}.span_id)
          AND s.name = {name} AND {part})

-- name: score_text
-- The score as text, for comparison with a text.
coalesce(s.string_value, CASE WHEN s.data_type = 'boolean' THEN (s.value = 1)::text END)

-- name: attribute_number
-- An attribute as a number; CASE keeps the cast away from values that are not numbers.
(CASE WHEN jsonb_typeof({column} -> {key}) = 'number' THEN ({column} ->> {key})::numeric END)

-- name: has_resource
-- The resource of the span, where it is not in the row, passes a comparison.
EXISTS (SELECT FROM span_resources r
        WHERE r.project_id = {t}.project_id AND r.resource_id = {t}.resource_id AND {part})

-- name: has_element
-- An event or a link of the span passes a comparison.
EXISTS (SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof({t}.{column}) WHEN 'array' THEN {t}.{column} ELSE '[]' END)
        AS e (item) WHERE {part})

-- name: has_summary
-- The summary of the row's trace passes a comparison.
EXISTS (SELECT 1 FROM trace_summaries w
        WHERE w.project_id = {t}.project_id AND w.trace_id = {t}.trace_id AND {part})

-- name: has_shared_words
-- One of the parts of a row has a word or phrase. A look-up by key for each, up to the first that has it: as a join the
-- planner would rather read all parts of the project, or all that have the word. {first}: the place of the first part
-- that counts; {weeks}: for it to leave out partitions. {pattern}: the word, for parts whose words are those of their text.
EXISTS (SELECT FROM unnest({t}.parts[{first}:cardinality({t}.parts) - coalesce({t}.more_parts, 0)]) AS own (part_id)
        WHERE (SELECT CASE WHEN c.words IS NULL THEN text_has_term(c.body, c.text, {pattern})
                           ELSE c.words @@ to_tsquery('simple', {word}) END FROM content_parts c
               WHERE c.project_id = {t}.project_id AND c.part_id = own.part_id
                 AND c.week = date_trunc('week', {t}.ts, 'UTC'){weeks}))

-- name: has_named_part
-- One of the parts of a row is among {ids}, which are looked up in a table made of them once. IS TRUE keeps the planner
-- from a join, which may compare each part with each id.
EXISTS (SELECT FROM unnest({t}.parts[{first}:cardinality({t}.parts) - coalesce({t}.more_parts, 0)]) AS own (part_id)
        WHERE (own.part_id IN (SELECT unnest({ids}))) IS TRUE)

-- name: find_parts
-- For each of the words and phrases $5: which parts of the projects $1 have it, among those of spans from $2 and before
-- $3. NULL: more than $4, or many of the newest. $6: all words of each, wherever they are; $7: a pattern of each.
SELECT CASE WHEN cardinality($1::text[]) = 1
             AND is_common_term(($1::text[])[1], least($3::timestamptz, now()), asked.query, asked.pattern) THEN NULL
            ELSE parts_with_term($1::text[], $2::timestamptz, $3::timestamptz, $4::integer, asked.query, asked.lexemes,
                                 asked.pattern) END AS parts
FROM (SELECT to_tsquery('simple', word) AS query, to_tsquery('simple', words) AS lexemes, pattern, place
      FROM unnest($5::text[], $6::text[], $7::text[]) WITH ORDINALITY AS term (word, words, pattern, place)) AS asked
ORDER BY asked.place

-- name: find_more_parts
-- As find_parts for words in more than a few parts, unless one is in 3 of 112 parts of a sample, NULL then too: so many
-- spans have it that it is soon found in them.
SELECT CASE WHEN (SELECT count(*) FILTER (WHERE CASE WHEN picked.words IS NULL
                                                     THEN text_has_term(picked.body, picked.text, asked.pattern)
                                                     ELSE picked.words @@ asked.query END)
                  FROM (SELECT c.words, c.body, c.text FROM content_parts c
                        WHERE c.project_id = ($1::text[])[1]
                          AND c.week = date_trunc('week', least($3::timestamptz, now()), 'UTC')
                        ORDER BY c.part_id LIMIT 112) AS picked) < 3
            THEN parts_with_term($1::text[], $2::timestamptz, $3::timestamptz, $4::integer, asked.query, asked.lexemes,
                                 asked.pattern) END AS parts
FROM (SELECT to_tsquery('simple', word) AS query, to_tsquery('simple', words) AS lexemes, pattern, place
      FROM unnest($5::text[], $6::text[], $7::text[]) WITH ORDINALITY AS term (word, words, pattern, place)) AS asked
ORDER BY asked.place
