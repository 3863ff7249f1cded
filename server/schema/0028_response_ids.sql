-- The traces in which the vendor's id of an answer was reported, so that two reports of one call are found when they are
-- in two traces and come in two requests (server/ingest/writing/linked_traces.py). The note is also the lock: of two
-- writers the second waits here, and then reads what the first has committed. Notes are kept for a day.
--
-- Not logged: what a crash takes away are notes for reports that are still to come, and it halves the cost of a note.
CREATE UNLOGGED TABLE response_notes (
    project_id text NOT NULL,
    response   bigint NOT NULL,
    traces     text[] NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, response)
);
CALL enable_project_isolation('response_notes');

-- Whether calls of the trace are counted together with those of another one.
ALTER TABLE trace_summaries ADD COLUMN is_linked boolean NOT NULL DEFAULT false;
