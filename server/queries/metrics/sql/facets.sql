-- Values of a field with counts. {…} are fragments made by server/queries/metrics/facet_reader.py from the table
-- of fields and the filter, and placeholders of bound values.

-- name: facet_branch
-- The newest matching rows of one project (or of many, if a branch for each would cost more), {most} at most.
SELECT {value} AS value
FROM llm_traces t
WHERE {project} AND t.ts >= $1 AND t.ts < $2 AND {predicate}
ORDER BY t.ts DESC
LIMIT {most}

-- name: facet_values
-- $3: values that begin with this, $5: that contain this, both ignoring case; $4: how many values.
-- One row, even if there are no values.
WITH sample AS MATERIALIZED ({branches}),
found AS (SELECT {expanded} AS value FROM sample),
counted AS (
    SELECT value, count(*) AS spans
    FROM found
    WHERE value IS NOT NULL AND starts_with(lower(value), lower($3::text)) AND strpos(lower(value), lower($5::text)) > 0
    GROUP BY value
)
SELECT (SELECT count(*) FROM sample) AS rows_read,
       (SELECT count(*) FROM counted) AS distinct_values,
       ARRAY(SELECT value FROM counted ORDER BY spans DESC, value COLLATE "C" LIMIT $4) AS names,
       ARRAY(SELECT spans FROM counted ORDER BY spans DESC, value COLLATE "C" LIMIT $4) AS counts
