"""The next ``migrate`` puts back everything that a restore lost: roles, grants, policies, marks."""

from __future__ import annotations

import asyncpg

from server.schema.migrate import migrate
from server.schema.safeguards import LEAKPROOF, ROLES

# The database after pg_restore with --no-acl, or in a cluster without the roles: rows, and nothing that guards them.
AS_AFTER_A_BAD_RESTORE = f"""
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT tablename, policyname FROM pg_policies LOOP
        EXECUTE format('DROP POLICY %I ON %I', item.policyname, item.tablename);
        EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', item.tablename);
    END LOOP;
    FOR item IN SELECT unnest(ARRAY['TABLES', 'SEQUENCES', 'ROUTINES']) AS kind LOOP
        EXECUTE format('REVOKE ALL ON ALL %s IN SCHEMA public FROM {", ".join(ROLES)}', item.kind);
    END LOOP;
    FOR item IN SELECT attrelid::regclass AS table_name, attname FROM pg_attribute WHERE attacl IS NOT NULL LOOP
        EXECUTE format('REVOKE ALL (%I) ON %s FROM {", ".join(ROLES)}', item.attname, item.table_name);
    END LOOP;
    GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO PUBLIC;
    REVOKE USAGE ON SCHEMA public FROM {", ".join(ROLES)};
    {"".join(f"ALTER FUNCTION pg_catalog.{name} NOT LEAKPROOF;" for name in LEAKPROOF)}
END $$
"""
RIGHTS = """
SELECT 'table', oid::regclass::text, privilege_type, grantee::regrole::text
FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'column', attrelid::regclass || '.' || attname, privilege_type, grantee::regrole::text
FROM pg_attribute, aclexplode(attacl) WHERE attrelid::regclass::text NOT LIKE 'pg_%'
UNION ALL
SELECT 'routine', oid::regprocedure::text, privilege_type, grantee::regrole::text
FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'wall', oid::regclass::text, relrowsecurity::text, relforcerowsecurity::text
FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'policy', tablename || '.' || policyname, roles::text, cmd || qual || with_check FROM pg_policies
UNION ALL
SELECT 'mark', proname, proleakproof::text, '' FROM pg_proc WHERE oid = ANY ($1::text[]::regprocedure[])
UNION ALL
SELECT 'schema', nspname, privilege_type, grantee::regrole::text FROM pg_namespace, aclexplode(nspacl)
WHERE nspname = 'public'
"""


async def rights(connection: asyncpg.Connection) -> set[tuple[str, ...]]:
    rows = await connection.fetch(RIGHTS, list(LEAKPROOF))
    return {tuple(row.values()) for row in rows if row[3] != "postgres"}  # the owner's own rights do not matter


async def test_migrate_puts_back_what_a_restore_lost_and_says_so(owner: asyncpg.Connection, owner_url: str) -> None:
    before = await rights(owner)
    said: list[str] = []
    assert await migrate(owner_url, warn=said.append) == []
    assert said == [], "nothing is lost yet"
    await owner.execute(AS_AFTER_A_BAD_RESTORE)
    lost = before - await rights(owner)
    assert {kind for kind, *_ in lost} == {"table", "column", "routine", "wall", "policy", "mark", "schema"}
    assert await migrate(owner_url, warn=said.append) == []
    assert await rights(owner) == before
    assert any("ALTER FUNCTION ts_match_vq(tsvector,tsquery) LEAKPROOF" in line for line in said)
    assert any("CREATE POLICY project_isolation ON public.llm_traces" in line for line in said)
    assert any("REVOKE ALL ON ROUTINE drop_trace_partitions" in line for line in said)
    said.clear()
    await migrate(owner_url, warn=said.append)
    assert said == []


async def test_marks_are_made_good_where_no_record_was_kept(owner: asyncpg.Connection, owner_url: str) -> None:
    await owner.execute(
        "DROP TABLE schema_safeguards; ALTER FUNCTION pg_catalog.numeric_lt(numeric, numeric) NOT LEAKPROOF"
    )
    said: list[str] = []
    await migrate(owner_url, warn=said.append)
    assert [line.partition(": ")[2] for line in said] == ["ALTER FUNCTION numeric_lt(numeric,numeric) LEAKPROOF;"]
