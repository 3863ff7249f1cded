-- Exports whose time is over, for another 30 days: whose they were, so that their owner reads "expired" and not "never
-- made". What was asked and what came out is gone.
CREATE TABLE expired_exports (
    export_id        text PRIMARY KEY,
    owner            text NOT NULL,
    projects         text[] NOT NULL,
    may_read_content boolean NOT NULL,
    expired_at       timestamptz NOT NULL
);
CREATE INDEX expired_exports_expiry ON expired_exports (expired_at);
GRANT SELECT ON expired_exports TO observatory_api;
GRANT SELECT, INSERT, DELETE ON expired_exports TO observatory_worker;
