-- Vectors of spans: models, and what the background work reads and writes. See migration 0060.

-- name: add_embedding_model
INSERT INTO embedding_models (name, dimensions) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING;

-- name: list_embedding_models
SELECT model_id, name, dimensions FROM embedding_models ORDER BY model_id;

-- name: take_embedding_lease
-- Runs as the worker. A row if $1 makes the vectors for the next $2 seconds.
INSERT INTO embedding_lease (holder, expires_at) VALUES ($1, now() + make_interval(secs => $2))
ON CONFLICT (only_row) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE embedding_lease.holder = excluded.holder OR embedding_lease.expires_at < now()
RETURNING 1;

-- name: list_projects_to_embed
SELECT project_id FROM projects WHERE deleted_at IS NULL ORDER BY project_id;

-- name: walk_spans
-- The $5 newest spans of the project $1 before the place $2, $3, $4, and whether each has a vector of the model $6 that
-- is made of its present version.
SELECT t.ts, t.trace_id, t.span_id,
       EXISTS (SELECT FROM span_vectors v
               WHERE v.project_id = t.project_id AND v.trace_id = t.trace_id AND v.span_id = t.span_id AND v.ts = t.ts
                 AND v.model_id = $6 AND v.version = t.version) AS is_done
FROM (SELECT project_id, ts, trace_id, span_id, version FROM llm_traces
      WHERE project_id = $1 AND ts <= $2 AND (ts, trace_id, span_id) < ($2, $3, $4)
      ORDER BY ts DESC, trace_id DESC, span_id DESC LIMIT $5) AS t;

-- name: list_span_versions
SELECT t.trace_id, t.span_id, t.ts, t.version
FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS k (trace_id, span_id, ts)
JOIN llm_traces t ON t.project_id = $1 AND t.trace_id = k.trace_id AND t.span_id = k.span_id AND t.ts = k.ts;

-- name: known_vectors
-- Vectors of texts with the hashes $3.
SELECT DISTINCT ON (text_hash) text_hash, bits, vector FROM span_vectors
WHERE project_id = $1 AND model_id = $2 AND text_hash = ANY ($3::bytea[]);

-- name: hold_spans
-- Those of the spans that are still there; a deletion waits for us, or we find it done.
SELECT t.trace_id, t.span_id, t.ts
FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS k (trace_id, span_id, ts)
JOIN llm_traces t ON t.project_id = $1 AND t.trace_id = k.trace_id AND t.span_id = k.span_id AND t.ts = k.ts
FOR KEY SHARE OF t;

-- name: ensure_vector_partition
SELECT ensure_vector_partition($1);

-- name: store_vectors
INSERT INTO span_vectors AS v (project_id, model_id, trace_id, span_id, ts, version, text_hash, bits, vector)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bytea[], $8::bit varying[], $9::bytea[])
ON CONFLICT (project_id, trace_id, span_id, ts) DO UPDATE SET
    model_id = excluded.model_id, version = excluded.version, text_hash = excluded.text_hash, bits = excluded.bits,
    vector = excluded.vector, added_at = excluded.added_at
RETURNING 1;

-- name: drop_moved_vectors
-- Vectors of the spans $2, $3 from when they had another start than $4.
DELETE FROM span_vectors v USING unnest($2::text[], $3::text[], $4::timestamptz[]) AS k (trace_id, span_id, ts)
WHERE v.project_id = $1 AND v.trace_id = k.trace_id AND v.span_id = k.span_id AND v.ts <> k.ts;
