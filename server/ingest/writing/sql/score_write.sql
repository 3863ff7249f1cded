-- name: store_scores
-- Arrays of equal length, one element a score, each score_id once. A score that is there is replaced.
INSERT INTO scores AS s (
    project_id, score_id, trace_id, span_id, name, data_type, value, string_value, source, comment, ts, created_by
)
SELECT $1, given.*
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::text[], $9::text[],
            $10::text[], $11::timestamptz[], $12::text[]) AS given
ORDER BY 2
ON CONFLICT (project_id, score_id) DO UPDATE SET
    trace_id = excluded.trace_id, span_id = excluded.span_id, name = excluded.name, data_type = excluded.data_type,
    value = excluded.value, string_value = excluded.string_value, source = excluded.source,
    comment = excluded.comment, ts = excluded.ts, created_by = excluded.created_by
RETURNING new.project_id, new.score_id, new.trace_id, new.span_id, new.name, new.data_type, new.value,
          new.string_value, new.source, new.comment, new.ts, new.created_at, new.created_by,
          old.score_id IS NULL AS is_new;

-- name: store_score_once
-- Nothing when the id is there. Waits for whoever is just storing it.
INSERT INTO scores (
    project_id, score_id, trace_id, span_id, name, data_type, value, string_value, source, comment, ts, created_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (project_id, score_id) DO NOTHING
RETURNING project_id, score_id, trace_id, span_id, name, data_type, value, string_value, source, comment, ts,
          created_at, created_by;

-- name: read_score
SELECT project_id, score_id, trace_id, span_id, name, data_type, value, string_value, source, comment, ts,
       created_at, created_by
FROM scores
WHERE project_id = $1 AND score_id = $2;

-- name: delete_score
DELETE FROM scores WHERE project_id = $1 AND score_id = $2 RETURNING trace_id, ts;
