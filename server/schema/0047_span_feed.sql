-- Which spans each transaction of ingest stored, for the live tail (server/queries/lists/change_reader.py).
--
-- Readers go by transactions, not by time or number: a transaction that began earlier may commit later, and is
-- then found because its id was not visible in the snapshot that the reader took last.
CREATE TABLE span_feed (
    project_id text NOT NULL,
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    noted_at   timestamptz NOT NULL DEFAULT now(),
    -- One element a span, in the order of their times.
    trace_ids  text[] STORAGE EXTERNAL NOT NULL,
    span_ids   text[] STORAGE EXTERNAL NOT NULL,
    starts     timestamptz[] STORAGE EXTERNAL NOT NULL,
    -- Whether it took the place of an earlier report of the same span.
    updates    boolean[] STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (project_id, seq)
);
CREATE INDEX span_feed_xid ON span_feed (xid);
CALL enable_project_isolation('span_feed');
