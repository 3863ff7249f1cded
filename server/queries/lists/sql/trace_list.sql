-- Lists of spans and traces. {…} are fragments made by server/queries/lists/list_reader.py from the table of
-- fields, server/queries/filters/filter_sql.py and server/queries/lists/keyset.py, and placeholders of bound values.

-- name: list_rows
-- One branch a project: an equality keeps the order of the indexes, "= ANY" loses it.
SELECT {columns}
FROM {table} t
WHERE {project} AND {predicate}
ORDER BY {order}
LIMIT {limit}

-- name: merge_branches
SELECT * FROM ({branches}) AS merged
ORDER BY {order}
LIMIT {limit}

-- name: fetch_page
-- Columns are read and computed only for the rows of the page, not for all rows that were sorted.
WITH page AS MATERIALIZED ({page})
SELECT {columns}
FROM page JOIN {table} t ON {same_row}
ORDER BY {order}

-- name: clip_page
-- Long texts are cut in the rows of the page only: the database unpacks no more than the part that is shown.
SELECT {columns}
FROM ({page}) AS page
ORDER BY {order}

-- name: search_rank
CASE WHEN t.parts IS NULL THEN ts_rank_cd(t.search_vector, to_tsquery('simple', {query}))::double precision
     ELSE shared_rank(t.project_id, t.ts, t.parts, to_tsquery('simple', {any_word}), {pattern}) END

-- name: count_rows
SELECT count(*) FROM ({branches}) AS counted

-- name: count_branch
SELECT 1 FROM {table} t WHERE {project} AND {predicate}{limit}

-- name: count_sampled
-- $1: rows of the sample, see sample_branch.
SELECT coalesce(sum(CASE WHEN read = $1 AND matched > 0 THEN round(whole::numeric * matched / read) ELSE matched END), 0)
FROM ({branches}) AS sampled

-- name: sample_branch
-- The newest rows of a project in the window, those that match, and, if there are more, all of the window.
SELECT count(*) AS read, count(*) FILTER (WHERE {predicate}) AS matched,
       CASE WHEN count(*) = $1::bigint THEN (SELECT count(*) FROM {table} t WHERE {project} AND {window}) END AS whole
FROM (SELECT t.* FROM {table} t WHERE {project} AND {window} ORDER BY {time} DESC LIMIT $1::bigint) AS t

-- name: explain_analyze
EXPLAIN (ANALYZE, BUFFERS, SETTINGS, FORMAT JSON) {statement}

-- name: list_children
-- The spans called by those of a page, oldest first, at most {most} a parent.
-- $1 project, $2 trace ids, $3 span ids of the parents, $4 and $5 the window to look in.
SELECT trace_id, parent_span_id, span_id, span_name, operation_type, model, status_code, ts, duration_ms,
       total_tokens, total_cost_usd
FROM (SELECT t.*, row_number() OVER (PARTITION BY t.trace_id, t.parent_span_id ORDER BY t.ts, t.span_id) AS place
      FROM llm_traces t
      WHERE t.project_id = $1 AND t.trace_id = ANY ($2::text[]) AND t.parent_span_id = ANY ($3::text[])
        AND t.ts >= $4 AND t.ts < $5) AS child
WHERE place <= {most}
ORDER BY ts, span_id

-- name: list_spans_of_traces
-- The spans of the traces of a page, oldest first, at most {most} a trace.
-- $1 project, $2 trace ids, $3 and $4 the window to look in.
SELECT trace_id, parent_span_id, span_id, span_name, operation_type, model, status_code, ts, duration_ms,
       total_tokens, total_cost_usd
FROM (SELECT t.*, row_number() OVER (PARTITION BY t.trace_id ORDER BY t.ts, t.span_id) AS place
      FROM llm_traces t
      WHERE t.project_id = $1 AND t.trace_id = ANY ($2::text[]) AND t.ts >= $3 AND t.ts < $4) AS child
WHERE place <= {most}
ORDER BY ts, span_id

-- name: list_search_texts
-- The texts of the spans of a page, for snippets.
-- $1 project, $2 trace ids, $3 span ids, $4 and $5 the window to look in.
SELECT t.trace_id, t.span_id, t.ts,
       coalesce(t.input_text, shared_text(t.project_id, t.ts, t.parts[1:t.input_parts])) AS input_text,
       coalesce(t.output_text, CASE WHEN t.result_alone THEN shared_result(t.project_id, t.ts, t.parts[t.input_parts + 1])
           ELSE shared_text(t.project_id, t.ts, t.parts[t.input_parts + 1:cardinality(t.parts) - coalesce(t.more_parts, 0)]) END) AS output_text
FROM llm_traces t
WHERE t.project_id = $1 AND t.trace_id = ANY ($2::text[]) AND t.span_id = ANY ($3::text[]) AND t.ts >= $4 AND t.ts < $5

-- name: read_content_parts
-- The parts $3 of the week $2 of project $1. One week, so that only its partition is looked at: choosing it for each part
-- costs more than the look-up.
SELECT c.part_id, c.body, c.text
FROM content_parts c
WHERE c.project_id = $1 AND c.part_id = ANY ($3::uuid[]) AND c.week = $2

-- name: read_resources
-- The attributes of the resources $2 of project $1.
SELECT r.resource_id, r.attributes FROM span_resources r WHERE r.project_id = $1 AND r.resource_id = ANY ($2::uuid[])
