-- A second bit for each element of a vector: whether it is large. With the signs it tells nearly as well as the vector itself
-- which rows are near, so that a search reads few vectors (docs/decisions/0185-two-bits-an-element.md).
--
-- Null where a server of an earlier version stored the vector; the process that makes vectors stores it again. The index
-- span_vectors_bits stays for servers of that version, and while this one is being built; the next version can drop it.
ALTER TABLE span_vectors ADD COLUMN sizes bit varying;
ALTER TABLE span_vectors ALTER COLUMN sizes SET STORAGE PLAIN;
CREATE INDEX span_vectors_codes ON span_vectors (project_id, model_id, ts, span_id)
    INCLUDE (added_at, bits, sizes) WHERE bits IS NOT NULL;
