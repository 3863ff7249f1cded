-- Login roles of the embedded PostgreSQL; run at every start, by psql, as its superuser. Not a migration:
-- with a PostgreSQL of your own, the administrator makes the login roles (docs/how-to/deploy.md).
--
-- The group roles are those of migration 0001, made here already so that the memberships can be granted.
SET client_min_messages = warning;

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['observatory_api', 'observatory_worker'] LOOP
        IF to_regrole(role_name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', role_name);
        END IF;
    END LOOP;
    FOREACH role_name IN ARRAY ARRAY['observatory_app', 'observatory_background'] LOOP
        IF to_regrole(role_name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', role_name);
        END IF;
    END LOOP;
END $$;

GRANT observatory_api TO observatory_app;
GRANT observatory_worker TO observatory_background;

SELECT 'CREATE DATABASE observatory'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'observatory') \gexec
