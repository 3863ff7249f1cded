"""Prompts and answers of every dialect in one shape, and the coercion of attribute values."""
