"""Vectors of texts: the embedder that makes them, the form in which they are stored, and what of a span is embedded."""
