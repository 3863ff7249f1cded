-- Parts of the identity that spans of the trace have, and that calls below others lack, as bits
-- (server/ingest/writing/lent_parts.py): whether a trace that comes in pieces is to be read again.
ALTER TABLE trace_summaries
    ADD COLUMN lends smallint NOT NULL DEFAULT 0,
    ADD COLUMN lacks smallint NOT NULL DEFAULT 0;
