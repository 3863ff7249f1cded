"""The metric engine: one question in, one answer out, for every surface."""
