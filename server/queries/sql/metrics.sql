-- Fixed statements of the metric engine; the others are composed in metric_sql.py and metric_rollup_sql.py.

-- name: read_rollup_state
-- From when on there are raw rows and 5-minute rollups.
SELECT raw_since, rollup_5m_since FROM rollup_state;
