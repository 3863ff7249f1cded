-- name: list_services
-- Every service that ever sent a span to these projects: $1 projects, $2 most rows. Read from the
-- interned combinations of dimensions: a few thousand rows, whatever the number of spans.
SELECT DISTINCT service_name
FROM span_dimensions
WHERE project_id = ANY ($1::text[]) AND service_name <> ''
ORDER BY service_name
LIMIT $2;

-- name: list_operations
-- Names of the latest spans of one service: $1 project, $2 service, $3 since, $4 how many spans back.
SELECT DISTINCT span_name
FROM (
    SELECT span_name
    FROM llm_traces
    WHERE project_id = $1 AND service_name = $2 AND ts >= $3
    ORDER BY ts DESC
    LIMIT $4
) AS latest
ORDER BY span_name;
