-- Exports as they are kept: what was asked, how far it is, and what came out.

-- name: database_now
SELECT clock_timestamp()

-- name: insert_export
INSERT INTO exports (export_id, kind, state, owner, created_by, projects, may_read_content, format, compression,
                     options, question, cut_at, rows_before, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11::jsonb, $12, $13, $14)

-- name: insert_export_part
INSERT INTO export_parts (export_id, number, row_count, byte_count, position, file_name, sha256)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)
ON CONFLICT (export_id, number) DO NOTHING

-- name: advance_export
-- The sums of an export that is still at work. No row comes back for one that was cancelled or taken over meanwhile.
UPDATE exports SET row_count = $2, byte_count = $3, hidden_fields = $4, heartbeat_at = now()
WHERE export_id = $1 AND state = 'running'
RETURNING export_id

-- name: finish_export
UPDATE exports
SET state = $2, row_count = $3, byte_count = $4, sha256 = $5, problem = $6, finished_at = now(), heartbeat_at = now()
WHERE export_id = $1 AND state IN ('queued', 'running')
RETURNING export_id

-- name: read_export
SELECT * FROM exports WHERE export_id = $1 AND owner = ANY ($2::text[])

-- name: list_known_exports
SELECT export_id FROM exports WHERE export_id = ANY ($1::text[])

-- name: list_exports
SELECT * FROM exports WHERE owner = ANY ($1::text[]) ORDER BY created_at DESC, export_id DESC LIMIT $2

-- name: list_export_parts
SELECT * FROM export_parts WHERE export_id = $1 ORDER BY number

-- name: last_export_part
-- The last place at or before so many bytes from which the export may go on.
SELECT * FROM export_parts
WHERE export_id = $1 AND byte_count <= $2
ORDER BY number DESC
LIMIT 1

-- name: lock_exports_of
-- Two requests of one owner may not both find room for one more.
SELECT pg_advisory_xact_lock(hashtextextended('exports of ' || $1, 0))

-- name: count_open_exports
SELECT count(*) FROM exports WHERE owner = $1 AND kind = 'job' AND state IN ('queued', 'running')

-- name: take_export_job
-- One job, not one of $2, that waits or whose process is gone; whoever takes it first has it. Of projects that are at work least, then
-- of those whose last part was written longest ago.
UPDATE exports SET state = 'running', heartbeat_at = now()
WHERE export_id = (
    SELECT export_id FROM exports AS waiting
    WHERE kind = 'job' AND (state = 'queued' OR (state = 'running' AND heartbeat_at < now() - $1::interval))
      AND export_id <> ALL ($2::text[])
    ORDER BY
        (SELECT count(*) FROM exports AS other
         WHERE other.kind = 'job' AND other.state = 'running' AND other.heartbeat_at >= now() - $1::interval
           AND other.projects && waiting.projects),
        (SELECT max(other.heartbeat_at) FROM exports AS other
         WHERE other.kind = 'job' AND (other.state <> 'queued' OR other.row_count > 0)
           AND other.projects && waiting.projects) NULLS FIRST,
        created_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING *

-- name: others_wait_for_export
-- Whether a job of other projects waits while this one is at work.
SELECT EXISTS (SELECT 1 FROM exports AS other
               WHERE other.kind = 'job' AND other.state = 'queued' AND NOT other.projects && own.projects)
FROM exports AS own WHERE export_id = $1

-- name: put_export_back
UPDATE exports SET state = 'queued', heartbeat_at = now() WHERE export_id = $1 AND state = 'running'

-- name: fail_lost_streams
UPDATE exports SET state = 'failed', problem = 'interrupted', finished_at = now()
WHERE kind = 'stream' AND state = 'running' AND heartbeat_at < now() - $1::interval

-- name: cancel_exports_of_deleted_projects
UPDATE exports SET state = 'cancelled', finished_at = now()
WHERE state IN ('queued', 'running')
  AND EXISTS (SELECT 1 FROM projects WHERE project_id = ANY (exports.projects) AND deleted_at IS NOT NULL)

-- name: list_expired_exports
-- Those whose time is over, and those of a project that was deleted.
SELECT export_id, kind FROM exports
WHERE state NOT IN ('queued', 'running')
  AND (expires_at < now()
       OR EXISTS (SELECT 1 FROM projects WHERE project_id = ANY (exports.projects) AND deleted_at IS NOT NULL))
LIMIT 100

-- name: delete_export
-- Its owner can read for a while that it has expired, unless it goes with a project.
WITH gone AS (
    DELETE FROM exports WHERE export_id = $1
    RETURNING export_id, owner, projects, may_read_content, expires_at
)
INSERT INTO expired_exports (export_id, owner, projects, may_read_content, expired_at)
SELECT export_id, owner, projects, may_read_content, expires_at FROM gone
WHERE expires_at < now()
  AND NOT EXISTS (SELECT 1 FROM projects WHERE project_id = ANY (gone.projects) AND deleted_at IS NOT NULL)

-- name: read_expired_export
SELECT projects, may_read_content, expired_at FROM expired_exports WHERE export_id = $1 AND owner = ANY ($2::text[])

-- name: forget_expired_exports
DELETE FROM expired_exports
WHERE expired_at < now() - $1::interval
   OR EXISTS (SELECT 1 FROM projects WHERE project_id = ANY (expired_exports.projects) AND deleted_at IS NOT NULL)

-- name: beat_export
UPDATE exports SET heartbeat_at = now() WHERE export_id = $1 AND state = 'running' RETURNING export_id

-- name: cancel_export
UPDATE exports SET state = 'cancelled', finished_at = now()
WHERE export_id = $1 AND owner = $2 AND state IN ('queued', 'running')
RETURNING export_id
