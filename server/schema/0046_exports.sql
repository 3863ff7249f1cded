-- Exports: streams that are being sent, and jobs that write files. Like api_keys these tables hold no telemetry
-- and may span projects, so the wall of row-level security does not enclose them; each row says whose it is.

CREATE TABLE exports (
    export_id        text PRIMARY KEY CHECK (export_id ~ '^exp_[a-z2-7]{20}$'),
    kind             text NOT NULL CHECK (kind IN ('stream', 'job')),
    state            text NOT NULL CHECK (state IN ('queued', 'running', 'complete', 'failed', 'cancelled')),
    -- Who may see it: a hash of the caller's identity.
    owner            text NOT NULL,
    created_by       text NOT NULL,
    projects         text[] NOT NULL,
    may_read_content boolean NOT NULL,
    format           text NOT NULL,
    compression      text NOT NULL,
    options          jsonb NOT NULL,
    -- The list question with every relative time resolved, and the moment of the database's clock that it is cut at.
    question         jsonb NOT NULL,
    cut_at           timestamptz NOT NULL,
    rows_before      bigint NOT NULL DEFAULT 0,
    row_count        bigint NOT NULL DEFAULT 0,
    byte_count       bigint NOT NULL DEFAULT 0,
    sha256           text,
    hidden_fields    text[] NOT NULL DEFAULT '{}',
    problem          text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    -- A running export whose process has not been heard of for a while belongs to nobody: a job is taken up again,
    -- a stream has failed.
    heartbeat_at     timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL
);
CREATE INDEX exports_owner ON exports (owner, created_at DESC);
CREATE INDEX exports_waiting ON exports (created_at) WHERE state IN ('queued', 'running');
CREATE INDEX exports_expiry ON exports (expires_at);
GRANT SELECT, INSERT,
    UPDATE (state, row_count, byte_count, sha256, hidden_fields, problem, finished_at, heartbeat_at)
    ON exports TO observatory_api;
GRANT SELECT, UPDATE, DELETE ON exports TO observatory_worker;

-- Where an export may go on: after so many rows and bytes of it. For a job each part is a file of its own.
CREATE TABLE export_parts (
    export_id  text NOT NULL REFERENCES exports ON DELETE CASCADE,
    number     integer NOT NULL CHECK (number >= 1),
    row_count  bigint NOT NULL,
    byte_count bigint NOT NULL,
    -- Sort keys of its last row; null after the last row of all.
    position   jsonb,
    file_name  text,
    sha256     text,
    PRIMARY KEY (export_id, number)
);
GRANT SELECT, INSERT ON export_parts TO observatory_api;
GRANT SELECT, INSERT, DELETE ON export_parts TO observatory_worker;
