"""Functions that answer the targets of the catalogue, by family."""
