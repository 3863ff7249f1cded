-- name: list_project_ids
-- Every project that has not been deleted.
SELECT project_id FROM projects WHERE deleted_at IS NULL ORDER BY project_id;

-- name: create_project
-- Gives the id back, or nothing when the project was there.
INSERT INTO projects (project_id, name) VALUES ($1, $2)
ON CONFLICT (project_id) DO NOTHING
RETURNING project_id;
