-- What hold_span_update did within itself: nodes of a cluster refuse a subquery in an INSERT.

-- The columns of a held update, and those that came later: the first columns stay; messages that came in several
-- requests are added up, each once.
CREATE FUNCTION added_up_columns(held jsonb, came jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT came || held || (
        SELECT coalesce(jsonb_object_agg(side, (held -> side) || more), '{}')
        FROM (
            SELECT side, (
                SELECT jsonb_agg(message ORDER BY place)
                FROM jsonb_array_elements(came -> side) WITH ORDINALITY AS given (message, place)
                WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(held -> side) AS known WHERE known = message)
            ) AS more
            FROM unnest('{input_messages,output_messages}'::text[]) AS side
            WHERE jsonb_typeof(held -> side) = 'array' AND jsonb_typeof(came -> side) = 'array'
        ) AS added
        WHERE more IS NOT NULL
    )
$$;
REVOKE ALL ON FUNCTION added_up_columns(jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION added_up_columns(jsonb, jsonb) TO observatory_api, observatory_worker;
