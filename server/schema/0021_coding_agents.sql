-- Daily figures of coding agents, from the counters that they send as metrics (server/ingest/mapping/agent_metrics.py).
CREATE TABLE agent_figures (
    project_id text NOT NULL,
    day        date NOT NULL,
    figure     text NOT NULL,
    kind       text NOT NULL,
    agent      text NOT NULL,
    person     text NOT NULL,
    repository text NOT NULL,
    model      text NOT NULL,
    tool       text NOT NULL,
    value      double precision NOT NULL CHECK (value >= 0 AND value < 'Infinity'),
    PRIMARY KEY (project_id, day, figure, kind, agent, person, repository, model, tool)
);
CALL enable_project_isolation('agent_figures');

-- How far each counter has been added up: a repeated point adds nothing, and of a cumulative counter only what came since.
-- A delta has a row of its own, which is dropped when no exporter repeats it any more.
CREATE TABLE agent_counters (
    project_id text NOT NULL,
    counter_id text NOT NULL,
    start_ns   bigint NOT NULL,
    last_ns    bigint NOT NULL,
    value      double precision NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, counter_id, start_ns)
);
CREATE INDEX agent_counters_seen ON agent_counters (project_id, seen_at);
CALL enable_project_isolation('agent_counters');
