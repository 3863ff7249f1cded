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
-- is made of its present version, in the present form.
SELECT t.ts, t.trace_id, t.span_id,
       EXISTS (SELECT FROM span_vectors v
               WHERE v.project_id = t.project_id AND v.trace_id = t.trace_id AND v.span_id = t.span_id AND v.ts = t.ts
                 AND v.model_id = $6 AND v.version = t.version AND (v.sizes IS NOT NULL OR v.bits IS NULL)) AS is_done
FROM (SELECT project_id, ts, trace_id, span_id, version FROM llm_traces
      WHERE project_id = $1 AND ts <= $2 AND (ts, trace_id, span_id) < ($2, $3, $4)
      ORDER BY ts DESC, trace_id DESC, span_id DESC LIMIT $5) AS t;

-- name: list_span_versions
SELECT t.trace_id, t.span_id, t.ts, t.version
FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS k (trace_id, span_id, ts)
JOIN llm_traces t ON t.project_id = $1 AND t.trace_id = k.trace_id AND t.span_id = k.span_id AND t.ts = k.ts;

-- name: known_vectors
-- Vectors of texts with the hashes $3.
SELECT DISTINCT ON (text_hash) text_hash, vector FROM span_vectors
WHERE project_id = $1 AND model_id = $2 AND text_hash = ANY ($3::bytea[]);

-- name: hold_project
-- A row if the project is not deleted; its deletion waits for us.
SELECT 1 FROM projects WHERE project_id = $1 AND deleted_at IS NULL FOR SHARE;

-- name: hold_spans
-- Those of the spans that are still there; a deletion waits for us, or we find it done.
SELECT t.trace_id, t.span_id, t.ts
FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS k (trace_id, span_id, ts)
JOIN llm_traces t ON t.project_id = $1 AND t.trace_id = k.trace_id AND t.span_id = k.span_id AND t.ts = k.ts
FOR KEY SHARE OF t;

-- name: ensure_vector_partition
SELECT ensure_vector_partition($1);

-- name: store_vectors
-- Also where their number stays the same, the mark $11 tells of the change.
WITH stored AS (
    INSERT INTO span_vectors AS v (project_id, model_id, trace_id, span_id, ts, version, text_hash, bits, sizes, vector)
    SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bytea[], $8::bit varying[],
                                 $9::bit varying[], $10::bytea[])
    ON CONFLICT (project_id, trace_id, span_id, ts) DO UPDATE SET
        model_id = excluded.model_id, version = excluded.version, text_hash = excluded.text_hash, bits = excluded.bits,
        sizes = excluded.sizes, vector = excluded.vector, added_at = excluded.added_at
    RETURNING new.ts AS ts, CASE WHEN new.bits IS NOT NULL THEN new.model_id END AS model_now,
              CASE WHEN old.bits IS NOT NULL THEN old.model_id END AS model_before
)
INSERT INTO vector_counts (project_id, model_id, hour, vectors, mark)
SELECT $1, model_id, date_trunc('hour', ts, 'UTC'), sum(sign), $11::bigint
FROM (SELECT ts, model_now AS model_id, 1 AS sign FROM stored UNION ALL SELECT ts, model_before, -1 FROM stored) AS changes
WHERE model_id IS NOT NULL
GROUP BY 1, 2, 3
RETURNING 1;

-- name: drop_moved_vectors
-- Vectors of the spans $2, $3 from when they had another start than $4.
WITH gone AS (
    DELETE FROM span_vectors v USING unnest($2::text[], $3::text[], $4::timestamptz[]) AS k (trace_id, span_id, ts)
    WHERE v.project_id = $1 AND v.trace_id = k.trace_id AND v.span_id = k.span_id AND v.ts <> k.ts
    RETURNING v.model_id, v.ts, v.bits IS NOT NULL AS counts
)
INSERT INTO vector_counts (project_id, model_id, hour, vectors)
SELECT $1, model_id, date_trunc('hour', ts, 'UTC'), -count(*) FROM gone WHERE counts GROUP BY 1, 2, 3
RETURNING 1;

-- name: fold_vector_counts
-- Makes one row of those of an hour, in the hours of $2, where there are many, with the mark $3.
WITH many AS (
    SELECT model_id, hour FROM vector_counts
    WHERE project_id = $1 AND hour IN (SELECT date_trunc('hour', ts, 'UTC') FROM unnest($2::timestamptz[]) AS k (ts))
    GROUP BY 1, 2 HAVING count(*) >= 8
), taken AS (
    DELETE FROM vector_counts c USING many
    WHERE c.project_id = $1 AND c.hour = many.hour AND c.model_id = many.model_id
    RETURNING c.model_id, c.hour, c.vectors
)
INSERT INTO vector_counts (project_id, model_id, hour, vectors, mark)
SELECT $1, model_id, hour, sum(vectors), $3::bigint FROM taken GROUP BY 1, 2, 3 HAVING sum(vectors) <> 0
RETURNING 1;

-- name: count_vectors
-- How many vectors of each of the models $2 each of the projects $1 has: by the hour from $4 to $5, and one by one from $3 to $4
-- and from $5 to $6.
SELECT project_id, model_id, sum(vectors)::bigint AS vectors
FROM (
    SELECT project_id, model_id, vectors FROM vector_counts
    WHERE project_id = ANY ($1::text[]) AND model_id = ANY ($2::smallint[])
      AND hour >= $4::timestamptz AND hour < $5::timestamptz
    UNION ALL
    SELECT project_id, model_id, 1 FROM span_vectors
    WHERE project_id = ANY ($1::text[]) AND model_id = ANY ($2::smallint[]) AND bits IS NOT NULL
      AND ts >= $3::timestamptz AND ts < $4
    UNION ALL
    SELECT project_id, model_id, 1 FROM span_vectors
    WHERE project_id = ANY ($1::text[]) AND model_id = ANY ($2::smallint[]) AND bits IS NOT NULL
      AND ts >= $5 AND ts < $6::timestamptz
) AS parts
GROUP BY project_id, model_id;
