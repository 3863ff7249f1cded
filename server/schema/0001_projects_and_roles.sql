-- Projects, and the two database roles that every statement of the server runs as.
--
-- observatory_api     reads and writes only rows of the projects named in the transaction-local
--                     setting app.projects; row-level security sees to it.
-- observatory_worker  folds rollups, makes and drops partitions, re-prices: sees every row.
-- Both are NOLOGIN: the login role of DATABASE_URL is a member and takes the role at connect.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'observatory_api') THEN
        CREATE ROLE observatory_api NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'observatory_worker') THEN
        CREATE ROLE observatory_worker NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
EXCEPTION
    -- Roles belong to the cluster: a migration of another database may have just made them.
    WHEN duplicate_object OR unique_violation THEN NULL;
END $$;

DO $$
BEGIN
    EXECUTE format('GRANT observatory_api, observatory_worker TO %I', current_user);
EXCEPTION
    WHEN insufficient_privilege OR unique_violation OR object_in_use THEN NULL;
END $$;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO observatory_api, observatory_worker', current_schema());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO observatory_api, observatory_worker', current_database());
END $$;

CREATE TABLE projects (
    project_id text PRIMARY KEY CHECK (project_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name       text NOT NULL,
    settings   jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
COMMENT ON TABLE projects IS 'Tenants. settings holds per-project options such as redaction rules and ingest quotas.';

GRANT SELECT, INSERT, UPDATE ON projects TO observatory_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON projects TO observatory_worker;

-- The projects that the current transaction may touch; empty when nobody said so, hence no rows.
-- After a transaction the setting is '' rather than NULL, hence nullif.
CREATE FUNCTION visible_projects() RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(string_to_array(nullif(current_setting('app.projects', true), ''), ','), '{}'::text[]);

-- Puts the tenant wall round one table. (SELECT …) makes the list an InitPlan: read once a statement.
CREATE PROCEDURE enable_project_isolation(target regclass)
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY project_isolation ON %s TO observatory_api'
        ' USING (project_id = ANY ((SELECT visible_projects())::text[]))'
        ' WITH CHECK (project_id = ANY ((SELECT visible_projects())::text[]))', target);
    EXECUTE format('CREATE POLICY worker_access ON %s TO observatory_worker USING (true) WITH CHECK (true)', target);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO observatory_api, observatory_worker', target);
END $$;
