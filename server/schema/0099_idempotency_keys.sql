-- Requests that were sent with an Idempotency-Key, and their answers, for a day. Neither the key nor an answer can be
-- read here: an answer is sealed with the key of its request, which only the caller has.
CREATE TABLE idempotency_keys (
    identity    bytea PRIMARY KEY CHECK (length(identity) = 32),
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    answer      bytea
);
CREATE INDEX idempotency_keys_claimed ON idempotency_keys (claimed_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO observatory_api;
GRANT SELECT, DELETE ON idempotency_keys TO observatory_worker;
