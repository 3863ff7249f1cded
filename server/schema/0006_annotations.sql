-- What dashboards draw as vertical lines: remarks added by people, and the moments at which a
-- service version, a model or a prompt version was seen for the first time.

CREATE TABLE annotations (
    project_id    text NOT NULL,
    annotation_id text NOT NULL,
    ts            timestamptz NOT NULL CHECK (ts >= '2000-01-01Z' AND ts < '2100-01-01Z'),
    end_ts        timestamptz CHECK (end_ts >= ts AND end_ts < '2100-01-01Z'),
    title         text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    text          text NOT NULL DEFAULT '' CHECK (length(text) <= 10000),
    tags          text[] NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL,
    PRIMARY KEY (project_id, annotation_id)
);
CREATE INDEX annotations_time ON annotations (project_id, ts DESC);
CALL enable_project_isolation('annotations');

-- Kept by the span writer, which remembers what it has stored: a version that is already known costs
-- no statement. owner_name is the service of a service version, the provider of a model, the prompt
-- of a prompt version.
CREATE TABLE first_sightings (
    project_id text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('service_version', 'model', 'prompt_version')),
    owner_name text NOT NULL,
    value      text NOT NULL,
    first_ts   timestamptz NOT NULL,
    PRIMARY KEY (project_id, kind, owner_name, value)
);
CREATE INDEX first_sightings_time ON first_sightings (project_id, first_ts DESC);
CALL enable_project_isolation('first_sightings');
