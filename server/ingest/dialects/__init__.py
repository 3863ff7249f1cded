"""Attribute tables of LLM telemetry dialects (JSON beside this file), compiled for lookup."""
