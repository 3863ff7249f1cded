"""Prices of model calls: the catalogue, overrides of a project, and computed amounts."""
