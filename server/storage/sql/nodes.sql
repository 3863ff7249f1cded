-- name: list_projects_of_absent_nodes
-- Which of the projects $1 are on a node that does not answer; none on one PostgreSQL.
SELECT projects_of_absent_nodes($1::text[]) AS project_id;

-- name: list_projects_of_living_nodes
-- All projects but those whose node does not answer.
SELECT project_id FROM projects
EXCEPT
SELECT projects_of_absent_nodes(ARRAY(SELECT project_id FROM projects));
