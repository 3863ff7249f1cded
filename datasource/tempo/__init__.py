"""Tempo's HTTP API and TraceQL."""
