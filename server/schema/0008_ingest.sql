-- What log records say about spans that are not stored yet: filled in when the span comes, dropped after an hour.
CREATE TABLE span_updates (
    project_id  text NOT NULL,
    trace_id    text NOT NULL,
    span_id     text NOT NULL,
    columns     jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, trace_id, span_id)
);
CALL enable_project_isolation('span_updates');

-- Model calls with tokens and without a price: few, and looked for by GET /api/v1/costs/unpriced.
CREATE INDEX llm_traces_unpriced ON llm_traces (project_id, ts DESC)
    WHERE is_generation AND total_cost_usd IS NULL AND total_tokens > 0;
