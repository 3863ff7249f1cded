"""Traces for trace viewers: search, and spans as OpenTelemetry attributes."""
