-- API keys, OAuth clients, revocations and the audit log: tables outside of the tenant wall.

-- name: read_access_version
-- Moves with every change of keys, clients, revocations and projects.
SELECT version FROM access_version;

-- name: list_revoked_tokens
-- Tokens that have not expired by themselves yet. $1: when they must still have been alive.
SELECT issuer, jti FROM revoked_tokens WHERE expires_at > $1;

-- name: list_disabled_clients
SELECT client_id, role, projects, created_at, bare_subject_until FROM oauth_clients WHERE disabled_at IS NOT NULL;

-- name: revoke_token
-- $1 issuer, $2 jti, $3 when it expires by itself, $4 who revokes it.
INSERT INTO revoked_tokens (issuer, jti, expires_at, revoked_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (issuer, jti) DO NOTHING;

-- name: find_api_key
SELECT key_id, secret_hash, kind, role, scopes, projects, owner, account, rate_limit_per_minute, expires_at, revoked_at
FROM api_keys WHERE key_id = $1;

-- name: insert_api_key
INSERT INTO api_keys (key_id, secret_hash, label, kind, role, scopes, projects, owner, rate_limit_per_minute,
                      expires_at, created_by, account)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
RETURNING key_id, label, kind, role, scopes, projects, owner, rate_limit_per_minute, created_at, created_by,
          expires_at, last_used_at, revoked_at, revoked_by;

-- name: list_api_keys
-- Keys all of whose projects are in $1 (NULL: all keys), owned by $2 (NULL: anybody), newest first.
SELECT key_id, label, kind, role, scopes, projects, owner, rate_limit_per_minute, created_at, created_by,
       expires_at, last_used_at, revoked_at, revoked_by
FROM api_keys
WHERE ($1::text[] IS NULL OR projects <@ $1) AND ($2::text IS NULL OR owner = $2)
ORDER BY created_at DESC, key_id
LIMIT $3;

-- name: read_api_key
-- One key under the same conditions as the list.
SELECT key_id, label, kind, role, scopes, projects, owner, rate_limit_per_minute, created_at, created_by,
       expires_at, last_used_at, revoked_at, revoked_by
FROM api_keys
WHERE ($1::text[] IS NULL OR projects <@ $1) AND ($2::text IS NULL OR owner = $2) AND key_id = $3;

-- name: revoke_api_key
-- Keeps the first revocation when there are two.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()), revoked_by = coalesce(revoked_by, $2)
WHERE key_id = $1
RETURNING key_id, label, kind, role, scopes, projects, owner, rate_limit_per_minute, created_at, created_by,
          expires_at, last_used_at, revoked_at, revoked_by;

-- name: touch_api_keys
-- Notes the last use of many keys at once. $1 ids, $2 times.
UPDATE api_keys AS k SET last_used_at = greatest(k.last_used_at, used.at)
FROM unnest($1::text[], $2::timestamptz[]) AS used(key_id, at)
WHERE k.key_id = used.key_id;

-- name: find_client
SELECT client_id, client_name, token_endpoint_auth_method, secret_hash, jwks, role, scopes, projects, disabled_at
FROM oauth_clients WHERE client_id = $1;

