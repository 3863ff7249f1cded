-- Positions in the write-ahead log, in bytes since its beginning.

-- name: cluster_system
SELECT system_identifier FROM pg_control_system()

-- name: primary_position
-- A commit that does not wait for the disk may be answered before it is flushed, but not before it is in the log.
SELECT (CASE WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn()
             ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::bigint

-- name: replica_position
-- A standby that receives nothing may follow the history of a primary that was replaced.
SELECT system_identifier,
       CASE WHEN pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL)
            THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint ELSE 0 END
FROM pg_control_system()
