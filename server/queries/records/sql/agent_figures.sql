-- name: list_agent_figures
-- $5 to $11: whether each column splits the figures; the others are summed over.
SELECT figure,
       CASE WHEN $5::boolean THEN day END AS day,
       CASE WHEN $6::boolean THEN kind END AS kind,
       CASE WHEN $7::boolean THEN agent END AS agent,
       CASE WHEN $8::boolean THEN person END AS person,
       CASE WHEN $9::boolean THEN repository END AS repository,
       CASE WHEN $10::boolean THEN model END AS model,
       CASE WHEN $11::boolean THEN tool END AS tool,
       sum(value) AS value
FROM agent_figures
WHERE project_id = ANY ($1::text[]) AND day BETWEEN $2 AND $3 AND ($4::text[] IS NULL OR figure = ANY ($4))
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 2, 1, 9 DESC, 3, 4, 5, 6, 7, 8
LIMIT $12;
