-- What ingestion asks besides writing spans.

-- name: project_ingest_settings
SELECT jsonb_strip_nulls(jsonb_build_object('ingest', settings -> 'ingest', 'redaction', settings -> 'redaction'))::text
FROM projects
WHERE project_id = $1;

-- name: list_price_overrides
-- Oldest first, so that a later price of the same day stands after the earlier.
SELECT provider, model, valid_from, input_usd_per_mtok, output_usd_per_mtok, cache_read_usd_per_mtok,
       cache_write_usd_per_mtok, created_at, created_by
FROM price_overrides
WHERE project_id = $1
ORDER BY provider, model, valid_from;
