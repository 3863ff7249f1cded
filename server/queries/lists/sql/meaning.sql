-- Search by meaning. {…} are fragments made by server/queries/lists/nearest_reader.py.

-- name: models_in_range
-- Which of the models $1 have vectors in the range.
SELECT m.model_id FROM unnest($1::smallint[]) AS m (model_id) WHERE {branches};

-- name: model_branch
EXISTS (SELECT FROM span_vectors t WHERE {project} AND t.model_id = m.model_id AND t.bits IS NOT NULL AND {window})

-- name: prefer_vector_index
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off

-- name: nearest
-- The rows whose bits differ least from the question's, with their vectors.
WITH near AS MATERIALIZED (
    SELECT project_id, ts, trace_id, span_id FROM ({branches}) AS merged
    ORDER BY distance, ts DESC LIMIT {pool}
)
SELECT v.project_id, v.ts, v.trace_id, v.span_id, v.vector
FROM near JOIN span_vectors v ON v.project_id = near.project_id AND v.trace_id = near.trace_id
                             AND v.span_id = near.span_id AND v.ts = near.ts

-- name: nearest_branch
-- Those of the newest rows of a project in the range. The index has all that this reads.
(SELECT project_id, ts, trace_id, span_id, bit_count(bits # {bits}) AS distance
 FROM (SELECT t.project_id, t.ts, t.trace_id, t.span_id, t.bits FROM span_vectors t
       WHERE {project} AND t.model_id = {model} AND t.bits IS NOT NULL AND {window}
       ORDER BY t.ts DESC LIMIT {most}) AS newest
 ORDER BY distance, ts DESC LIMIT {pool})

-- name: nearest_filtered_branch
-- Those of the rows of {table} that pass the filter.
(SELECT v.project_id, v.ts, v.trace_id, v.span_id, bit_count(v.bits # {bits}) AS distance
 FROM {table} t JOIN span_vectors v ON {same}
 WHERE {project} AND {same_project} AND v.model_id = {model} AND v.bits IS NOT NULL AND {window} AND {predicate}
 ORDER BY distance, v.ts DESC LIMIT {pool})

-- name: count_coverage
-- Rows of the range, and those that have vectors: each counted up to a number a project.
SELECT (SELECT count(*) FROM ({spans}) AS s) AS rows, (SELECT count(*) FROM ({vectors}) AS v) AS vectors

-- name: coverage_spans
(SELECT FROM llm_traces t WHERE {project} AND {window} LIMIT {limit})

-- name: coverage_vectors
(SELECT FROM span_vectors t WHERE {project} AND t.model_id = ANY ({models}) AND t.bits IS NOT NULL AND {window} LIMIT {limit})

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
