-- name: list_budgets
SELECT project_id, budget_id, name, amount_usd, period, time_zone, dimension, value, warning_pct, critical_pct,
       created_at, updated_at, created_by
FROM budgets
WHERE project_id = ANY ($1::text[])
ORDER BY project_id, budget_id
LIMIT $2;

-- name: find_budget
SELECT project_id, budget_id, name, amount_usd, period, time_zone, dimension, value, warning_pct, critical_pct,
       created_at, updated_at, created_by
FROM budgets
WHERE project_id = $1 AND budget_id = $2;

-- name: count_budgets
SELECT count(*) FROM budgets WHERE project_id = $1;

-- name: put_budget
-- Create or replace a budget; return it, and whether it existed.
INSERT INTO budgets AS b (project_id, budget_id, name, amount_usd, period, time_zone, dimension, value,
                          warning_pct, critical_pct, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (project_id, budget_id) DO UPDATE
SET name = excluded.name, amount_usd = excluded.amount_usd, period = excluded.period,
    time_zone = excluded.time_zone, dimension = excluded.dimension, value = excluded.value,
    warning_pct = excluded.warning_pct, critical_pct = excluded.critical_pct, updated_at = excluded.updated_at
RETURNING new.*, old.budget_id IS NOT NULL AS replaced;

-- name: delete_budget
DELETE FROM budgets WHERE project_id = $1 AND budget_id = $2 RETURNING budget_id;
