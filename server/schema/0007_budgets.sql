-- Budgets: how much a project, or one of its users, models or providers, may spend in a calendar period.
-- What was spent is never stored: it is asked of the metric engine, so it cannot drift from the spans.
CREATE TABLE budgets (
    project_id    text NOT NULL,
    budget_id     text NOT NULL CHECK (budget_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    amount_usd    numeric NOT NULL CHECK (amount_usd > 0 AND amount_usd < 1000000000),
    period        text NOT NULL CHECK (period IN ('day', 'week', 'month', 'quarter', 'year')),
    time_zone     text NOT NULL DEFAULT 'UTC',
    dimension     text CHECK (dimension IN ('user', 'model', 'provider', 'service', 'environment')),
    value         text CHECK (length(value) BETWEEN 1 AND 500),
    warning_pct   numeric NOT NULL DEFAULT 80 CHECK (warning_pct > 0 AND warning_pct <= 1000),
    critical_pct  numeric NOT NULL DEFAULT 100 CHECK (critical_pct >= warning_pct AND critical_pct <= 1000),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL,
    CHECK ((dimension IS NULL) = (value IS NULL)),
    PRIMARY KEY (project_id, budget_id)
);
CALL enable_project_isolation('budgets');
