-- Interned combinations of low-cardinality dimensions; see server/ingest/writing/dimensions.py.

-- name: list_span_dimensions
SELECT dim_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
       agent_name, tool_name, prompt_name, prompt_version, is_generation
FROM span_dimensions
WHERE project_id = $1;

-- name: take_dimension_ids
SELECT nextval('span_dimensions_id')::integer AS dim_id FROM generate_series(1, $1::integer);

-- name: add_span_dimensions
-- Arrays of equal length, one element a combination; the ids are taken before, because nodes of a distributed engine
-- have no sequence. Another process may have been quicker: what it made
-- is not given back.
INSERT INTO span_dimensions (
    project_id, dim_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
    agent_name, tool_name, prompt_name, prompt_version, is_generation
)
SELECT $1, new.*
FROM unnest($2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::boolean[]) AS new
ON CONFLICT DO NOTHING
RETURNING dim_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
          agent_name, tool_name, prompt_name, prompt_version, is_generation;
