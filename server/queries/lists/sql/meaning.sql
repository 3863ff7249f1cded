-- Search by meaning. {…} are fragments made by server/queries/lists/nearest_reader.py.

-- name: models_in_range
-- The models among $1 that have vectors in the range.
SELECT m.model_id FROM unnest($1::smallint[]) AS m (model_id) WHERE {branches};

-- name: model_branch
EXISTS (SELECT FROM span_vectors t WHERE {project} AND t.model_id = m.model_id AND t.bits IS NOT NULL AND {window})

-- name: prefer_vector_index
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off

-- name: vector_marks
-- The hours from $3 to $4 in which each of the projects $1 has vectors of the model $2, their
-- number, and a value that changes whenever they change: see migration 0063.
SELECT project_id, hour, sum(vectors)::bigint AS vectors, count(*) AS changes, bit_xor(mark) AS mark
FROM vector_counts
WHERE project_id = ANY ($1::text[]) AND model_id = $2::smallint AND hour >= $3::timestamptz AND hour < $4::timestamptz
GROUP BY project_id, hour HAVING sum(vectors) > 0;

-- name: read_vector_bits
-- The bits of the project $1 and the model $2 in the hours $3, each column end to end in the
-- same order. The index has everything that this reads. Sizes that are not stored yet are zeros.
SELECT h.hour, b.*
FROM unnest($3::timestamptz[]) AS h (hour)
CROSS JOIN LATERAL (
    SELECT count(*) AS vectors, string_agg(timestamptz_send(t.ts), '') AS ts,
           string_agg(timestamptz_send(t.added_at), '') AS added_at, string_agg(varbit_send(t.bits), '') AS bits,
           string_agg(varbit_send(coalesce(t.sizes, t.bits # t.bits)), '') AS sizes, array_agg(t.span_id) AS span_ids
    FROM span_vectors t
    WHERE t.project_id = $1::text AND t.model_id = $2::smallint AND t.bits IS NOT NULL
      AND t.ts >= h.hour AND t.ts < h.hour + interval '1 hour'
) AS b;

-- name: read_chosen_vectors
-- The vectors of those rows $2, $3 of the project $1 that exist, end to end in the order of "places".
SELECT array_agg(k.place) AS places, array_agg(v.trace_id) AS trace_ids, array_agg(v.text_hash) AS texts,
       string_agg(v.vector, '') AS vectors
FROM unnest($2::timestamptz[], $3::text[]) WITH ORDINALITY AS k (ts, span_id, place)
JOIN span_vectors v ON v.project_id = $1::text AND v.model_id = $4::smallint AND v.bits IS NOT NULL
                   AND v.ts = k.ts AND v.span_id = k.span_id;

-- name: nearest_filtered
-- Among the rows that pass a filter, those whose bits differ least from the question's, each bit
-- by its weight, with their vectors; and the number of rows that pass.
WITH passing AS MATERIALIZED ({branches}),
candidates AS MATERIALIZED (SELECT * FROM passing ORDER BY bit_count(differ), ts DESC LIMIT {most_candidates}),
near AS MATERIALIZED (
    SELECT project_id, ts, trace_id, span_id FROM candidates ORDER BY {weight}, ts DESC LIMIT {pool}
)
SELECT v.project_id, v.ts, v.trace_id, v.span_id, v.text_hash, v.vector, (SELECT count(*) FROM passing) AS candidates
FROM near JOIN span_vectors v ON v.project_id = near.project_id AND v.trace_id = near.trace_id
                             AND v.span_id = near.span_id AND v.ts = near.ts
ORDER BY v.ts DESC, v.trace_id, v.span_id

-- name: nearest_filtered_branch
-- The vectors of those rows of {table} that pass the filter.
SELECT v.project_id, v.ts, v.trace_id, v.span_id, v.bits # {bits} AS differ
FROM {table} t JOIN span_vectors v ON {same}
WHERE {project} AND {same_project} AND v.model_id = {model} AND v.bits IS NOT NULL AND {window} AND {predicate}

-- name: list_ranked_traces
-- The summaries with the keys $1 (projects) and $2 (traces), element by element.
SELECT {columns}, k.place
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (project_id, trace_id, place)
JOIN trace_summaries t ON t.project_id = k.project_id AND t.trace_id = k.trace_id
WHERE {predicate}
ORDER BY k.place

-- name: list_stored_vectors
-- The vectors of a trace, or of one of its spans, oldest first.
SELECT v.project_id, v.model_id, v.vector
FROM span_vectors v
WHERE v.project_id = ANY ($1::text[]) AND v.trace_id = $2 AND ($3::text IS NULL OR v.span_id = $3)
ORDER BY v.ts
LIMIT 200;

-- name: is_span_stored
-- Whether the trace or span exists, with or without vectors.
SELECT EXISTS (SELECT FROM llm_traces WHERE project_id = ANY ($1::text[]) AND trace_id = $2
               AND ($3::text IS NULL OR span_id = $3));
