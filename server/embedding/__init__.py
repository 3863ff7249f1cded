"""Vectors of texts: the embedder that makes them, and the form in which they are stored."""
