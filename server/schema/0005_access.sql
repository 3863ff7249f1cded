-- Who may come in: API keys, OAuth clients, revoked tokens, and the record of who did what.
--
-- None of these tables holds telemetry, so row-level security does not stand round them: a key may
-- span projects and is looked up before anybody knows whose it is. Instead the API role gets exactly
-- the columns it changes, and may neither delete nor rewrite the audit log.

-- Counts changes of anything that decides who may come in. Each server process reads it every two
-- seconds and, when it moved, forgets what it had verified: so a revocation reaches all processes
-- without any message bus. A table rather than a sequence, because the number must become visible
-- together with the change that moved it.
CREATE TABLE access_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version   bigint NOT NULL DEFAULT 1
);
INSERT INTO access_version DEFAULT VALUES;
GRANT SELECT ON access_version TO observatory_api, observatory_worker;

CREATE FUNCTION bump_access_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE access_version SET version = version + 1;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION bump_access_version() FROM PUBLIC;

CREATE TABLE api_keys (
    key_id                text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{12}$'),
    -- SHA-256 of the secret part. A random secret of 160 bits needs no slow hash.
    secret_hash           bytea NOT NULL CHECK (length(secret_hash) = 32),
    label                 text NOT NULL CHECK (length(label) BETWEEN 1 AND 200),
    kind                  text NOT NULL CHECK (kind IN ('ingest', 'dashboard', 'service')),
    role                  text NOT NULL CHECK (role IN ('admin', 'developer', 'viewer', 'billing')),
    scopes                text[] NOT NULL,
    projects              text[] NOT NULL CHECK (cardinality(projects) BETWEEN 1 AND 200),
    owner                 text NOT NULL,
    rate_limit_per_minute integer CHECK (rate_limit_per_minute BETWEEN 1 AND 10000000),
    created_at            timestamptz NOT NULL DEFAULT now(),
    created_by            text NOT NULL,
    expires_at            timestamptz NOT NULL,
    last_used_at          timestamptz,
    revoked_at            timestamptz,
    revoked_by            text
);
CREATE INDEX api_keys_projects ON api_keys USING gin (projects);
GRANT SELECT, INSERT, UPDATE (last_used_at, revoked_at, revoked_by) ON api_keys TO observatory_api;
CREATE TRIGGER api_keys_version AFTER UPDATE OF revoked_at ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();

CREATE TABLE oauth_clients (
    client_id                  text PRIMARY KEY CHECK (client_id ~ '^[A-Za-z0-9._-]{1,64}$'),
    client_name                text NOT NULL CHECK (length(client_name) BETWEEN 1 AND 200),
    -- client_secret_basic also covers client_secret_post: a Go client tries one, then the other.
    token_endpoint_auth_method text NOT NULL
        CHECK (token_endpoint_auth_method IN ('client_secret_basic', 'private_key_jwt')),
    secret_hash                bytea CHECK (length(secret_hash) = 32),
    jwks                       jsonb,
    role                       text NOT NULL CHECK (role IN ('admin', 'developer', 'viewer', 'billing')),
    scopes                     text[] NOT NULL,
    projects                   text[] NOT NULL CHECK (cardinality(projects) BETWEEN 1 AND 200),
    created_at                 timestamptz NOT NULL DEFAULT now(),
    created_by                 text NOT NULL,
    last_used_at               timestamptz,
    disabled_at                timestamptz,
    disabled_by                text,
    CHECK (CASE token_endpoint_auth_method WHEN 'private_key_jwt' THEN jwks IS NOT NULL ELSE secret_hash IS NOT NULL END)
);
CREATE INDEX oauth_clients_projects ON oauth_clients USING gin (projects);
GRANT SELECT, INSERT, UPDATE (last_used_at, disabled_at, disabled_by) ON oauth_clients TO observatory_api;
CREATE TRIGGER oauth_clients_version AFTER UPDATE OF disabled_at ON oauth_clients
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();

-- Access tokens that must not be honoured although they have not expired (RFC 7009).
CREATE TABLE revoked_tokens (
    issuer     text NOT NULL,
    jti        text NOT NULL CHECK (length(jti) BETWEEN 1 AND 256),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    revoked_by text NOT NULL,
    PRIMARY KEY (issuer, jti)
);
CREATE INDEX revoked_tokens_expiry ON revoked_tokens (expires_at);
GRANT SELECT, INSERT ON revoked_tokens TO observatory_api;
GRANT SELECT, DELETE ON revoked_tokens TO observatory_worker;
CREATE TRIGGER revoked_tokens_version AFTER INSERT ON revoked_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();

-- Client assertions already used (RFC 7523, section 3, point 7): each opens the door once.
CREATE TABLE used_assertions (
    client_id  text NOT NULL,
    jti        text NOT NULL CHECK (length(jti) BETWEEN 1 AND 256),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti)
);
CREATE INDEX used_assertions_expiry ON used_assertions (expires_at);
GRANT SELECT, INSERT ON used_assertions TO observatory_api;
GRANT SELECT, DELETE ON used_assertions TO observatory_worker;

CREATE TRIGGER projects_version AFTER INSERT OR UPDATE OF deleted_at ON projects
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();

-- Who did what, and who was refused. Many equal refusals within a few seconds are one row with a
-- count, so that a flood of bad credentials cannot fill the disk.
CREATE TABLE audit_log (
    audit_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ts             timestamptz NOT NULL DEFAULT now(),
    action         text NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    outcome        text NOT NULL CHECK (outcome IN ('done', 'refused')),
    reason         text,
    actor          text,
    actor_kind     text,
    credential_id  text,
    viewer         text,
    target_type    text,
    target_id      text,
    project_id     text,
    client_address text,
    request_id     text,
    occurrences    integer NOT NULL DEFAULT 1 CHECK (occurrences >= 1),
    detail         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_time ON audit_log (ts DESC, audit_id DESC);
CREATE INDEX audit_log_project ON audit_log (project_id, ts DESC, audit_id DESC);
GRANT SELECT, INSERT ON audit_log TO observatory_api;
GRANT SELECT, INSERT, DELETE ON audit_log TO observatory_worker;

-- A deleted project is hidden at once; what it held goes a day later, in case the deletion was a mistake.
ALTER TABLE projects ADD COLUMN purged_at timestamptz;

-- Removes all rows of a deleted project from every table with the wall round it; gives how many. Called as
-- observatory_worker, whose policies let it see every project.
CREATE FUNCTION purge_project(project text) RETURNS bigint
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    walled regclass;
    gone   bigint;
    total  bigint := 0;
BEGIN
    UPDATE projects SET purged_at = now() WHERE project_id = project AND deleted_at IS NOT NULL AND purged_at IS NULL;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOR walled IN SELECT polrelid::regclass FROM pg_policy WHERE polname = 'project_isolation' LOOP
        EXECUTE format('DELETE FROM %s WHERE project_id = $1', walled) USING project;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END $$;
REVOKE ALL ON FUNCTION purge_project(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION purge_project(text) TO observatory_worker;
