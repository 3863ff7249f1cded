-- Search by meaning. {…} are fragments made by server/queries/lists/nearest_reader.py.

-- name: models_in_range
-- Which of the models $1 have vectors in the range.
SELECT m.model_id FROM unnest($1::smallint[]) AS m (model_id) WHERE {branches};

-- name: model_branch
EXISTS (SELECT FROM span_vectors t WHERE {project} AND t.model_id = m.model_id AND t.bits IS NOT NULL AND {window})

-- name: prefer_vector_index
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off

-- name: vector_extents
-- About how many vectors of the model $2 each of the projects $1 has from $3 to $4, and the hours they lie between.
SELECT project_id, sum(vectors)::bigint AS vectors, min(hour) AS first, max(hour) + interval '1 hour' AS last
FROM vector_counts
WHERE project_id = ANY ($1::text[]) AND model_id = $2::smallint
  AND hour > $3::timestamptz - interval '1 hour' AND ($4::timestamptz IS NULL OR hour < $4)
GROUP BY project_id HAVING sum(vectors) > 0;

-- name: sample_distance
-- The distance from the bits $1 within which the part $7 of a sample lies: of the project $2 and the model $3, the $6 rows
-- that follow each of the moments $4, before $5.
SELECT percentile_disc($7::double precision) WITHIN GROUP (ORDER BY bit_count(sampled.bits # $1::bit varying))
FROM unnest($4::timestamptz[]) AS place (ts)
CROSS JOIN LATERAL (
    SELECT t.bits FROM span_vectors t
    WHERE t.project_id = $2::text AND t.model_id = $3::smallint AND t.bits IS NOT NULL
      AND t.ts >= place.ts AND ($5::timestamptz IS NULL OR t.ts < $5)
    ORDER BY t.ts LIMIT $6::bigint
) AS sampled;

-- name: nearest
-- The rows whose bits differ least from the question's, each bit by its weight, with their vectors.
WITH candidates AS MATERIALIZED ({branches}),
near AS MATERIALIZED (
    SELECT project_id, ts, span_id FROM candidates ORDER BY {weight}, ts DESC LIMIT {pool}
)
SELECT v.project_id, v.ts, v.trace_id, v.span_id, v.text_hash, v.vector, (SELECT count(*) FROM candidates) AS candidates
FROM near JOIN span_vectors v ON v.project_id = near.project_id AND v.model_id = {model} AND v.bits IS NOT NULL
                             AND v.ts = near.ts AND v.span_id = near.span_id
ORDER BY v.ts DESC, v.trace_id, v.span_id

-- name: nearest_filtered
-- The same of rows that pass a filter, and how many of them there are.
WITH passing AS MATERIALIZED ({branches}),
candidates AS MATERIALIZED (SELECT * FROM passing ORDER BY bit_count(differ), ts DESC LIMIT {most_candidates}),
near AS MATERIALIZED (
    SELECT project_id, ts, trace_id, span_id FROM candidates ORDER BY {weight}, ts DESC LIMIT {pool}
)
SELECT v.project_id, v.ts, v.trace_id, v.span_id, v.text_hash, v.vector, (SELECT count(*) FROM passing) AS candidates
FROM near JOIN span_vectors v ON v.project_id = near.project_id AND v.trace_id = near.trace_id
                             AND v.span_id = near.span_id AND v.ts = near.ts
ORDER BY v.ts DESC, v.trace_id, v.span_id

-- name: nearest_branch
-- Rows of a project in the range that are within a distance. The index has all that this reads.
SELECT t.project_id, t.ts, t.span_id, t.bits # {bits} AS differ
FROM span_vectors t
WHERE {project} AND t.model_id = {model} AND t.bits IS NOT NULL AND {window} AND bit_count(t.bits # {bits}) <= {distance}

-- name: nearest_newest_branch
-- The same of the newest rows of a project.
SELECT project_id, ts, span_id, bits # {bits} AS differ
FROM (SELECT t.project_id, t.ts, t.span_id, t.bits FROM span_vectors t
      WHERE {project} AND t.model_id = {model} AND t.bits IS NOT NULL AND {window}
      ORDER BY t.ts DESC LIMIT {most}) AS newest
WHERE bit_count(bits # {bits}) <= {distance}

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
-- Whether there is such a trace or span, with or without vectors.
SELECT EXISTS (SELECT FROM llm_traces WHERE project_id = ANY ($1::text[]) AND trace_id = $2
               AND ($3::text IS NULL OR span_id = $3));
