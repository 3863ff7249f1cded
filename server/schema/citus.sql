-- Other forms of what Citus refuses, or would do on the coordinator alone. Run by every migrate with
-- DATABASE_DISTRIBUTION=citus (server/schema/distribution.py), before tables are spread; not a migration.

-- The coordinator logs in on the nodes as the role that runs the statement.
ALTER ROLE observatory_api LOGIN;
ALTER ROLE observatory_worker LOGIN;

-- As in the connections of servers (server/storage/database.py), in those of the coordinator to nodes.
ALTER ROLE observatory_api SET constraint_exclusion = off;
ALTER ROLE observatory_worker SET constraint_exclusion = off;

-- Ids are taken by the server (take_dimension_ids): nodes have no sequence of integers.
ALTER TABLE span_dimensions ALTER COLUMN dim_id DROP DEFAULT;

-- The nodes do not know its function, and no content is shared here.
DROP INDEX IF EXISTS content_parts_lexemes;

-- No triggers: the server notes itself what it copied into a partition. The tenant wall is in trace_summaries, to
-- which every copied span is added in the same transaction.
CREATE OR REPLACE PROCEDURE prepare_trace_partition(part regclass) LANGUAGE plpgsql AS $$
BEGIN
    CALL set_trace_partition_upkeep(part);
    EXECUTE format('GRANT INSERT ON %s TO observatory_api', part);
END $$;

-- A policy may not have a subquery. Here the list of projects is read in each plan, not once a statement.
CREATE OR REPLACE PROCEDURE prepare_for_nodes(target regclass) LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT g.tgname, g.tgrelid::regclass AS part FROM pg_trigger AS g JOIN pg_inherits ON inhrelid = g.tgrelid
        WHERE inhparent = target AND NOT g.tgisinternal
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.part);
    END LOOP;
    IF EXISTS (SELECT FROM pg_policy WHERE polrelid = target AND polname = 'project_isolation') THEN
        EXECUTE format(
            'ALTER POLICY project_isolation ON %s USING (project_id = ANY (visible_projects()))'
            ' WITH CHECK (project_id = ANY (visible_projects()))', target);
    END IF;
END $$;
REVOKE ALL ON PROCEDURE prepare_for_nodes(regclass) FROM PUBLIC;

-- The work of 0008 and 0057 on partitions, done on the nodes: the coordinator's own partitions are empty.
CREATE OR REPLACE FUNCTION settle_text_index() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    moved bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('llm_traces text index')) THEN
        RETURN 0;
    END IF;
    SELECT coalesce(sum(result::bigint) FILTER (WHERE success), 0) INTO moved
    FROM run_command_on_workers($node$
        SELECT coalesce(sum(gin_clean_pending_list(i.indexrelid)), 0)
        FROM (SELECT set_config('citus.override_table_visibility', 'off', true)) AS shown,
             pg_index AS i
             JOIN pg_class AS part ON part.oid = i.indrelid AND part.relname ~ '^llm_traces_[0-9]{8}_[0-9]+$'
             JOIN pg_class AS own ON own.oid = i.indexrelid
             JOIN pg_am AS kind ON kind.oid = own.relam AND kind.amname = 'gin'
    $node$);
    RETURN moved;
END $$;

CREATE OR REPLACE FUNCTION analyze_young_partitions() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('llm_traces statistics')) THEN
        RETURN 0;
    END IF;
    RETURN (
        SELECT count(*) FILTER (WHERE success)
        FROM run_command_on_workers($node$
            DO $do$
            DECLARE
                part regclass;
            BEGIN
                PERFORM set_config('citus.override_table_visibility', 'off', true);
                FOR part IN
                    SELECT oid::regclass FROM pg_class
                    WHERE relkind = 'r' AND relname ~ '^llm_traces_[0-9]{8}_[0-9]+$'
                      AND pg_stat_get_live_tuples(oid) BETWEEN 500 AND 100000
                      AND pg_stat_get_live_tuples(oid) > 4 * greatest(reltuples, 0)
                LOOP
                    EXECUTE format('ANALYZE %s (project_id, trace_id, span_id, parent_span_id, ts)', part);
                END LOOP;
            END $do$
        $node$));
END $$;

-- As in 0080, by asking each node of these projects.
CREATE OR REPLACE FUNCTION projects_of_absent_nodes(projects text[]) RETURNS SETOF text
    LANGUAGE sql VOLATILE SET search_path FROM CURRENT AS $$
    WITH homes AS MATERIALIZED (
        SELECT asked.project_id, n.nodename, n.nodeport
        FROM unnest(projects) AS asked (project_id)
        JOIN pg_dist_placement AS p
            ON p.shardid = get_shard_id_for_distribution_column('trace_summaries', asked.project_id)
        JOIN pg_dist_node AS n ON n.groupid = p.groupid AND n.noderole = 'primary'
    ),
    nodes AS MATERIALIZED (
        SELECT nodename, nodeport, citus_check_connection_to_node(nodename, nodeport) AS answers
        FROM (SELECT DISTINCT nodename, nodeport FROM homes) AS each
    )
    SELECT project_id FROM homes JOIN nodes USING (nodename, nodeport) WHERE NOT answers ORDER BY project_id
$$;
