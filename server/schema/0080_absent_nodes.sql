-- Which of these projects are on a node that does not answer. One PostgreSQL is one node, which answers;
-- DATABASE_DISTRIBUTION=citus puts another form in its place (server/schema/citus.sql).
CREATE FUNCTION projects_of_absent_nodes(projects text[]) RETURNS SETOF text
    LANGUAGE sql STABLE AS $$
    SELECT NULL::text WHERE false
$$;