-- name: insert_client
INSERT INTO oauth_clients (client_id, client_name, token_endpoint_auth_method, secret_hash, jwks, role, scopes,
                           projects, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING client_id, client_name, token_endpoint_auth_method, role, scopes, projects, created_at, created_by,
          last_used_at, disabled_at, disabled_by;

-- name: list_clients
-- Clients all of whose projects are in $1 (NULL: all clients), newest first.
SELECT client_id, client_name, token_endpoint_auth_method, role, scopes, projects, created_at, created_by,
       last_used_at, disabled_at, disabled_by
FROM oauth_clients
WHERE $1::text[] IS NULL OR projects <@ $1
ORDER BY created_at DESC, client_id
LIMIT $2;

-- name: disable_client
-- Nothing when there is no such client within the projects $2 (NULL: all).
UPDATE oauth_clients SET disabled_at = coalesce(disabled_at, now()), disabled_by = coalesce(disabled_by, $3)
WHERE client_id = $1 AND ($2::text[] IS NULL OR projects <@ $2)
RETURNING client_id, client_name, token_endpoint_auth_method, role, scopes, projects, created_at, created_by,
          last_used_at, disabled_at, disabled_by;

-- name: enable_client
-- Nothing when there is no such client within the projects $2 (NULL: all).
UPDATE oauth_clients SET disabled_at = NULL, disabled_by = NULL
WHERE client_id = $1 AND ($2::text[] IS NULL OR projects <@ $2)
RETURNING client_id, client_name, token_endpoint_auth_method, role, scopes, projects, created_at, created_by,
          last_used_at, disabled_at, disabled_by;

-- name: touch_client
UPDATE oauth_clients SET last_used_at = now()
WHERE client_id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- name: claim_assertion
-- The row when this assertion was not used before; nothing when it was.
INSERT INTO used_assertions (client_id, jti, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (client_id, jti) DO NOTHING
RETURNING client_id;

-- name: insert_audit
INSERT INTO audit_log (action, outcome, reason, actor, actor_kind, credential_id, viewer, target_type, target_id,
                       project_id, projects, client_address, request_id, occurrences, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: list_audit
-- One page, newest first. $1 projects (NULL: every row), $2 and $3 time range, $4 action, $5 actor, $6 outcome
-- (each NULL: any), $7 and $8 the row the page before ended with, $9 how many.
SELECT audit_id, ts, action, outcome, reason, actor, actor_kind, credential_id, viewer, target_type, target_id,
       project_id, client_address, request_id, occurrences, detail
FROM audit_log
WHERE ($1::text[] IS NULL OR projects && $1)
  AND ($2::timestamptz IS NULL OR ts >= $2) AND ($3::timestamptz IS NULL OR ts < $3)
  AND ($4::text IS NULL OR action = $4) AND ($5::text IS NULL OR actor = $5) AND ($6::text IS NULL OR outcome = $6)
  AND ($7::timestamptz IS NULL OR (ts, audit_id) < ($7, $8::bigint))
ORDER BY ts DESC, audit_id DESC
LIMIT $9;

-- name: forget_old_access
-- Runs as the worker: drops what no longer decides anything. $1: oldest audit row that is kept.
WITH tokens AS (DELETE FROM revoked_tokens WHERE expires_at < now() - interval '1 day'),
     assertions AS (DELETE FROM used_assertions WHERE expires_at < now() - interval '1 day'),
     requests AS (DELETE FROM idempotency_keys WHERE claimed_at < now() - interval '1 day')
DELETE FROM audit_log WHERE ts < $1;

-- name: list_projects_to_purge
-- Deleted more than a day ago, and their rows still there.
SELECT project_id FROM projects WHERE deleted_at < now() - interval '1 day' AND purged_at IS NULL ORDER BY deleted_at;

-- name: purge_project
SELECT purge_project($1);

-- name: list_projects
-- Live projects, by id. $1: ids (NULL: all).
SELECT project_id, name, created_at FROM projects
WHERE deleted_at IS NULL AND ($1::text[] IS NULL OR project_id = ANY ($1))
ORDER BY project_id;

-- name: insert_project
-- Nothing when the id was ever used: data of a deleted project must not come back under a new one.
INSERT INTO projects (project_id, name) VALUES ($1, $2)
ON CONFLICT (project_id) DO NOTHING
RETURNING project_id, name, created_at;

-- name: delete_project
-- Marks it deleted; from then on nobody sees it. Nothing when there is no such live project.
UPDATE projects SET deleted_at = now() WHERE project_id = $1 AND deleted_at IS NULL
RETURNING project_id, name, created_at;
