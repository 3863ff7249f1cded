-- name: add_annotation
INSERT INTO annotations (project_id, annotation_id, ts, end_ts, title, text, tags, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING project_id, annotation_id, ts, end_ts, title, text, tags, created_at, created_by;

-- name: delete_annotation
DELETE FROM annotations WHERE project_id = $1 AND annotation_id = $2
RETURNING project_id, annotation_id, ts, end_ts, title, text, tags, created_at, created_by;

-- name: list_annotations
-- Those that overlap the range [$2, $3), newest first; $4: any of these tags, none for all.
SELECT project_id, annotation_id, ts, end_ts, title, text, tags, created_at, created_by
FROM annotations
WHERE project_id = ANY ($1::text[])
  AND ts < $3 AND coalesce(end_ts, ts) >= $2
  AND (cardinality($4::text[]) = 0 OR tags && $4::text[])
ORDER BY ts DESC, annotation_id
LIMIT $5;

-- name: record_sightings
-- Parallel lists: kind, owner, value, earliest time. A known value is only moved back in time; the
-- NOT EXISTS keeps concurrent writers from locking rows that need no change.
INSERT INTO first_sightings (project_id, kind, owner_name, value, first_ts)
SELECT $1, seen.kind, seen.owner_name, seen.value, seen.first_ts
FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[]) AS seen (kind, owner_name, value, first_ts)
WHERE NOT EXISTS (
    SELECT FROM first_sightings AS known
    WHERE known.project_id = $1 AND known.kind = seen.kind AND known.owner_name = seen.owner_name
      AND known.value = seen.value AND known.first_ts <= seen.first_ts)
ORDER BY 1, 2, 3, 4
ON CONFLICT (project_id, kind, owner_name, value) DO UPDATE SET first_ts = excluded.first_ts
WHERE first_sightings.first_ts > excluded.first_ts
RETURNING 1;

-- name: list_sightings
-- First sightings of the kinds $4 within [$2, $3), newest first.
SELECT project_id, kind, owner_name, value, first_ts
FROM first_sightings
WHERE project_id = ANY ($1::text[]) AND first_ts >= $2 AND first_ts < $3 AND kind = ANY ($4::text[])
ORDER BY first_ts DESC, kind, owner_name, value
LIMIT $5;

-- name: list_first_seen
-- Values (or, with $3, owners) of the sightings of kind $2 in the projects $1, earliest first, at most $4.
SELECT seen
FROM (
    SELECT CASE WHEN $3::boolean THEN owner_name ELSE value END AS seen, min(first_ts) AS first_ts
    FROM first_sightings
    WHERE project_id = ANY ($1::text[]) AND kind = $2
    GROUP BY 1
) AS sightings
WHERE seen <> ''
ORDER BY first_ts, seen
LIMIT $4;

-- name: first_data_at
-- The earliest first sighting of the projects $1.
SELECT min(first_ts) FROM first_sightings WHERE project_id = ANY ($1::text[]);

-- name: list_price_changes
-- Operator prices that came into force within [$2, $3), each with the price it replaced, newest first.
SELECT project_id, provider, model, valid_from, input_usd_per_mtok, output_usd_per_mtok,
       former_input_usd_per_mtok, former_output_usd_per_mtok
FROM (
    SELECT project_id, provider, model, valid_from, input_usd_per_mtok, output_usd_per_mtok,
           lag(input_usd_per_mtok) OVER replaced AS former_input_usd_per_mtok,
           lag(output_usd_per_mtok) OVER replaced AS former_output_usd_per_mtok
    FROM price_overrides
    WHERE project_id = ANY ($1::text[])
    WINDOW replaced AS (PARTITION BY project_id, provider, model ORDER BY valid_from)
) AS prices
WHERE valid_from >= $2 AND valid_from < $3
ORDER BY valid_from DESC, provider, model
LIMIT $4;
