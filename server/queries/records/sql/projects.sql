-- name: list_project_ids
-- Every project, and whether it was deleted.
SELECT project_id, deleted_at IS NOT NULL AS is_deleted FROM projects ORDER BY project_id;

-- name: create_project
-- Returns the id, or nothing if the project existed.
INSERT INTO projects (project_id, name) VALUES ($1, $2)
ON CONFLICT (project_id) DO NOTHING
RETURNING project_id;
