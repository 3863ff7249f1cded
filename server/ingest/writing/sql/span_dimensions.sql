-- Interned combinations of low-cardinality dimensions; see server/ingest/writing/dimensions.py.

-- name: list_span_dimensions
SELECT dim_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
       agent_name, tool_name, prompt_name, prompt_version, is_generation
FROM span_dimensions
WHERE project_id = $1;

-- name: add_span_dimensions
-- Arrays of equal length, one element a combination. Another process may have been quicker: what it made
-- is not given back.
INSERT INTO span_dimensions (
    project_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
    agent_name, tool_name, prompt_name, prompt_version, is_generation
)
SELECT $1, new.*
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::boolean[]) AS new
ON CONFLICT DO NOTHING
RETURNING dim_id, provider, model, operation_type, service_name, environment, status_code, error_type, finish_reason,
          agent_name, tool_name, prompt_name, prompt_version, is_generation;
