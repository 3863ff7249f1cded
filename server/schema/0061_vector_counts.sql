-- How many spans have vectors, by the hour: what a search by meaning says about its range without counting rows
-- (docs/decisions/0172-vectors-are-counted-by-the-hour.md).
--
-- Rows are added by the statements that store and delete vectors, so that nobody waits for anybody; the sum of an hour's
-- rows counts. The process that makes vectors puts them together.
CREATE TABLE vector_counts (
    project_id text NOT NULL,
    model_id   smallint NOT NULL,
    hour       timestamptz NOT NULL,
    -- Below zero where vectors went.
    vectors    bigint NOT NULL
);
CREATE INDEX vector_counts_place ON vector_counts (project_id, hour);
INSERT INTO vector_counts (project_id, model_id, hour, vectors)
SELECT project_id, model_id, date_trunc('hour', ts, 'UTC'), count(*)
FROM span_vectors WHERE bits IS NOT NULL GROUP BY 1, 2, 3;
CALL enable_project_isolation('vector_counts');
