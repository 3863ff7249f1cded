"""Search by meaning: questions answered by vectors, and the vectors that background work makes of stored spans."""
