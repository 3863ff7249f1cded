-- Additions of coding agents' counters to the daily figures.

-- name: note_agent_counter
-- The increase that a point brings; no row for one that is known. A counter that fell without a new start began again.
INSERT INTO agent_counters AS c (project_id, counter_id, start_ns, last_ns, value)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (project_id, counter_id, start_ns) DO UPDATE
    SET last_ns = excluded.last_ns, value = excluded.value, seen_at = excluded.seen_at
    WHERE NOT $6::boolean AND excluded.last_ns > c.last_ns
RETURNING CASE WHEN new.value >= coalesce(old.value, 0) THEN new.value - coalesce(old.value, 0) ELSE new.value END;

-- name: forget_agent_counters
DELETE FROM agent_counters WHERE project_id = $1 AND seen_at < now() - interval '8 days';

-- name: add_agent_figure
INSERT INTO agent_figures AS f (
    project_id, day, figure, kind, agent, person, repository, model, tool, value
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (project_id, day, figure, kind, agent, person, repository, model, tool)
    DO UPDATE SET value = f.value + excluded.value;
