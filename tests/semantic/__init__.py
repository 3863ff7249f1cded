"""Search by meaning: vectors of stored spans, and lists that are ranked by them."""
