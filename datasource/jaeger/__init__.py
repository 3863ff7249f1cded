"""Jaeger's query API."""
