-- name: claim_idempotency_key
-- One row for the request that is the first with its key. $1 identity, $2 fingerprint, $3 for how long answers are kept.
INSERT INTO idempotency_keys AS kept (identity, fingerprint) VALUES ($1, $2)
ON CONFLICT (identity) DO UPDATE SET fingerprint = excluded.fingerprint, claimed_at = excluded.claimed_at, answer = NULL
WHERE kept.claimed_at < now() - $3::interval
RETURNING true;

-- name: read_idempotency_key
-- $1 identity.
SELECT fingerprint, answer, now() - claimed_at AS age FROM idempotency_keys WHERE identity = $1;

-- name: keep_idempotent_answer
-- $1 identity, $2 the sealed answer.
UPDATE idempotency_keys SET answer = $2 WHERE identity = $1;

-- name: release_idempotency_key
-- $1 identity.
DELETE FROM idempotency_keys WHERE identity = $1 AND answer IS NULL;

