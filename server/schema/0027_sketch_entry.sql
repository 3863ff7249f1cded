-- The one place in SQL that knows the base of the histograms: ln(1.01 / 0.99). server/rollups/sketch.py knows it for
-- Python, and a test holds the two against each other.
--
-- An entry of a sketch is one int4: the bin of the value in the high half, a signed count in the low. A plain SQL
-- expression, so that the planner puts it in place and a call costs nothing.
CREATE FUNCTION sketch_entry(value double precision, count integer) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN int4send(
    (ceil(ln(least(greatest(value, 0.001), 1e12)) / 0.0200006667066695)::integer << 16) | (count & 65535)
);
