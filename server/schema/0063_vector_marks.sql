-- How a process that keeps the bits of vectors in memory notices that an hour's vectors have changed
-- (docs/decisions/0193-bits-are-compared-in-memory.md): every statement that stores vectors adds rows with a random number,
-- so an hour whose rows have the same numbers has the same vectors. Deletions need none: they add rows, too.
ALTER TABLE vector_counts ADD COLUMN mark bigint NOT NULL DEFAULT 0;
