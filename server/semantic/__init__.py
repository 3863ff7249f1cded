"""Search by meaning: questions answered by vectors, and the background work that makes vectors of stored spans."""
