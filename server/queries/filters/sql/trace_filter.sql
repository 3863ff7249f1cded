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

-- name: has_element
-- An event or a link of the span passes a comparison.
EXISTS (SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof({t}.{column}) WHEN 'array' THEN {t}.{column} ELSE '[]' END)
        AS e (item) WHERE {part})

-- name: has_summary
-- The summary of the row's trace passes a comparison.
EXISTS (SELECT 1 FROM trace_summaries w
        WHERE w.project_id = {t}.project_id AND w.trace_id = {t}.trace_id AND {part})

-- name: has_shared_words
-- One of the parts of a row has a word or phrase.
shared_words_match({t}.project_id, {t}.ts, {t}.parts[:cardinality({t}.parts) - coalesce({t}.more_parts, 0)],
                   to_tsquery('simple', {word}))

-- name: find_parts
-- The parts of the projects $1 that have a word or phrase, among those of spans from $2 to before $3; at most $4.
SELECT {term} AS term, array_agg(p.part_id) AS parts
FROM (SELECT c.part_id FROM content_parts c
      WHERE c.project_id = ANY ($1::text[])
        AND c.week > coalesce($2::timestamptz, '-infinity') - interval '7 days'
        AND c.week < coalesce($3::timestamptz, 'infinity')
        AND c.words @@ to_tsquery('simple', {word})
      LIMIT $4) AS p
