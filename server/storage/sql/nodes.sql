-- name: list_projects_of_absent_nodes
-- Which of the projects $1 are on a node that does not answer; none on one PostgreSQL.
SELECT projects_of_absent_nodes($1::text[]) AS project_id;
